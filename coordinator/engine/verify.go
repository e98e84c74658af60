package engine

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/plural"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// A comparison is asked for in parts, so that it can be seen to go on: of this many tables, fewer
// when they hold this many bytes.
const sumTables, sumBytes = 32, 64 << 20

// verify compares rows and sums of every table: a full load with what was read, a followed one at a position.
func (p *Pipeline) verify(ctx context.Context) error {
	if p.follow() {
		return p.compareStream(ctx)
	}
	if err := p.enter(ctx, controlv1.Phase_PHASE_VERIFY); err != nil {
		return err
	}
	var differ error
	tables := p.sound()
	for len(tables) > 0 && p.spec.Verify != "none" {
		n := sumPart(tables)
		err := p.compareLoad(ctx, tables[:n])
		tables = tables[n:]
		p.publish()
		if d := diag.Find(err); d != nil && d.Code.ID == diag.Differs.ID {
			differ = err
		} else if err != nil {
			return err
		}
	}
	if differ != nil {
		return differ
	}
	return p.enter(ctx, controlv1.Phase_PHASE_DONE)
}

// sumPart is how many of the first tables are compared with one call.
func sumPart(tables []*table) (n int) {
	var bytes int64
	for n < min(len(tables), sumTables) {
		bytes += max(tables[n].Bytes, 0)
		if n++; bytes >= sumBytes {
			break
		}
	}
	return n
}

// compareLoad compares the target with the sums of what was read.
func (p *Pipeline) compareLoad(ctx context.Context, tables []*table) error {
	rows := whole(tables)
	read := map[uint32]*connectorv1.SumResponse_One{}
	for _, t := range tables {
		read[t.Index] = &connectorv1.SumResponse_One{Rows: t.Rows, RowSum: t.Sum}
	}
	r, err := p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Sum{Sum: &connectorv1.SumRequest{Role: connectorv1.Role_ROLE_SINK, Tables: rows}}}), nil)
	if err != nil {
		return err
	}
	return p.judge(ctx, tables, read, sumsOf(r.GetSum()), "", true)
}

// errDiffers: it is worth another look.
var errDiffers = errors.New("engine: a table differs")

// judge keeps what a comparison found. Differences that are not final yet are errDiffers, and nothing is kept.
func (p *Pipeline) judge(ctx context.Context, tables []*table, read, there map[uint32]*connectorv1.SumResponse_One, at string, final bool) error {
	var differ error
	var changes []store.Change
	for _, t := range tables {
		a, b := read[t.Index], there[t.Index]
		t.Compared, t.ComparedAt = "equal", time.Now().UnixMicro()
		if a == nil || b == nil || a.Rows != b.Rows || !sameSum(a.RowSum, b.RowSum) {
			t.Compared = "differs"
			differ = diag.Differs.New("table "+t.name(), nil, "%s read at the source, %d at the target", plural.Of(a.GetRows(), "row"), b.GetRows())
			if final {
				p.note("error", differ.Error())
			}
		}
		changes = append(changes, store.PutTable(p.name, t.Table))
	}
	if differ != nil && !final {
		for _, t := range tables {
			t.Compared, t.ComparedAt = "", 0
		}
		return errDiffers
	}
	if err := p.save(ctx, changes...); err != nil {
		return err
	}
	if at != "" && differ == nil {
		p.note("info", strconv.Itoa(len(tables))+" tables are equal at "+at)
	}
	return differ
}

func sameSum(a, b []byte) bool {
	zero := make([]byte, 16)
	if len(a) == 0 {
		a = zero
	}
	if len(b) == 0 {
		b = zero
	}
	return bytes.Equal(a, b)
}
