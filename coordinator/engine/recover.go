package engine

import (
	"context"

	"github.com/droverdb/drover/coordinator/lease"
	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	"github.com/droverdb/drover/internal/fault"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// recover raises the fence and takes over what the target says is written. Slot first, its start durable (rule 1).
func (p *Pipeline) recover(ctx context.Context) error {
	if p.run.claimed == nil {
		if err := p.mint(ctx, 0); err != nil {
			return err
		}
	}
	if err := p.prepareSlot(ctx); err != nil {
		return err
	}
	req := &connectorv1.RecoverRequest{}
	if p.follow() && !p.state.Remembered {
		var err error
		if req.Memo, err = p.memo(); err != nil {
			return err
		}
	}
	r, err := p.run.claimed, error(nil)
	if r == nil || p.follow() { // with changes to come, memo and start are stored behind the same fence
		r, err = p.fence(ctx, req)
	}
	if lostToOther(err) && p.state.Anew {
		return p.beginAnew(ctx, diag.Find(err).Why, "target")
	}
	if err != nil {
		return err
	}
	p.state.Remembered = p.follow()
	p.state.Running = &store.Running{Reader: p.run.reader, Writer: p.run.writer}
	p.state.Reader, p.state.Writer = p.run.reader, p.run.writer
	if err := p.putAside(ctx, r.Aside); err != nil {
		return err
	}
	if err := p.reconcile(ctx, r.Written); err != nil {
		return err
	}
	if err := p.reloadTables(ctx); err != nil {
		return err
	}
	if n := len(p.tables); n > 0 && p.hopeless() {
		return wire.Error(p.tables[n-1].failure)
	}
	return nil
}

func (p *Pipeline) prepareSlot(ctx context.Context) error {
	if !p.follow() || len(p.state.Start) > 0 {
		return nil
	}
	r, err := p.call(ctx, p.run.reader, p.onSource(&fleetv1.Task{Work: &fleetv1.Task_Prepare{
		Prepare: &connectorv1.PrepareRequest{Pipeline: p.name, Tables: rowsOf(p.sound())}}}), nil)
	if err != nil {
		return err
	}
	if err := fault.Point("coordinator.before-start"); err != nil {
		return err
	}
	p.state.Start, p.state.Made = r.GetPrepare().Position, r.GetPrepare().Made
	if err := p.save(ctx); err != nil {
		return err
	}
	return fault.Point("coordinator.after-start")
}

// fence raises the target's fence to this attempt's epoch; when the target has seen a newer one, to one above it.
func (p *Pipeline) fence(ctx context.Context, req *connectorv1.RecoverRequest) (*connectorv1.RecoverResponse, error) {
	req.Pipeline, req.InitialPosition, req.Create = p.name, p.state.Start, true
	for tries := 0; ; tries++ {
		req.Epoch = p.state.Epoch
		r, err := p.askSink(ctx, req)
		if d := diag.Find(err); d != nil && d.Code.Class == diag.Fenced && tries == 0 {
			if r, err = p.askSink(ctx, &connectorv1.RecoverRequest{Pipeline: p.name}); err == nil {
				err = p.mint(ctx, max(r.MaxEpoch, r.Epoch))
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if r.MaxEpoch <= p.state.Epoch || tries >= 3 {
			return r, nil
		}
		if err := p.mint(ctx, r.MaxEpoch); err != nil {
			return nil, err
		}
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
		if t.failure == nil && plan.Unit(t.row) && !t.Loaded && t.begun() {
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
		changes = append(changes, p.unload(t, store.Table{})...)
		p.note("warn", "table "+t.name()+" is loaded again")
	}
	if err := p.resetAt(ctx, rows); err != nil {
		return err
	}
	return p.save(ctx, changes...)
}

// unload forgets all that is known of a table's load, and answers what to store; left is what is still true of it.
func (p *Pipeline) unload(t *table, left store.Table) (changes []store.Change) {
	for id := range t.chunks {
		changes = append(changes, store.DropChunk(p.name, id))
	}
	left.Index = t.Index
	t.Table, t.chunks = left, nil
	return append(changes, store.PutTable(p.name, t.Table))
}

func (p *Pipeline) resetAt(ctx context.Context, tables []*rowv1.Table) error {
	_, err := p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Reset_{Reset_: &connectorv1.ResetRequest{
		Pipeline: p.name, Epoch: p.state.Epoch, Tables: tables}}}), nil)
	return err
}
