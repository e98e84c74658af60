package engine

import (
	"context"
	"time"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	"github.com/droverdb/drover/internal/fault"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// loaded takes the result of a load task.
func (p *Pipeline) loaded(l *load, m fleet.Message) {
	p.land(l)
	if f := m.Result.Failure; f != nil {
		p.loadFailed(l, f)
		return
	}
	p.waiting = ""
	delete(p.run.rests, l.Pair)
	p.timed(l)
	gate := &fleetv1.Written{}
	var finished []*chunk
	for _, r := range m.Result.GetLoad().GetResults() {
		c := p.chunk(r.Chunk)
		if c == nil || c.Written {
			continue
		}
		c.Written, c.result, c.Result = true, r, store.Wire(r)
		finished = append(finished, c)
		if p.follow() && !plan.Unit(p.tables[c.row.Table].row) {
			gate.Chunks = append(gate.Chunks, &fleetv1.GateChunk{Chunk: r.Chunk, Keys: c.row.Keys, Written: true, Coverage: r.Coverage})
		}
	}
	for _, id := range l.chunks {
		if c := p.chunk(id); c != nil && !c.Written {
			p.stop = diag.Internal.New("load", nil, "an agent reported a load without the result of chunk %x", id)
			return
		}
	}
	if err := fault.Point("coordinator.before-finish"); err != nil {
		p.stop = err
		return
	}
	p.finished(finished, gate)
}

// timed keeps how fast a pair's latest load was: the next one is cut so that it does not take too long. Bytes are those
// of the plan, because that is what loads are cut by. A small load that was soon over tells of round trips only.
func (p *Pipeline) timed(l *load) {
	var planned int64
	var c *chunk
	for _, id := range l.chunks {
		if c = p.chunk(id); c == nil {
			return // its table was set aside
		}
		planned += c.row.EstimatedBytes
	}
	if took := c.ended.Sub(c.began); !c.began.IsZero() && took > 0 && (planned >= 1<<20 || took > 2*time.Second) {
		p.run.speed[l.Pair] = int64(float64(planned) / took.Seconds())
	}
}

// finished stores chunks together with the tables they complete, and tells the gate once what is stored: many small
// tables come with one result, and must not cost a write each.
func (p *Pipeline) finished(chunks []*chunk, gate *fleetv1.Written) {
	var tables []*table
	for _, c := range chunks {
		if t := p.tables[c.row.Table]; t.complete() && !t.Loaded {
			t.Loaded = true // now, so that it is listed once
			tables = append(tables, t)
		}
	}
	var changes []store.Change
	for _, c := range chunks {
		if p.follow() || !p.tables[c.row.Table].Loaded { // else its record goes in the same write
			changes = append(changes, store.PutChunk(p.name, c.row.Id, c.Chunk))
		}
	}
	complete, loaded := p.complete(tables)
	p.keep(append(changes, complete...))
	if err := fault.Point("coordinator.after-finish"); err != nil {
		p.stop = err
		return
	}
	if len(gate.Chunks) > 0 {
		p.tell(&fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Written{Written: gate}})
	}
	p.tellLoaded(loaded)
}

func (p *Pipeline) loadFailed(l *load, f *fleetv1.Failure) {
	if p.helped(l, f) {
		p.passOn(l, f)
		return
	}
	if p.refused(l, f) {
		return
	}
	p.note("warn", f.Code+" "+f.Where+": "+f.Why)
	if f.Class == fleetv1.FailureClass_FAILURE_CLASS_FATAL {
		p.stop = wire.Error(f)
		return
	}
	p.waiting = tryingAgain(wire.Error(f))
	p.later(l)
	if f.Code == diag.NoAgent.ID { // the agent is gone, and its snapshot with it
		p.stop = wire.Error(f)
	}
}

// later lets the chunks of a load that has failed wait a little.
func (p *Pipeline) later(l *load) {
	for _, id := range l.chunks {
		if c := p.chunk(id); c != nil {
			c.notUntil = time.Now().Add(min(time.Duration(c.Attempts)*200*time.Millisecond, 10*time.Second))
		}
	}
}

// refused takes out the table that a load has failed for. When the failure names none although it is of a table, the
// tables of the load are tried one by one.
func (p *Pipeline) refused(l *load, f *fleetv1.Failure) bool {
	t := p.blamed(f)
	if f.Code == diag.CountDiffers.ID && f.Table > 0 && int(f.Table) <= len(p.tables) && p.attempts(l, f.Table-1) >= miscounts {
		t = p.tables[f.Table-1]
	}
	switch {
	case t == nil:
		if f.Table > 0 || !ownReason(f.Code) || len(l.chunks) < 2 {
			return false
		}
	case t.failure == nil && p.last(t):
		p.stop = wire.Error(f)
		return true
	case t.failure == nil:
		p.keep([]store.Change{p.failTable(t, f)})
	}
	p.later(l)
	return true
}

// attempts is how often the chunks of a table in a load were tried.
func (p *Pipeline) attempts(l *load, table uint32) (n int) {
	for _, id := range l.chunks {
		if c := p.chunk(id); c != nil && plan.TableOf(id) == table {
			n = max(n, c.Attempts)
		}
	}
	return n
}

// tablesLoaded runs once all chunks of the tables are written.
func (p *Pipeline) tablesLoaded(tables ...*table) {
	changes, loaded := p.complete(tables)
	if len(changes) > 0 {
		p.keep(changes)
	}
	p.tellLoaded(loaded)
}

// complete is what to store of tables whose chunks are all written, and which of them the gate has to hear of.
func (p *Pipeline) complete(tables []*table) (changes []store.Change, loaded []uint32) {
	for _, t := range tables {
		t.Loaded = true
		var chunks []store.Change
		switch {
		case !p.follow():
			chunks = p.coalesce(t)
		case plan.Unit(t.row):
			t.Coverage = store.Wire(p.run.coverage)
		default:
			loaded = append(loaded, t.Index)
		}
		changes = append(append(changes, store.PutTable(p.name, t.Table)), chunks...)
	}
	return changes, loaded
}

func (p *Pipeline) tellLoaded(tables []uint32) {
	if len(tables) > 0 {
		p.tell(&fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Loaded{Loaded: &fleetv1.TablesLoaded{Tables: tables}}})
	}
}

// coalesce replaces the chunks of a finished table by their sum. The table is stored before its chunks are dropped:
// a crash in between must not look like a table that was never cut, which would be cut again, elsewhere.
func (p *Pipeline) coalesce(t *table) []store.Change {
	var changes []store.Change
	for id, c := range t.chunks {
		t.Rows, t.Bytes = t.Rows+c.result.GetRows(), t.Bytes+c.result.GetBytes()
		t.Sum = plan.AddSum(t.Sum, c.result.GetRowSum())
		changes = append(changes, store.DropChunk(p.name, id))
	}
	t.chunks = nil
	return changes
}

// keep saves from within a handler: a failure ends the attempt.
func (p *Pipeline) keep(changes []store.Change) {
	ctx, done := context.WithTimeout(context.Background(), 10*time.Second)
	defer done()
	if err := p.save(ctx, changes...); err != nil {
		p.stop = err
	}
}
