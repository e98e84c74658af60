package engine

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	"github.com/droverdb/drover/internal/telemetry"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const (
	groupTables = 64
	groupBytes  = 256 << 20
)

// startStream runs the slot and its gate, before the first grant. The gate is rebuilt from the ledger.
func (p *Pipeline) startStream(ctx context.Context) error {
	if !p.follow() {
		return nil
	}
	lane := "pg-values"
	if p.spec.Lane == "arrow" || p.spec.Source.Connector != p.spec.Target.Connector {
		lane = "arrow"
	}
	work := &fleetv1.StreamTask{Tables: p.rows(), Packed: p.catalog.tables, InitialPosition: p.state.Start, Lane: lane}
	for _, t := range p.tables {
		work.Gate = append(work.Gate, p.gateTable(t))
	}
	task := &fleetv1.Task{Epoch: p.state.Epoch, Source: p.source(), Sink: p.sink(), Work: &fleetv1.Task_Stream{Stream: work}}
	p.route(task, p.run.own())
	traced, span := telemetry.Tracer().Start(ctx, "coordinator.grant", trace.WithAttributes(attribute.String("drover.pipeline", p.name)))
	task.Traceparent = telemetry.Inject(traced)
	id, err := p.assign(p.run.reader, task, p.hearStream)
	span.End() // the stream lasts; its rounds are traces of their own
	if err != nil {
		return err
	}
	p.run.stream, p.run.tasks[id] = id, true
	if err := p.pump(ctx, 0, func() bool { return p.run.streaming }); err != nil {
		return err
	}
	p.waiting = ""
	p.state.Running.Stream = id
	if err := p.save(ctx); err != nil { // before anything is granted: a new leader must know whose floors hold the gate
		return err
	}
	// Loaded tables whose overlap has not passed: the gate has to hear it again.
	var loaded []uint32
	for _, t := range p.tables {
		if t.Loaded && !t.Passed {
			loaded = append(loaded, t.Index)
		}
	}
	if len(loaded) > 0 {
		p.tell(&fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Loaded{Loaded: &fleetv1.TablesLoaded{Tables: loaded}}})
	}
	return p.settle()
}

func (p *Pipeline) gateTable(t *table) *fleetv1.GateTable {
	g := &fleetv1.GateTable{Table: t.Index, Done: t.Passed, Aside: t.failure != nil}
	if t.Passed || g.Aside {
		return g
	}
	if plan.Unit(t.row) {
		if t.Loaded {
			g.Chunks = []*fleetv1.GateChunk{{Chunk: plan.ChunkID(t.Index, 0), Keys: &rowv1.KeyRange{}, Floor: store.ReadFloor(t.Floor), Written: true, Coverage: store.ReadCoverage(t.Coverage)}}
		}
		return g
	}
	for n := range t.Chunks {
		c := t.chunks[plan.ChunkID(t.Index, uint32(n))]
		if c == nil || !c.Granted {
			continue
		}
		g.Chunks = append(g.Chunks, &fleetv1.GateChunk{Chunk: c.row.Id, Keys: c.row.Keys, Floor: store.ReadFloor(c.Floor), Written: c.Written, Coverage: c.result.GetCoverage()})
	}
	return g
}

func (p *Pipeline) hearStream(m fleet.Message) {
	switch {
	case m.Event.GetStreamStarted() != nil:
		p.run.streaming = true
	case m.Tick.GetStream() != nil:
		p.traceProgress(m.Tick.Stream)
		p.run.progress = m.Tick.Stream
		p.passed(m.Tick.Stream.PassedTables)
		m.Tick.Stream.PassedTables = nil // heard; status does not list tables
		p.settled(m.Tick.Stream.Applied)
	case m.Reply != nil:
		f := p.run.replies[m.Reply.Id]
		delete(p.run.replies, m.Reply.Id)
		if m.Reply.Failure != nil {
			p.stop = wire.Error(m.Reply.Failure)
		} else if f != nil {
			f(m.Reply)
		}
	case m.Result != nil:
		p.run.stream = 0
		p.stop = fleetError(m)
		if p.stop == nil {
			p.stop = diag.ConnLost.New("stream", nil, "the stream ended")
		}
	}
}

// traceProgress notes in a traced round's trace that the coordinator has heard of its commit: the last link of the
// chain target, ack, coordinator (Invariant 7).
func (p *Pipeline) traceProgress(s *fleetv1.StreamProgress) {
	if s.Traceparent == "" || s.Traceparent == p.run.progress.GetTraceparent() {
		return
	}
	_, span := telemetry.Tracer().Start(telemetry.Extract(context.Background(), s.Traceparent), "coordinator.progress",
		trace.WithAttributes(attribute.String("drover.pipeline", p.name), attribute.Int64("drover.lag_micros", s.LagMicros)))
	span.End()
}

// passed forgets the chunks of tables whose overlap the stream has left behind.
func (p *Pipeline) passed(tables []uint32) {
	var changes []store.Change
	for _, index := range tables {
		if int(index) >= len(p.tables) {
			continue
		}
		if t := p.tables[index]; t.Loaded && !t.Passed {
			t.Passed = true
			chunks := p.coalesce(t)
			changes = append(append(changes, store.PutTable(p.name, t.Table)), chunks...)
		}
	}
	if len(changes) > 0 {
		p.keep(changes)
	}
}

// ask sends a request to the gate; then is called with its answer, on the actor.
func (p *Pipeline) gate(r *fleetv1.GateRequest, then func(*fleetv1.GateReply)) error {
	r.Pipeline = p.name
	id, err := p.fleet.Gate(p.run.stream, r)
	if err == nil && then != nil {
		p.run.replies[id] = then
	}
	return err
}

func (p *Pipeline) tell(r *fleetv1.GateRequest) {
	if err := p.gate(r, nil); err != nil {
		p.stop = err
	}
}

func (p *Pipeline) reserve(r *fleetv1.Reserve, then func(*rowv1.Floor)) error {
	return p.gate(&fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Reserve{Reserve: r}}, func(a *fleetv1.GateReply) { then(a.Floor) })
}

// snapshot keeps the shared snapshot that the next tables need, and closes the one that is used up.
func (p *Pipeline) snapshot(ctx context.Context) error {
	if p.run.snapshotTask != 0 || len(p.run.group) > 0 {
		if p.run.snapshot == "" || !p.groupLoaded() {
			return nil
		}
		p.dropSnapshot()
	}
	units := slices.DeleteFunc(p.run.left.units, func(t *table) bool { return t.Loaded || t.failure != nil })
	if len(units) == 0 {
		p.run.left.units = nil
		return nil
	}
	todo := make([]*rowv1.Table, len(units))
	for i, t := range units {
		todo[i] = t.row
	}
	n := len(units)
	if p.follow() {
		n = len(plan.Groups(todo, groupTables, groupBytes)[0])
	}
	p.group(units[:n])
	p.run.left.units = units[n:]
	if !p.follow() {
		return p.openSnapshot(todo, nil)
	}
	return p.reserve(&fleetv1.Reserve{Units: p.run.group}, func(f *rowv1.Floor) {
		var changes []store.Change
		for _, i := range p.run.group {
			p.tables[i].Floor = store.Wire(f)
			changes = append(changes, store.PutTable(p.name, p.tables[i].Table))
		}
		if err := p.save(ctx, changes...); err != nil {
			p.stop = err
		} else if err := p.openSnapshot(todo[:n], f); err != nil {
			p.stop = err
		}
	})
}

func (p *Pipeline) openSnapshot(tables []*rowv1.Table, floor *rowv1.Floor) error {
	task := p.onSource(&fleetv1.Task{Epoch: p.state.Epoch, Work: &fleetv1.Task_Snapshot{Snapshot: &connectorv1.OpenSnapshotRequest{Tables: tables, Floor: floor}}})
	id, err := p.assign(p.run.reader, task, p.hearSnapshot)
	if err == nil {
		p.run.snapshotTask, p.run.tasks[id] = id, true
	}
	return err
}

func (p *Pipeline) hearSnapshot(m fleet.Message) {
	if s := m.Event.GetSnapshot(); s != nil {
		p.run.snapshot, p.run.coverage = s.Snapshot, s.Coverage
	}
	if m.Result != nil && m.Task == p.run.snapshotTask {
		p.stop = fleetError(m)
		if p.stop == nil {
			p.stop = diag.ConnLost.New("source", nil, "the shared snapshot was lost")
		}
	}
}

// groupLoaded tells the gate of a group of units that is written.
func (p *Pipeline) groupLoaded() bool {
	if !p.follow() && len(p.run.loads) > 0 { // then the group is all tables
		return false
	}
	for _, i := range p.run.group {
		if !p.tables[i].Loaded && p.tables[i].failure == nil {
			return false
		}
	}
	return true
}

func (p *Pipeline) dropSnapshot() {
	units := slices.DeleteFunc(slices.Clone(p.run.group), func(i uint32) bool { return p.tables[i].failure != nil })
	if p.follow() && len(units) > 0 {
		var changes []store.Change
		for _, i := range units {
			p.tables[i].Coverage = store.Wire(p.run.coverage)
			changes = append(changes, store.PutTable(p.name, p.tables[i].Table))
		}
		p.keep(changes)
		p.tell(&fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Written{Written: &fleetv1.Written{Units: units, UnitCoverage: p.run.coverage}}})
		p.tell(&fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Loaded{Loaded: &fleetv1.TablesLoaded{Tables: units}}})
	}
	id := p.run.snapshotTask
	p.run.snapshotTask, p.run.snapshot, p.run.coverage, p.run.group = 0, "", nil, nil
	delete(p.run.tasks, id)
	delete(p.handlers, id)
	p.fleet.Abandon(id, "the snapshot is used up")
}
