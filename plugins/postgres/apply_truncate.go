package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk/apply"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// truncate empties tables, or the ranges of them that were read before the truncate. Rows that were read again after it
// stay (Invariant 8). The source names every table that it emptied, also those that CASCADE or children added.
func (a *applier) truncate(ctx context.Context, r *apply.Round) error {
	if len(r.Truncates) == 0 {
		return nil
	}
	if err := a.ses.sync(); err != nil {
		return err
	}
	a.ses.stop()
	defer a.ses.start(ctx)
	var whole []relation
	restart := false
	for _, tr := range r.Truncates {
		t, err := a.planner.Table(tr.Table)
		if err != nil {
			return err
		}
		if t == nil {
			return diag.Internal.New("target", nil, "truncate of table %d, which is not part of the pipeline", tr.Table)
		}
		rel, err := relationOf(ctx, a.ses.pg, t)
		if err == nil && rel.oid == 0 {
			err = goneAtTarget(t)
		}
		if err != nil {
			return diag.About(err, t.Index)
		}
		keep := a.covers.Outlive(tr.Table, r)
		switch {
		case tr.All && len(keep) == 0:
			whole, restart = append(whole, rel), restart || tr.RestartIdentity
		case tr.All:
			err = a.deleteBut(ctx, rel, "true", keep)
		default:
			for _, part := range tr.Ranges {
				if err = a.emptyRange(ctx, rel, part, keep); err != nil {
					break
				}
			}
		}
		if err != nil {
			return diag.About(err, t.Index)
		}
	}
	return emptyTables(ctx, a.ses.pg, whole, restart)
}

// emptyRange deletes the rows of the chunks that tile a key range: key bytes cannot be turned into SQL, but
// every chunk was stored with the range it was read by.
func (a *applier) emptyRange(ctx context.Context, rel relation, r *rowv1.KeyRange, keep [][]byte) error {
	t := rel.table
	res := a.ses.pg.ExecParams(ctx, `SELECT read_range FROM drover.chunk WHERE pipeline = $1 AND chunk >> 32 = $2 AND written
		AND coalesce(key_from, '') >= $3 AND ($4 = ''::bytea OR coalesce(key_to, '') <> '' AND key_to <= $4)`,
		[][]byte{[]byte(a.open.Pipeline), int8Param(int64(t.Index)), append([]byte{}, r.GetFrom()...), append([]byte{}, r.GetTo()...)}, []uint32{oidText, oidInt8, oidBytea, oidBytea},
		[]int16{1, 1, 1, 1}, []int16{1}).Read()
	if res.Err != nil {
		return mapError(res.Err, tableWhere(t))
	}
	for _, row := range res.Rows {
		var rr readRange
		if len(row[0]) > 0 {
			if err := json.Unmarshal(row[0], &rr); err != nil {
				return diag.Internal.New(tableWhere(t), err, "a stored range has an unknown form")
			}
		}
		if rr.Pages {
			return diag.Internal.New(tableWhere(t), nil, "a range of pages cannot be emptied at the target")
		}
		where, err := rr.where(t)
		if err != nil {
			return err
		}
		if where == "" {
			where = "true"
		}
		if err := a.deleteBut(ctx, rel, where, keep); err != nil {
			return err
		}
	}
	return nil
}

// deleteBut deletes the rows that meet a condition, but not those of keys that were read again.
func (a *applier) deleteBut(ctx context.Context, rel relation, where string, keep [][]byte) error {
	sql := "DELETE FROM " + rel.from + " WHERE " + where
	if len(keep) == 0 {
		_, err := a.ses.pg.Exec(ctx, sql).ReadAll()
		return mapError(err, tableWhere(rel.table))
	}
	types, err := a.typesOf(ctx, rel)
	if err != nil {
		return err
	}
	same := make([]string, 0, len(rel.table.Key))
	for n, i := range slices.Sorted(slices.Values(rel.table.Key)) { // as applyTable.keyColumns
		name := rel.table.Columns[i].Name
		same = append(same, fmt.Sprintf("%s.%s = (k.vals)[%d]::%s", targetName(rel.table), ident(name), n+1, types[name]))
	}
	sql += ` AND NOT EXISTS (SELECT FROM drover.key_coverage k WHERE k.pipeline = $1 AND k.tbl = $2 AND k.key = ANY ($3) AND ` + strings.Join(same, " AND ") + ")"
	_, err = a.ses.pg.ExecParams(ctx, sql, [][]byte{[]byte(a.open.Pipeline), int8Param(int64(rel.table.Index)), byteaArray(keep)},
		[]uint32{oidText, oidInt8, oidByteaArray}, []int16{1, 1, 1}, nil).Close()
	return mapError(err, tableWhere(rel.table))
}

// typesOf returns the types of a table's columns; no rows of it may have come since the stream began.
func (a *applier) typesOf(ctx context.Context, rel relation) (map[string]string, error) {
	res := a.ses.pg.ExecParams(ctx, `SELECT attname, format_type(atttypid, -1) FROM pg_attribute
		WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped`, [][]byte{oidParam(rel.oid)}, []uint32{oidOID}, []int16{1}, nil).Read()
	types := map[string]string{}
	for _, row := range res.Rows {
		types[string(row[0])] = string(row[1])
	}
	return types, mapError(res.Err, tableWhere(rel.table))
}
