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
	"github.com/droverdb/drover/coordinator/schedule"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag/wire"
	"github.com/droverdb/drover/internal/fault"
	"github.com/droverdb/drover/internal/telemetry"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// load is a load task in flight: it holds a credit of its reader and one of its writer, and its chunks.
type load struct {
	schedule.Pair
	chunks []uint64
}

func (p *Pipeline) fly(l *load) {
	p.run.loads[l] = true
	for _, id := range l.chunks {
		p.chunk(id).inFlight = true
	}
}

func (p *Pipeline) land(l *load) {
	delete(p.run.loads, l)
	for _, id := range l.chunks {
		if c := p.chunk(id); c != nil { // else its table was set aside
			c.land()
		}
	}
}

// grant makes every load task durable, with its floor, before its read starts (rule 2).
func (p *Pipeline) grant(ctx context.Context, grants []schedule.Grant) error {
	for _, g := range grants {
		l := &load{Pair: g.Pair, chunks: g.Chunks}
		for _, id := range l.chunks {
			if t := p.tables[plan.TableOf(id)]; !t.Split {
				p.enterWhole(t)
			}
		}
		p.fly(l)
		if p.follow() && !plan.Unit(p.tables[plan.TableOf(l.chunks[0])].row) {
			if err := p.reserve(&fleetv1.Reserve{Chunks: p.gateChunks(l.chunks)}, func(f *rowv1.Floor) { p.dispatch(ctx, l, f) }); err != nil {
				return err
			}
			continue
		}
		p.dispatch(ctx, l, nil)
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

func (p *Pipeline) dispatch(ctx context.Context, l *load, floor *rowv1.Floor) {
	p.state.Epoch = lease.Next(p.state.Epoch)
	epoch := p.state.Epoch
	work := &fleetv1.LoadTask{Floor: floor}
	seen := map[uint32]bool{}
	var changes []store.Change
	for _, id := range l.chunks {
		c, t := p.chunk(id), p.tables[plan.TableOf(id)]
		// A chunk that was granted before keeps its first floor: an earlier attempt may have committed under it.
		if c.Floor == nil {
			c.Floor = store.Wire(floor)
		}
		c.Granted, c.Epoch, c.Agent, c.Writer = true, epoch, l.Reader, l.Writer
		c.began, c.ended = time.Now(), time.Time{}
		c.Attempts++
		work.Chunks = append(work.Chunks, c.row)
		if !seen[t.Index] {
			seen[t.Index] = true
			work.Tables = append(work.Tables, t.whole())
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
	span.SetAttributes(attribute.String("drover.pipeline", p.name), attribute.Int("drover.chunks", len(l.chunks)))
	task := &fleetv1.Task{Epoch: epoch, Traceparent: telemetry.Inject(traced), Source: p.source(), Sink: p.sink(), Work: &fleetv1.Task_Load{Load: work}}
	if p.state.TraceID == "" && span.SpanContext().HasTraceID() {
		p.state.TraceID = span.SpanContext().TraceID().String()
	}
	p.route(task, l.Pair)
	id, err := p.assign(l.Reader, task, p.hearLoad(l, span))
	if err != nil { // it has left meanwhile
		span.End()
		p.land(l)
		p.loadFailed(l, wire.Failure(err))
		return
	}
	p.run.tasks[id] = true
}

// hearLoad takes what is reported of a load; span is nil for one that was adopted.
func (p *Pipeline) hearLoad(l *load, span trace.Span) func(fleet.Message) {
	return func(m fleet.Message) {
		switch {
		case m.Tick != nil:
			p.hearMoving(m.Tick)
		case m.Result != nil:
			if span != nil {
				span.End()
			}
			delete(p.run.tasks, m.Task)
			p.loaded(l, m)
		}
	}
}

// route tells the reader who writes. All that write through one agent share a grant, for this attempt (Invariant 17).
func (p *Pipeline) route(t *fleetv1.Task, to schedule.Pair) {
	t.SinkAgent = to.Writer
	if to.Writer == to.Reader {
		return
	}
	if p.run.grants[to.Writer] == nil {
		p.run.grants[to.Writer] = p.fleet.Grant(to.Writer, p.name, p.sink())
	}
	t.Grant = p.run.grants[to.Writer]
	for _, a := range p.fleet.Agents() {
		if a.Hello.Agent == to.Writer {
			t.SinkAddress = a.Hello.TransferAddress
		}
	}
}
