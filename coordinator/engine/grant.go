package engine

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/lease"
	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/fault"
	"github.com/droverdb/drover/internal/telemetry"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

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
	p.state.Epoch = lease.Next(p.state.Epoch)
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
		c.began, c.ended = time.Now(), time.Time{}
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
	id, err := p.assign(p.run.reader, task, p.hearLoad(ids, span))
	if err != nil {
		span.End()
		p.stop = err
		return
	}
	p.run.tasks[id] = true
}

// hearLoad takes what is reported of a load; span is nil for one that was adopted.
func (p *Pipeline) hearLoad(ids []uint64, span trace.Span) func(fleet.Message) {
	return func(m fleet.Message) {
		switch {
		case m.Tick != nil:
			p.hearMoving(m.Tick)
		case m.Result != nil:
			if span != nil {
				span.End()
			}
			delete(p.run.tasks, m.Task)
			p.loaded(ids, m)
		}
	}
}

// route tells the reader who writes.
func (p *Pipeline) route(t *fleetv1.Task) {
	t.SinkAgent = p.run.writer
	if p.run.writer == p.run.reader {
		return
	}
	if p.run.grant == nil {
		p.run.grant = p.fleet.Grant(p.run.writer, p.name, p.sink())
	}
	t.Grant = p.run.grant
	for _, a := range p.fleet.Agents() {
		if a.Hello.Agent == p.run.writer {
			t.SinkAddress = a.Hello.TransferAddress
		}
	}
}
