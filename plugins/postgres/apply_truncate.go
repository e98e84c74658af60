package postgres

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk/apply"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// truncate empties tables, or the ranges of them that were read before the truncate.
func (a *applier) truncate(ctx context.Context, r *apply.Round) error {
	var names []string
	cascade, restart := false, false
	for _, tr := range r.Truncates {
		t, ok := a.planner.Table(tr.Table)
		if !ok {
			return diag.Internal.New("target", nil, "truncate of table %d, which is not part of the pipeline", tr.Table)
		}
		if a.covers.Outlives(tr.Table, r) {
			return diag.TruncateMeetsReread.New(tableWhere(t), nil, "a row of it was read again after the TRUNCATE, and would be lost")
		}
		if tr.All {
			names = append(names, targetName(t))
			cascade, restart = cascade || tr.Cascade, restart || tr.RestartIdentity
			continue
		}
		for _, part := range tr.Ranges {
			if err := a.emptyRange(ctx, t, part); err != nil {
				return err
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	sql := "TRUNCATE " + strings.Join(names, ", ")
	if restart {
		sql += " RESTART IDENTITY"
	}
	if cascade {
		sql += " CASCADE"
	}
	a.ses.simple(sentSafe, sql)
	return nil
}

// emptyRange deletes the rows of the chunks that tile a key range: key bytes cannot be turned into SQL, but
// every chunk was stored with the range it was read by.
func (a *applier) emptyRange(ctx context.Context, t *rowv1.Table, r *rowv1.KeyRange) error {
	if err := a.ses.sync(); err != nil {
		return err
	}
	a.ses.stop()
	defer a.ses.start(ctx)
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
		if _, err := a.ses.pg.Exec(ctx, "DELETE FROM "+targetName(t)+" WHERE "+where).ReadAll(); err != nil {
			return mapError(err, tableWhere(t))
		}
	}
	return nil
}
