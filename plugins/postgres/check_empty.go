package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/internal/diag"
)

// sinkRows asks many tables at once whether they hold a row.
func (f *findings) sinkRows(ctx context.Context, tx pgx.Tx, tables []*sinkTable) error {
	const batch = 500
	var full []*sinkTable
	for i := 0; i < len(tables); i += batch {
		part := tables[i:min(i+batch, len(tables))]
		asks := make([]string, len(part))
		for j, t := range part {
			asks[j] = fmt.Sprintf("SELECT %d::int4, EXISTS (SELECT FROM %s)", j, ident(t.Schema, t.Name))
		}
		rows, err := list[struct {
			At   int32
			Some bool
		}](ctx, tx, strings.Join(asks, " UNION ALL "))
		if err != nil {
			return err
		}
		for _, r := range rows {
			f.Checks++
			if r.Some {
				full = append(full, part[r.At])
			}
		}
	}
	if len(full) == 0 {
		return nil
	}
	plan, err := emptying(ctx, tx, full, tables)
	if err != nil {
		return err
	}
	for _, e := range plan {
		f.Checks-- // the next line counts it again
		f.check(true, diag.NotEmpty, "table "+display(e.Schema, e.Name), "it holds rows"+e.because, e.fix, letEmpty)
	}
	return nil
}

// letEmpty is said of every table that holds rows, and printed once.
const letEmpty = "-- or let the copy empty the tables: drover copy SRC DST --truncate (in a pipeline file load.when_not_empty: truncate)"

// reachSQL follows foreign keys from each table to all that refer to it. A partitioned table is ours if all its leaves are.
const reachSQL = `
	WITH RECURSIVE reach(root, oid) AS (
		SELECT o, o FROM unnest($1::oid[]) o
		UNION
		SELECT r.root, k.conrelid FROM reach r JOIN pg_constraint k ON k.confrelid = r.oid AND k.contype = 'f')
	SELECT r.root, r.oid, n.nspname, c.relname,
	       CASE c.relkind WHEN 'p' THEN NOT EXISTS (SELECT FROM pg_partition_tree(c.oid) l WHERE l.isleaf AND NOT l.relid = ANY($2::oid[]))
	       ELSE c.oid = ANY($2::oid[]) END,
	       c.relkind = 'r' AND c.relhassubclass
	FROM reach r JOIN pg_class c ON c.oid = r.oid JOIN pg_namespace n ON n.oid = c.relnamespace
	ORDER BY r.root, r.oid <> r.root, n.nspname, c.relname`

// reached is a table that refers to another, directly or not, or is that one itself.
type reached struct {
	Root, Oid        uint32
	Schema, Name     string
	Ours, Inheritors bool
}

// from names the table in a statement that must not touch those that inherit from it.
func (r *reached) from() string {
	if r.Inheritors {
		return "ONLY " + ident(r.Schema, r.Name)
	}
	return ident(r.Schema, r.Name)
}

// toEmpty is a table that holds rows, and how to be rid of them.
type toEmpty struct {
	*sinkTable
	because, fix string
}

// emptying tells how to empty tables. Those that only tables of the pipeline refer to are emptied together, by one
// statement that names every table it touches: CASCADE would take rows of others with it. A table that somebody else
// refers to has a statement of its own, which their keys may refuse; one that would change rows of theirs is told and
// not offered. The statements stand in the order in which they work.
func emptying(ctx context.Context, tx pgx.Tx, full, all []*sinkTable) ([]*toEmpty, error) {
	rows, err := list[reached](ctx, tx, reachSQL, oids(full), oids(all))
	if err != nil {
		return nil, err
	}
	reach := map[uint32][]*reached{}
	for _, r := range rows {
		reach[r.Root] = append(reach[r.Root], r)
	}
	var together, apart []*toEmpty
	for _, t := range full {
		e := &toEmpty{sinkTable: t}
		if slices.ContainsFunc(reach[t.Oid], (*reached).alien) {
			apart = append(apart, e)
		} else {
			together = append(together, e)
		}
	}
	truncating(together, reach)
	// Who refers to a table has to be emptied before it, and reaches less.
	slices.SortStableFunc(apart, func(a, b *toEmpty) int { return len(reach[a.Oid]) - len(reach[b.Oid]) })
	for _, e := range apart {
		if err := e.deleting(ctx, tx, reach[e.Oid]); err != nil {
			return nil, err
		}
	}
	return append(together, apart...), nil
}

func (r *reached) alien() bool { return !r.Ours }

func oids(tables []*sinkTable) []uint32 {
	out := make([]uint32, len(tables))
	for i, t := range tables {
		out[i] = t.Oid
	}
	return out
}

// truncating gives the first of the tables the one statement that empties them all.
func truncating(tables []*toEmpty, reach map[uint32][]*reached) {
	var names []string
	named := map[uint32]bool{}
	for _, e := range tables {
		for _, r := range reach[e.Oid] {
			if !named[r.Oid] {
				named[r.Oid], names = true, append(names, r.from())
			}
		}
	}
	for i, e := range tables {
		if i == 0 {
			e.fix = "TRUNCATE " + strings.Join(names, ", ") + ";"
			continue
		}
		e.fix = "-- emptied by the statement for table " + display(tables[0].Schema, tables[0].Name)
	}
}

// alienKey is a foreign key of a table that is not ours.
type alienKey struct {
	Schema, Name, Target, Action string
	Changes                      bool // deleting a row changes theirs
}

const alienKeysSQL = `
	SELECT n.nspname, c.relname, m.nspname || '.' || t.relname,
	       CASE k.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT' ELSE '' END, k.confdeltype IN ('c', 'n', 'd')
	FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
	JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace m ON m.oid = t.relnamespace
	WHERE k.contype = 'f' AND k.conrelid = ANY($1::oid[]) AND k.confrelid = ANY($2::oid[]) ORDER BY NOT k.confdeltype IN ('c', 'n', 'd'), 1, 2, 3`

// deleting tells who else refers to the table, and what deleting its rows would do to theirs.
func (e *toEmpty) deleting(ctx context.Context, tx pgx.Tx, reach []*reached) error {
	var aliens, ours []uint32
	for _, r := range reach {
		if r.Ours {
			ours = append(ours, r.Oid)
		} else {
			aliens = append(aliens, r.Oid)
		}
	}
	keys, err := list[alienKey](ctx, tx, alienKeysSQL, aliens, ours)
	if err != nil {
		return err
	}
	k := keys[0] // the worst one; there is one, else nobody alien would be reached
	other := display(k.Schema, k.Name)
	e.because = ", and " + other + ", which is not part of this pipeline, refers to " + k.Target
	e.fix = "DELETE FROM " + reach[0].from() + ";"
	if k.Changes {
		e.fix = "-- decide about the rows of " + other + " first: ON DELETE " + k.Action + " would change them with " + e.fix
		return nil
	}
	e.fix += "  -- refused while rows of " + other + " refer to it"
	return nil
}
