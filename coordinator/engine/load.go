package engine

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/lease"
	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/schedule"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	"github.com/droverdb/drover/internal/fault"
	"github.com/droverdb/drover/internal/telemetry"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// loadAll moves all rows. The actor decides after every message; nothing here waits for a single task.
func (p *Pipeline) loadAll(ctx context.Context) error {
	if p.state.Loaded {
		return nil
	}
	if err := p.enter(ctx, controlv1.Phase_PHASE_LOAD); err != nil {
		return err
	}
	var broken error
	err := p.pump(ctx, 0, func() bool {
		if broken = p.drive(ctx); broken != nil {
			return true
		}
		return p.allLoaded()
	})
	if err != nil {
		return err
	}
	if broken != nil {
		return broken
	}
	if p.run.snapshotTask != 0 {
		p.dropSnapshot()
	}
	p.state.Loaded = true
	p.note("info", "all rows are loaded")
	if err := fault.Point("coordinator.before-loaded"); err != nil {
		return err
	}
	if err := p.resetAt(ctx, nil, []byte(p.memo())); err != nil {
		return err
	}
	if err := fault.Point("coordinator.after-loaded"); err != nil {
		return err
	}
	return p.save(ctx)
}

func (p *Pipeline) allLoaded() bool {
	for _, t := range p.tables {
		if !t.Loaded {
			return false
		}
	}
	return p.run.inFlight == 0
}

// drive is one decision.
func (p *Pipeline) drive(ctx context.Context) error {
	for _, t := range p.tables {
		if t.failure != nil && p.run.inFlight == 0 && p.onlyHeldLeft() {
			return wire.Error(t.failure)
		}
	}
	for _, t := range p.tables { // also those whose last chunks only the target knew to be written
		if !t.Loaded && t.complete() {
			p.tableLoaded(t)
		}
	}
	if p.stop != nil {
		return p.stop
	}
	if err := p.snapshot(ctx); err != nil {
		return err
	}
	v := p.view()
	c := schedule.Decide(v)
	for _, index := range c.Split {
		if err := p.split(ctx, p.tables[index]); err != nil {
			return err
		}
	}
	if len(c.Grants) == 0 {
		return nil
	}
	return p.grant(ctx, c.Grants)
}

func (p *Pipeline) onlyHeldLeft() bool {
	for _, t := range p.tables {
		if !t.Loaded && t.failure == nil {
			return false
		}
	}
	return true
}

// view is what the scheduler sees. Small tables become one chunk without asking anybody.
func (p *Pipeline) view() schedule.View {
	v := schedule.View{InFlight: p.run.inFlight, Parallel: int(p.spec.Parallel)}
	if p.run.splitting != 0 {
		v.Splitting = 1
	}
	for _, a := range p.fleet.Agents() {
		if a.Connected && a.Hello.Agent == p.run.reader {
			v.ReadCredits = int(a.Hello.ReadCredits)
		}
		if a.Connected && a.Hello.Agent == p.run.writer {
			v.WriteCredits = int(a.Hello.WriteCredits)
		}
	}
	now := time.Now()
	for _, t := range p.ordered() {
		if t.Loaded || t.failure != nil {
			continue
		}
		if !t.Split {
			whole := plan.Whole(t.row, p.chunkBytes())
			if whole == nil {
				v.Unsplit = append(v.Unsplit, t.Index)
				continue
			}
			t.Split, t.Chunks = true, 1
			t.chunks[whole.Id] = &chunk{row: whole, Chunk: store.Chunk{Chunk: store.Wire(whole)}}
		}
		shelf, ready := 0, true
		if p.needsSnapshot(t) {
			shelf, ready = 1, p.run.snapshot != "" && (!p.follow() || contains(p.run.group, t.Index))
		}
		for n := range t.Chunks {
			c := t.chunks[plan.ChunkID(t.Index, uint32(n))]
			if c == nil || c.Written || c.inFlight {
				continue
			}
			v.Pending = append(v.Pending, schedule.Chunk{ID: c.row.Id, Bytes: c.row.EstimatedBytes, Held: c.Granted && p.follow(),
				Ready: ready && now.After(c.notUntil), Alone: c.alone, Shelf: shelf})
		}
	}
	return v
}

// needsSnapshot: in a plain copy everything is read under one snapshot, else only unit tables are.
func (p *Pipeline) needsSnapshot(t *table) bool { return !p.follow() || plan.Unit(t.row) }

func (p *Pipeline) chunkBytes() int64 {
	if p.spec.ChunkBytes > 0 {
		return p.spec.ChunkBytes
	}
	return plan.DefaultChunkBytes
}

// split asks for the ranges of a big table. They count once all pages are here: a second split may cut elsewhere.
func (p *Pipeline) split(_ context.Context, t *table) error {
	var chunks []*rowv1.Chunk
	task := p.onSource(&fleetv1.Task{Epoch: p.state.Epoch, Work: &fleetv1.Task_Split{Split: &connectorv1.SplitRequest{Table: t.row, TargetBytes: p.chunkBytes()}}})
	id, err := p.assign(p.run.reader, task, func(m fleet.Message) {
		chunks = append(chunks, m.Event.GetChunks().GetChunks()...)
		if m.Result == nil {
			return
		}
		p.run.splitting = 0
		delete(p.run.tasks, m.Task)
		if err := fleetError(m); err != nil {
			p.stop = err
			return
		}
		chunks = append(chunks, m.Result.GetSplit().GetChunks()...)
		changes := make([]store.Change, 0, len(chunks)+1)
		for n, c := range chunks {
			c.Id, c.Table = plan.ChunkID(t.Index, uint32(n)), t.Index
			rec := &chunk{row: c, Chunk: store.Chunk{Chunk: store.Wire(c)}}
			t.chunks[c.Id] = rec
			changes = append(changes, store.PutChunk(p.name, c.Id, rec.Chunk))
		}
		t.Split, t.Chunks = true, len(chunks)
		p.keep(append(changes, store.PutTable(p.name, t.Table)))
		if len(chunks) == 0 {
			p.tableLoaded(t)
		}
	})
	if err == nil {
		p.run.splitting, p.run.tasks[id] = id, true
	}
	return err
}

// grant makes every load task durable, with its floor, before its read starts (rule 2).
func (p *Pipeline) grant(ctx context.Context, grants [][]uint64) error {
	for _, g := range grants {
		for _, id := range g {
			p.chunk(id).inFlight = true
		}
		p.run.inFlight++
		if p.follow() && !plan.Unit(p.tables[plan.TableOf(g[0])].row) {
			if err := p.reserve(&fleetv1.Reserve{Chunks: p.gateChunks(g)}, func(f *rowv1.Floor) { p.dispatch(ctx, g, f) }); err != nil {
				return err
			}
			continue
		}
		p.dispatch(ctx, g, nil)
	}
	return nil
}

func (p *Pipeline) gateChunks(ids []uint64) []*fleetv1.GateChunk {
	var out []*fleetv1.GateChunk
	for _, id := range ids {
		out = append(out, &fleetv1.GateChunk{Chunk: id, Keys: p.chunk(id).row.Keys})
	}
	return out
}

func (p *Pipeline) dispatch(ctx context.Context, ids []uint64, floor *rowv1.Floor) {
	p.state.Epoch = lease.Mint(p.state.Epoch, 0)
	epoch := p.state.Epoch
	work := &fleetv1.LoadTask{Floor: floor}
	seen := map[uint32]bool{}
	var changes []store.Change
	for _, id := range ids {
		c, t := p.chunk(id), p.tables[plan.TableOf(id)]
		// A chunk that was granted before keeps its first floor: an earlier attempt may have committed under it.
		if c.Floor == nil {
			c.Floor = store.Wire(floor)
		}
		c.Granted, c.Epoch, c.Agent = true, epoch, p.run.reader
		c.Attempts++
		work.Chunks = append(work.Chunks, c.row)
		if !seen[t.Index] {
			seen[t.Index] = true
			work.Tables = append(work.Tables, t.row)
			changes = append(changes, store.PutTable(p.name, t.Table))
		}
		if p.needsSnapshot(t) {
			work.Snapshot = p.run.snapshot
		}
		changes = append(changes, store.PutChunk(p.name, id, c.Chunk))
	}
	err := fault.Point("coordinator.before-grant")
	if err == nil {
		err = p.save(ctx, changes...)
	}
	if err = errors.Join(err, fault.Point("coordinator.after-grant")); err != nil {
		p.stop = err
		return
	}
	traced, span := telemetry.Tracer().Start(ctx, "coordinator.grant")
	span.SetAttributes(attribute.String("drover.pipeline", p.name), attribute.Int("drover.chunks", len(ids)))
	task := &fleetv1.Task{Epoch: epoch, Traceparent: telemetry.Inject(traced), Source: p.source(), Sink: p.sink(), Work: &fleetv1.Task_Load{Load: work}}
	if p.state.TraceID == "" && span.SpanContext().HasTraceID() {
		p.state.TraceID = span.SpanContext().TraceID().String()
	}
	p.route(task)
	id, err := p.assign(p.run.reader, task, func(m fleet.Message) {
		switch {
		case m.Event.GetWaiting() != "":
			p.waiting = m.Event.GetWaiting()
		case m.Result != nil:
			span.End()
			delete(p.run.tasks, m.Task)
			p.loaded(ids, m)
		}
	})
	if err != nil {
		span.End()
		p.stop = err
		return
	}
	p.run.tasks[id] = true
}

// route tells the reader who writes.
func (p *Pipeline) route(t *fleetv1.Task) {
	t.SinkAgent = p.run.writer
	if p.run.writer == p.run.reader {
		return
	}
	for _, a := range p.fleet.Agents() {
		if a.Hello.Agent == p.run.writer {
			t.SinkAddress = a.Hello.TransferAddress
		}
	}
}

// loaded takes the result of a load task.
func (p *Pipeline) loaded(ids []uint64, m fleet.Message) {
	p.run.inFlight--
	for _, id := range ids {
		p.chunk(id).inFlight = false
	}
	if f := m.Result.Failure; f != nil {
		p.loadFailed(ids, f)
		return
	}
	p.waiting = ""
	var changes []store.Change
	gate := &fleetv1.Written{}
	for _, r := range m.Result.GetLoad().GetResults() {
		c := p.chunk(r.Chunk)
		if c == nil || c.Written {
			continue
		}
		c.Written, c.result, c.Result = true, r, store.Wire(r)
		changes = append(changes, store.PutChunk(p.name, r.Chunk, c.Chunk))
		if p.follow() && !plan.Unit(p.tables[c.row.Table].row) {
			gate.Chunks = append(gate.Chunks, &fleetv1.GateChunk{Chunk: r.Chunk, Keys: c.row.Keys, Written: true, Coverage: r.Coverage})
		}
	}
	for _, id := range ids {
		if !p.chunk(id).Written {
			p.stop = diag.Internal.New("load", nil, "an agent reported a load without the result of chunk %x", id)
			return
		}
	}
	if err := fault.Point("coordinator.before-finish"); err != nil {
		p.stop = err
		return
	}
	p.keep(changes)
	if err := fault.Point("coordinator.after-finish"); err != nil {
		p.stop = err
		return
	}
	if len(gate.Chunks) > 0 {
		p.tell(&fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Written{Written: gate}})
	}
	for _, id := range ids {
		if t := p.tables[plan.TableOf(id)]; t.complete() && !t.Loaded {
			p.tableLoaded(t)
		}
	}
}

func (p *Pipeline) loadFailed(ids []uint64, f *fleetv1.Failure) {
	p.note("warn", f.Code+" "+f.Where+": "+f.Why)
	if f.Class == fleetv1.FailureClass_FAILURE_CLASS_FATAL {
		p.stop = wire.Error(f)
		return
	}
	for _, id := range ids {
		c, t := p.chunk(id), p.tables[plan.TableOf(id)]
		c.alone = true
		c.notUntil = time.Now().Add(min(time.Duration(c.Attempts)*200*time.Millisecond, 10*time.Second))
		if f.Class == fleetv1.FailureClass_FAILURE_CLASS_HOLD && len(ids) == 1 {
			t.failure = f
		}
	}
	if f.Code == diag.NoAgent.ID { // the agent is gone, and its snapshot with it
		p.stop = wire.Error(f)
	}
}

// tableLoaded runs once all chunks of a table are written.
func (p *Pipeline) tableLoaded(t *table) {
	t.Loaded = true
	if p.follow() && plan.Unit(t.row) {
		t.Coverage = store.Wire(p.run.coverage)
	}
	var changes []store.Change
	if !p.follow() {
		changes = p.coalesce(t)
	} else if !plan.Unit(t.row) {
		p.tell(&fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Loaded{Loaded: &fleetv1.TablesLoaded{Tables: []uint32{t.Index}}}})
	}
	p.keep(append(changes, store.PutTable(p.name, t.Table)))
}

// coalesce replaces the chunks of a finished table by their sum.
func (p *Pipeline) coalesce(t *table) []store.Change {
	var changes []store.Change
	for id, c := range t.chunks {
		t.Rows, t.Bytes = t.Rows+c.result.GetRows(), t.Bytes+c.result.GetBytes()
		t.Sum = plan.AddSum(t.Sum, c.result.GetRowSum())
		changes = append(changes, store.DropChunk(p.name, id))
	}
	t.chunks = map[uint64]*chunk{}
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
