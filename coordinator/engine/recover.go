package engine

import (
	"context"

	"github.com/droverdb/drover/coordinator/lease"
	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/fault"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// recover raises the fence and takes over what the target says is written. Slot first, its start durable (rule 1).
func (p *Pipeline) recover(ctx context.Context) error {
	if err := p.mint(ctx, 0); err != nil {
		return err
	}
	if p.follow() && len(p.state.Start) == 0 {
		r, err := p.call(ctx, p.run.reader, p.onSource(&fleetv1.Task{Work: &fleetv1.Task_Prepare{
			Prepare: &connectorv1.PrepareRequest{Pipeline: p.name, Tables: p.catalog.Tables}}}), nil)
		if err != nil {
			return err
		}
		if err := fault.Point("coordinator.before-start"); err != nil {
			return err
		}
		p.state.Start = r.GetPrepare().Position
		if err := p.save(ctx); err != nil {
			return err
		}
		if err := fault.Point("coordinator.after-start"); err != nil {
			return err
		}
	}
	for tries := 0; ; tries++ {
		r, err := p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Recover{Recover: &connectorv1.RecoverRequest{
			Pipeline: p.name, Epoch: p.state.Epoch, InitialPosition: p.state.Start, Create: true}}}), nil)
		if d := diag.Find(err); d != nil && d.Code.Class == diag.Fenced && tries == 0 {
			look, err := p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Recover{Recover: &connectorv1.RecoverRequest{Pipeline: p.name}}}), nil)
			if err != nil {
				return err
			}
			if err := p.mint(ctx, max(look.GetRecover().MaxEpoch, look.GetRecover().Epoch)); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if seen := r.GetRecover().MaxEpoch; seen > p.state.Epoch && tries < 3 {
			if err := p.mint(ctx, seen); err != nil {
				return err
			}
			continue
		}
		return p.reconcile(ctx, r.GetRecover().Written)
	}
}

func (p *Pipeline) mint(ctx context.Context, seen uint64) error {
	p.state.Epoch = lease.Mint(p.state.Epoch, seen)
	return p.save(ctx)
}

// reconcile makes the ledger say what the target says; unit tables that were under way start over.
func (p *Pipeline) reconcile(ctx context.Context, written []*rowv1.ChunkResult) error {
	var changes []store.Change
	for _, r := range written {
		if c := p.chunk(r.Chunk); c != nil && !c.Written {
			c.Written, c.result, c.Result = true, r, store.Wire(r)
			changes = append(changes, store.PutChunk(p.name, r.Chunk, c.Chunk))
		}
	}
	var again []*table
	for _, t := range p.tables {
		t.failure, t.Failure = nil, nil
		if plan.Unit(t.row) && !t.Loaded && t.begun() {
			again = append(again, t)
		}
	}
	if err := p.save(ctx, changes...); err != nil || len(again) == 0 {
		return err
	}
	return p.restart(ctx, again)
}

// restart lets tables load from scratch.
func (p *Pipeline) restart(ctx context.Context, tables []*table) error {
	var rows []*rowv1.Table
	var changes []store.Change
	for _, t := range tables {
		rows = append(rows, t.row)
		for id := range t.chunks {
			changes = append(changes, store.DropChunk(p.name, id))
		}
		t.Table = store.Table{Index: t.Index}
		t.chunks = map[uint64]*chunk{}
		changes = append(changes, store.PutTable(p.name, t.Table))
		p.note("warn", "table "+t.row.Source.Schema+"."+t.row.Source.Name+" is loaded again")
	}
	if err := p.resetAt(ctx, rows, nil); err != nil {
		return err
	}
	return p.save(ctx, changes...)
}

func (p *Pipeline) resetAt(ctx context.Context, tables []*rowv1.Table, memo []byte) error {
	_, err := p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Reset_{Reset_: &connectorv1.ResetRequest{
		Pipeline: p.name, Epoch: p.state.Epoch, Tables: tables, Memo: memo}}}), nil)
	return err
}
