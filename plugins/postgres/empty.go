package postgres

import (
	"context"
	"encoding/binary"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// relation is a table as the target has it.
type relation struct {
	table *rowv1.Table
	oid   uint32
	// from names it in statements: with ONLY unless it is partitioned (applyTable.from).
	from string
}

// relationOf looks a table up; oid is 0 when it does not exist.
func relationOf(ctx context.Context, pg *pgconn.PgConn, t *rowv1.Table) (relation, error) {
	res := pg.ExecParams(ctx, "SELECT oid, relkind = 'p' FROM pg_class WHERE oid = to_regclass($1)", [][]byte{[]byte(targetName(t))},
		[]uint32{oidText}, []int16{1}, []int16{1}).Read()
	r := relation{table: t, from: "ONLY " + targetName(t)}
	if res.Err != nil {
		return r, mapError(res.Err, tableWhere(t))
	}
	if len(res.Rows) > 0 {
		r.oid = binary.BigEndian.Uint32(res.Rows[0][0])
		if res.Rows[0][1][0] != 0 {
			r.from = targetName(t)
		}
	}
	return r, nil
}

// goneAtTarget: somebody dropped or renamed the table there.
func goneAtTarget(t *rowv1.Table) error {
	return diag.SchemaChanged.New(tableWhere(t), nil, "the table is not there any more").
		WithFix("At the target, create it again as it is at the source: pg_dump --schema-only -t '" + t.GetSource().GetSchema() + "." + t.GetSource().GetName() + "' prints how.")
}

// emptyTables empties tables and nothing else: never their children, never what refers to them. TRUNCATE is refused
// for a table that a foreign key of another table refers to, and CASCADE would empty that one; rows of such a table
// are deleted instead. Sessions of a sink check no foreign keys, as with every delete that comes from the source; they
// hold again when the table is filled. restart sets the tables' own sequences back to their start.
func emptyTables(ctx context.Context, pg *pgconn.PgConn, rels []relation, restart bool) error {
	if len(rels) == 0 {
		return nil
	}
	referred, err := referredFromOutside(ctx, pg, rels)
	if err != nil {
		return err
	}
	var names []string
	for _, r := range rels {
		if !referred[r.oid] {
			names = append(names, r.from)
			continue
		}
		sql := "DELETE FROM " + r.from
		if restart {
			sql += "; " + restartSQL(r)
		}
		if _, err := pg.Exec(ctx, sql).ReadAll(); err != nil {
			return diag.About(mapError(err, tableWhere(r.table)), r.table.GetIndex())
		}
	}
	if len(names) == 0 {
		return nil
	}
	sql := "TRUNCATE " + strings.Join(names, ", ")
	if restart {
		sql += " RESTART IDENTITY"
	}
	_, err = pg.Exec(ctx, sql).ReadAll()
	if len(rels) > 1 {
		return mapError(err, "target › tables")
	}
	return diag.About(mapError(err, tableWhere(rels[0].table)), rels[0].table.GetIndex())
}

// referredFromOutside finds the tables that cannot be truncated together: a foreign key of a table that is not
// truncated refers to them.
func referredFromOutside(ctx context.Context, pg *pgconn.PgConn, rels []relation) (map[uint32]bool, error) {
	oids := beginArray(nil, oidOID, len(rels))
	inside, referred := map[uint32]bool{}, map[uint32]bool{}
	for _, r := range rels {
		oids = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(oids, 4), r.oid)
		inside[r.oid] = true
	}
	res := pg.ExecParams(ctx, `SELECT confrelid, conrelid FROM pg_constraint
		WHERE contype = 'f' AND confrelid = ANY ($1) AND conrelid <> confrelid`, [][]byte{oids}, []uint32{oidOIDArray}, []int16{1}, []int16{1}).Read()
	if res.Err != nil {
		return nil, mapError(res.Err, "target › foreign keys")
	}
	for grown := true; grown; {
		grown = false
		for _, row := range res.Rows {
			to, from := binary.BigEndian.Uint32(row[0]), binary.BigEndian.Uint32(row[1])
			if !referred[to] && (!inside[from] || referred[from]) {
				referred[to], grown = true, true
			}
		}
	}
	return referred, nil
}

// restartSQL does for a table's own sequences what TRUNCATE … RESTART IDENTITY does.
func restartSQL(r relation) string {
	return `SELECT setval(q.seqrelid::regclass, q.seqstart, false) FROM pg_depend d JOIN pg_sequence q ON q.seqrelid = d.objid
		WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
			AND d.refobjid = to_regclass(` + literal(targetName(r.table)) + ")"
}
