package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/codes"

	"github.com/droverdb/drover/agent/snapshot"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	"github.com/droverdb/drover/internal/telemetry"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// running is a task under way.
type running struct {
	task   *fleetv1.Task
	cancel context.CancelCauseFunc
	done   chan struct{}
	// group are the tables of a snapshot.
	group []uint32
	// load is how far a load is; stream is set by streams.
	load   snapshot.Tally
	stream atomic.Pointer[func() *fleetv1.StreamProgress]
	// streaming: the gate answers. snapshot is the shared one that is open.
	streaming atomic.Bool
	snapshot  atomic.Pointer[connectorv1.OpenSnapshotResponse]
	// waiting is what its databases say that it waits for; nil: it never had to.
	waiting atomic.Pointer[string]
	seen    int64 // of the load, when it was last asked whether it stands
}

// lasting describes a task that a new leader may take over; nil: it has to be started again.
func (r *running) lasting() *fleetv1.RunningTask {
	t := &fleetv1.RunningTask{Task: r.task.Id, Epoch: r.task.Epoch, Pipeline: r.task.Pipeline}
	switch k := r.task.Work.(type) {
	case *fleetv1.Task_Stream:
		if !r.streaming.Load() {
			return nil
		}
		t.Work = &fleetv1.RunningTask_Stream{Stream: &fleetv1.RunningStream{}}
	case *fleetv1.Task_Load:
		load := &fleetv1.RunningLoad{}
		for _, c := range k.Load.Chunks {
			load.Chunks = append(load.Chunks, c.Id)
		}
		t.Work = &fleetv1.RunningTask_Load{Load: load}
	case *fleetv1.Task_Snapshot:
		s := &fleetv1.RunningSnapshot{Opened: r.snapshot.Load(), Tables: r.group}
		if s.Opened == nil {
			return nil
		}
		t.Work = &fleetv1.RunningTask_Snapshot{Snapshot: s}
	default:
		return nil
	}
	return t
}

func (r *running) progress() *fleetv1.TaskProgress {
	p := &fleetv1.TaskProgress{Task: r.task.Id, Pipeline: r.task.Pipeline}
	r.load.Fill(p)
	if f := r.stream.Load(); f != nil {
		p.Stream = (*f)()
	}
	waiting := r.waiting.Load()
	if waiting != nil {
		p.Waiting = *waiting // also an empty one: it is over
	}
	if p.Stream == nil && p.Bytes == 0 && waiting == nil {
		return nil
	}
	return p
}

// Task begins a task. One that runs already with this epoch or a higher one goes on undisturbed; one of a lower epoch
// is cancelled, and the new one begins after its end.
func (a *Agent) Task(t *fleetv1.Task) {
	a.mu.Lock()
	before := a.running[t.Id]
	if before != nil && before.task.Epoch >= t.Epoch {
		a.mu.Unlock()
		return
	}
	r := &running{task: t, done: make(chan struct{})}
	for _, table := range t.GetSnapshot().GetTables() {
		r.group = append(r.group, table.Index)
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancelCause(telemetry.Extract(a.tasks.Context(), t.Traceparent))
	a.running[t.Id] = r
	a.mu.Unlock()
	if before != nil {
		before.cancel(diag.FencedOut.New("task", nil, "the coordinator gave it a newer epoch"))
	}
	err := a.tasks.Go(func(context.Context) error {
		if before != nil {
			<-before.done
		}
		a.finish(r, a.guarded(ctx, r))
		return nil
	})
	if err != nil {
		a.finish(r, &fleetv1.Result{Failure: wire.Failure(diag.CallCancelled.New("agent "+a.cfg.Name, nil, "it is ending"))})
	}
}

// Cancel ends a task; its result says so.
func (a *Agent) Cancel(c *fleetv1.Cancel) {
	a.mu.Lock()
	r := a.running[c.Task]
	a.mu.Unlock()
	if r != nil {
		r.cancel(diag.CallCancelled.New("task", nil, "%s", c.Reason))
	}
}

// guarded runs a task; a panic is that task's failure, not the agent's end.
func (a *Agent) guarded(ctx context.Context, r *running) (result *fleetv1.Result) {
	began := time.Now()
	name := "task." + strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", r.task.Work), "*fleetv1.Task_"), "_"))
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("a task panicked", "task", r.task.Id, "panic", p, "stack", string(debug.Stack()))
			result = &fleetv1.Result{Failure: wire.Failure(diag.Internal.New("task", nil, "panic: %v", p))}
		}
		a.log.Debug("task ended", "task", r.task.Id, "epoch", r.task.Epoch, "work", name, "pipeline", r.task.Pipeline,
			"seconds", time.Since(began).Seconds(), "code", result.GetFailure().GetCode())
	}()
	ctx, span := telemetry.Tracer().Start(ctx, name)
	defer span.End()
	result, err := a.execute(ctx, r)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && diag.Find(cause) != nil && (diag.Find(err) == nil || errors.Is(err, context.Canceled)) {
			err = cause // the reason of the cancellation says more than what it broke
		}
		a.meter.failed(ctx, r.task, err)
		result = &fleetv1.Result{Failure: wire.Failure(err)} // without secrets, as an error itself may not be
		span.SetStatus(codes.Error, result.Failure.Code+" "+result.Failure.Where+": "+result.Failure.Why)
	}
	return result
}

func (a *Agent) finish(r *running, result *fleetv1.Result) {
	result.Task, result.Epoch, result.Pipeline = r.task.Id, r.task.Epoch, r.task.Pipeline
	r.cancel(nil)
	a.session.Report(result)
	a.mu.Lock()
	if a.running[r.task.Id] == r {
		delete(a.running, r.task.Id)
	}
	a.mu.Unlock()
	close(r.done)
}

// event reports something of a task that goes on.
func (a *Agent) event(r *running, e *fleetv1.Event) {
	e.Task, e.Epoch, e.Pipeline = r.task.Id, r.task.Epoch, r.task.Pipeline
	a.session.Event(e)
}
