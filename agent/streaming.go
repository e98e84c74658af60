package agent

import (
	"context"
	"slices"

	"github.com/droverdb/drover/agent/stream"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// gateDepth bounds the gate requests that wait; the coordinator sends few and waits for the answers.
const gateDepth = 256

// gateQueue hands gate requests to a stream one after another, in the order they came.
type gateQueue struct {
	requests chan *fleetv1.GateRequest
	// seen are the newest that were taken, more than can be without an answer: after a reconnect those are sent again.
	seen []uint64
}

// take queues a request once; false: there is no room. Agent.mu is held.
func (q *gateQueue) take(req *fleetv1.GateRequest) bool {
	if slices.Contains(q.seen, req.Id) {
		return true // its reply is under way, or will be
	}
	select {
	case q.requests <- req:
	default:
		return false
	}
	q.seen = append(q.seen[max(0, len(q.seen)-4*gateDepth):], req.Id)
	return true
}

// Gate queues a request for the pipeline's stream.
func (a *Agent) Gate(req *fleetv1.GateRequest) {
	a.mu.Lock()
	q := a.streams[req.Pipeline]
	taken := q != nil && q.take(req)
	a.mu.Unlock()
	if !taken {
		a.refuse(req)
	}
}

func (a *Agent) refuse(req *fleetv1.GateRequest) {
	a.session.Reply(&fleetv1.GateReply{Id: req.Id, Pipeline: req.Pipeline,
		Failure: wire.Failure(diag.NoAgent.New("pipeline "+req.Pipeline, nil, "its stream does not run on agent %s now", a.cfg.Name))})
}

// stream runs a slot and its gate until cancelled.
func (a *Agent) stream(ctx context.Context, r *running, work *fleetv1.StreamTask) (*fleetv1.Result, error) {
	source, sink, err := a.ends(ctx, r.task)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	defer sink.Close()
	s := stream.New(stream.Task{Pipeline: r.task.Pipeline, Epoch: r.task.Epoch, Source: source, Sink: sink, Work: work,
		Committed: a.meter.committed(r.task),
		Started: func(position []byte) {
			r.streaming.Store(true)
			a.event(r, &fleetv1.Event{Kind: &fleetv1.Event_StreamStarted{StreamStarted: &fleetv1.StreamStarted{Position: position}}})
		}})
	progress := s.Progress
	r.stream.Store(&progress)
	defer a.watchWaits(ctx, r, func() (bool, []uint64) { return lags(s) }, source, sink)()
	end := a.serveGate(ctx, r.task.Pipeline, s)
	position, err := s.Run(ctx)
	end()
	if err != nil {
		return nil, err
	}
	return &fleetv1.Result{Outcome: &fleetv1.Result_Stream{Stream: &fleetv1.StreamResult{Position: position}}}, nil
}

// serveGate answers the pipeline's gate requests from s until end is called.
func (a *Agent) serveGate(ctx context.Context, pipeline string, s *stream.Stream) (end func()) {
	q := &gateQueue{requests: make(chan *fleetv1.GateRequest, gateDepth)}
	a.mu.Lock()
	a.streams[pipeline] = q
	a.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case req := <-q.requests:
				a.session.Reply(s.Handle(ctx, req))
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		a.mu.Lock()
		if a.streams[pipeline] == q {
			delete(a.streams, pipeline)
		}
		a.mu.Unlock()
		cancel()
		<-done
		for {
			select {
			case req := <-q.requests:
				a.refuse(req)
			default:
				return
			}
		}
	}
}
