package postgres

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// A table is set aside in a transaction of its own, before any stream drops a change of it: whoever comes next, with or
// without what the coordinator knew, hears of it from the target (Invariant 22).

// setAside stores that tables are not in sync. Nothing is left that would make one look as if it were.
func setAside(ctx context.Context, tx pgx.Tx, req *connectorv1.ResetRequest) error {
	for _, a := range req.Aside {
		if err := forget(ctx, tx, req.Pipeline, a.Table); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO drover.aside (pipeline, tbl, reason) VALUES ($1, $2, $3)
			ON CONFLICT (pipeline, tbl) DO UPDATE SET reason = excluded.reason`, req.Pipeline, int64(a.Table), append([]byte{}, a.Reason...))
		if err != nil {
			return err
		}
	}
	return nil
}

// recallAside reads them; a schema of an older Drover knows none.
func recallAside(ctx context.Context, conn *pgx.Conn, pipeline string) ([]*connectorv1.Aside, error) {
	var there bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass('drover.aside') IS NOT NULL").Scan(&there); err != nil || !there {
		return nil, err
	}
	rows, err := conn.Query(ctx, "SELECT tbl, reason FROM drover.aside WHERE pipeline = $1 ORDER BY tbl", pipeline)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*connectorv1.Aside, error) {
		a, table := &connectorv1.Aside{}, int64(0)
		err := row.Scan(&table, &a.Reason)
		a.Table = uint32(table)
		return a, err
	})
}

// otherUnique reports whether a table has unique or exclusion constraints besides the key that identifies its rows.
func otherUnique(ctx context.Context, tx pgx.Tx, r relation) (found bool, err error) {
	if r.oid == 0 {
		return false, nil
	}
	key := make([]string, 0, len(r.table.Key))
	for _, k := range r.table.Key {
		key = append(key, r.table.Columns[k].Name)
	}
	slices.Sort(key)
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = $1 AND (i.indisunique OR i.indisexclusion)
		AND (i.indpred IS NOT NULL OR ARRAY(SELECT a.attname::text COLLATE "C" FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS k
			LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k AND k > 0 ORDER BY 1) <> $2::text[]))`, r.oid, key).Scan(&found)
	return found, err
}

// targetColumn is what decides whether a table takes the rows that will come.
type targetColumn struct {
	Name, Type string
	Must       bool // it takes no row that has no value for it
}

// fits refuses a table that cannot take the columns that will come, with the SQL that makes it fit.
func fits(ctx context.Context, tx pgx.Tx, r relation, retyped []string) error {
	if r.oid == 0 {
		return goneAtTarget(r.table)
	}
	rows, err := tx.Query(ctx, `SELECT attname::text, format_type(atttypid, atttypmod),
			attnotnull AND NOT atthasdef AND attidentity = '' AND attgenerated = ''
		FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped`, r.oid)
	if err != nil {
		return err
	}
	there, err := pgx.CollectRows(rows, pgx.RowToStructByPos[targetColumn])
	if err != nil {
		return err
	}
	why, fixes := misfits(r.table, there, retyped)
	if len(fixes) == 0 {
		return nil
	}
	return diag.SchemaChanged.New(tableWhere(r.table), nil, "%s", strings.Join(why, "; ")).WithFix(fixes...)
}

// misfits are the columns that keep rows of a table out. A column of another type is one only where the source's has changed:
// a target may well have one, and a value that it does not take is told when it comes.
func misfits(t *rowv1.Table, there []targetColumn, retyped []string) (why, fixes []string) {
	alter := "ALTER TABLE " + targetName(t) + " "
	for _, c := range t.GetColumns() {
		i := slices.IndexFunc(there, func(x targetColumn) bool { return x.Name == c.GetName() })
		if i >= 0 && there[i].Type != c.GetNativeType() && slices.Contains(retyped, c.GetName()) {
			why = append(why, "column "+ident(c.GetName())+" is "+there[i].Type+" at the target, and "+c.GetNativeType()+" at the source")
			fixes = append(fixes, alter+"ALTER COLUMN "+ident(c.GetName())+" TYPE "+c.GetNativeType()+" USING "+ident(c.GetName())+"::"+c.GetNativeType()+";")
		}
		if i < 0 {
			why = append(why, "the target has no column "+ident(c.GetName()))
			sql := alter + "ADD COLUMN " + ident(c.GetName()) + " " + c.GetNativeType()
			fixes = append(fixes, sql+";  -- with its default and constraints as at the source")
		}
	}
	for _, x := range there {
		if x.Must && !slices.ContainsFunc(t.GetColumns(), func(c *rowv1.Column) bool { return c.GetName() == x.Name }) {
			why = append(why, "column "+ident(x.Name)+" is not at the source, and takes no null")
			fixes = append(fixes, alter+"DROP COLUMN "+ident(x.Name)+";  -- or let it take null")
		}
	}
	return why, fixes
}
