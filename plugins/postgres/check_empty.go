package postgres

import (
	"context"
	"fmt"
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
	fixes, err := emptying(ctx, tx, full, tables)
	if err != nil {
		return err
	}
	for _, t := range full {
		f.Checks-- // the next line counts it again
		f.check(true, diag.NotEmpty, "table "+display(t.Schema, t.Name), "it holds rows", fixes[t.Oid])
	}
	return nil
}

// reachSQL follows foreign keys from each table to all that reference it. A partitioned table is ours if all its leaves are.
const reachSQL = `
	WITH RECURSIVE reach(root, oid) AS (
		SELECT o, o FROM unnest($1::oid[]) o
		UNION
		SELECT r.root, k.conrelid FROM reach r JOIN pg_constraint k ON k.confrelid = r.oid AND k.contype = 'f')
	SELECT r.root, n.nspname, c.relname,
	       CASE c.relkind WHEN 'p' THEN NOT EXISTS (SELECT FROM pg_partition_tree(c.oid) l WHERE l.isleaf AND NOT l.relid = ANY($2::oid[]))
	       ELSE c.oid = ANY($2::oid[]) END,
	       c.relkind = 'r' AND c.relhassubclass
	FROM reach r JOIN pg_class c ON c.oid = r.oid JOIN pg_namespace n ON n.oid = c.relnamespace
	ORDER BY r.root, r.oid <> r.root, n.nspname, c.relname`

// emptying returns the statement that empties each table. It names every table that it touches, all of them the
// pipeline's: CASCADE would take rows of others with it. Where others reference the table, DELETE lets their keys decide.
func emptying(ctx context.Context, tx pgx.Tx, full, all []*sinkTable) (map[uint32]string, error) {
	ids := func(ts []*sinkTable) []uint32 {
		out := make([]uint32, len(ts))
		for i, t := range ts {
			out[i] = t.Oid
		}
		return out
	}
	reached, err := list[struct {
		Root             uint32
		Schema, Name     string
		Ours, Inheritors bool
	}](ctx, tx, reachSQL, ids(full), ids(all))
	if err != nil {
		return nil, err
	}
	names, foreign := map[uint32][]string{}, map[uint32]string{}
	for _, r := range reached {
		name := ident(r.Schema, r.Name)
		if r.Inheritors {
			name = "ONLY " + name
		}
		names[r.Root] = append(names[r.Root], name)
		if !r.Ours {
			foreign[r.Root] = display(r.Schema, r.Name)
		}
	}
	out := map[uint32]string{}
	for _, t := range full {
		if other := foreign[t.Oid]; other != "" {
			out[t.Oid] = "DELETE FROM " + names[t.Oid][0] + ";  -- " + other + ", which is not part of this pipeline, may reference its rows"
			continue
		}
		out[t.Oid] = "TRUNCATE " + strings.Join(names[t.Oid], ", ") + ";"
	}
	return out, nil
}
