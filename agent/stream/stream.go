// Package stream runs one slot: it takes rounds from the source, lets the gate hold and drop, feeds the sink, and
// acknowledges to the source what the target has committed. Read it in this order: Run, receive (queue.go), next
// (feed.go), release (judge.go), respond (feed.go), Handle.
package stream

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	"github.com/droverdb/drover/internal/fault"
	"github.com/droverdb/drover/internal/stop"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

const (
	defaultBudget = 8 << 20
	defaultGrace  = 10 * time.Second
	// idleEvery bounds how often a token is written for the position alone.
	idleEvery = time.Second
	pollFast  = 20 * time.Millisecond
	pollSlow  = 500 * time.Millisecond
	pollIdle  = 5 * time.Second
)

// Task is what a stream needs. Source and Sink are open already; the sink may be on another agent.
type Task struct {
	Pipeline string
	Epoch    uint64
	Source   sdk.Source
	Sink     sdk.Sink
	Work     *fleetv1.StreamTask
	// Budget bounds the bytes held back by the gate; 0: 8 MiB. A single round may exceed it.
	Budget int64
	// Grace is how long the sink may take to finish its round when the stream stops; 0: 10 s.
	Grace time.Duration
	// Started is called once the gate answers requests; Report about once a second. Both may be nil.
	Started func(position []byte)
	Report  func(*fleetv1.StreamProgress)
	// Committed is told what the target has committed; it must not block. May be nil.
	Committed func(Count)
}

// Count is what one commit at the target stands for.
type Count struct{ Rounds, Transactions, Changes, Bytes int64 }

// Stream is a running Task. Make it with New.
type Stream struct {
	task  Task
	ready chan struct{}
	group *stop.Group // owns all goroutines; set by Run

	// mu guards everything below; the gate is only touched with it.
	mu      sync.Mutex
	gate    *Gate
	queue   queue
	feed    feed
	judge   judge
	stats   stats
	barrier barrier

	aside  []uint32    // tables of which nothing is to be read
	tables *sdk.Tables // made when keys are first read again, by whoever feeds the sink

	// Bells wake one waiter each; ringing never blocks.
	space, work, poll, commit bell
	acks                      chan []byte
	// trace is the call that traces of rounds are linked to.
	trace context.Context
}

// New prepares a stream; Run runs it.
func New(t Task) *Stream {
	if t.Budget <= 0 {
		t.Budget = defaultBudget
	}
	if t.Grace <= 0 {
		t.Grace = defaultGrace
	}
	return &Stream{task: t, ready: make(chan struct{}), space: newBell(), work: newBell(), poll: newBell(),
		commit: newBell(), trace: context.Background(), acks: make(chan []byte, 1), judge: judge{layouts: map[layoutKey]*layout{}}}
}

// Run streams until ctx ends, its group drains, or something fails. It returns the position that is committed at
// the target. Running the same task again goes on from the target's token.
//
// On its end the source is stopped first; the sink may finish the round it has (Invariant 14).
func (s *Stream) Run(ctx context.Context) ([]byte, error) {
	s.trace = context.WithoutCancel(ctx)
	if err := s.recover(ctx); err != nil {
		return nil, err
	}
	g := stop.New(context.WithoutCancel(ctx))
	s.group = g
	for _, part := range []func(context.Context) error{s.runSource, s.runSink, s.runPoller, s.runReporter} {
		if err := g.Go(part); err != nil {
			g.Abort()
			return nil, errors.Join(err, g.Wait())
		}
	}
	select {
	case <-ctx.Done():
	case <-stop.Draining(ctx):
	case <-g.Context().Done():
	}
	err := g.Stop(s.task.Grace)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue.free()
	s.feed.free()
	s.judge.release()
	if errors.Is(err, stop.ErrAborted) || errors.Is(err, errHalfRound) { // the target rolls back what it had begun
		err = nil
	}
	return s.feed.committed, err
}

// recover raises the fence and finds the position: the target's token wins over the coordinator's hint (Invariant 9).
func (s *Stream) recover(ctx context.Context) error {
	w := s.task.Work
	r, err := s.task.Sink.Recover(ctx, &connectorv1.RecoverRequest{Pipeline: s.task.Pipeline, Epoch: s.task.Epoch,
		InitialPosition: w.InitialPosition, Create: true})
	if err != nil {
		return err
	}
	from := r.Position
	if len(from) == 0 {
		from = w.InitialPosition
	}
	gate, err := NewGate(w.Tables, w.Gate, from)
	if err != nil {
		return err
	}
	gate.Recovered(r.Written)
	s.mu.Lock()
	s.gate = gate
	s.feed.committed, s.feed.released = from, from
	s.stats.read = from
	s.mu.Unlock()
	s.aside = aside(w.Gate)
	if len(w.Packed) > 0 { // connectors get the pages, and the gate has been told
		w.Tables, w.Gate = nil, nil
	}
	close(s.ready)
	if s.task.Started != nil {
		s.task.Started(from)
	}
	return nil
}

// runSource reads the log until the stream drains.
func (s *Stream) runSource(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	drained := context.AfterFunc(drainContext(ctx), cancel)
	defer drained()
	s.mu.Lock()
	from := s.feed.committed
	s.mu.Unlock()
	err := s.task.Source.Stream(ctx, &connectorv1.StreamRequest_Start{Pipeline: s.task.Pipeline, From: from,
		Tables: s.task.Work.Tables, Packed: s.task.Work.Packed, Lane: s.task.Work.Lane, Aside: s.aside}, s.acks, func(f *sdk.Frame) error { return s.receive(ctx, f) })
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = diag.ConnLost.New("source", nil, "the change stream ended")
	}
	return err
}

// aside are the tables of which nothing is to be read.
func aside(gate []*fleetv1.GateTable) (tables []uint32) {
	for _, t := range gate {
		if t.Aside {
			tables = append(tables, t.Table)
		}
	}
	return tables
}

// runSink feeds the sink until there is nothing more to come.
func (s *Stream) runSink(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of an answer that nobody takes any more
	err := s.task.Sink.Apply(ctx, func() (*sdk.Frame, error) { return s.next(ctx) }, s.respond)
	if stop.IsDraining(ctx) {
		if err == nil || errors.Is(err, errHalfRound) || errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	if err == nil {
		err = diag.ConnLost.New("target", nil, "the target stopped taking changes")
	}
	return err
}

// runPoller asks the source what is visible: often while rounds wait for it, seldom otherwise.
func (s *Stream) runPoller(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	drained := context.AfterFunc(drainContext(ctx), cancel)
	defer drained()
	for {
		if _, err := s.horizon(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		s.work.ring()
		var bell <-chan struct{}
		wait := s.pollEvery()
		if wait == pollSlow || wait == pollIdle {
			bell = s.poll.c
		}
		if !sleep(ctx, wait, bell) {
			return nil
		}
	}
}

func (s *Stream) pollEvery() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.feed.blind:
		return pollFast
	case s.gate.AllDone():
		return pollIdle
	}
	return pollSlow
}

// horizon asks the source for a fresh horizon and prunes the transactions that it shows.
func (s *Stream) horizon(ctx context.Context) (*connectorv1.PositionResponse, error) {
	s.mu.Lock()
	received := s.stats.read
	s.mu.Unlock()
	p, err := s.task.Source.Position(ctx, &connectorv1.PositionRequest{Pipeline: s.task.Pipeline, Received: received})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate.Horizon(p.Horizon)
	s.stats.retained, s.stats.unread, s.stats.compared = p.RetainedLogBytes, p.UnreadLogBytes, true
	s.stats.end = p.Position
	return p, nil
}

// Handle answers the coordinator's requests to the gate; any goroutine may call it, at any time of the task.
func (s *Stream) Handle(ctx context.Context, req *fleetv1.GateRequest) *fleetv1.GateReply {
	reply := &fleetv1.GateReply{Id: req.Id, Pipeline: req.Pipeline}
	if err := s.handle(ctx, req, reply); err != nil {
		reply.Failure = wire.Failure(err)
	}
	return reply
}

func (s *Stream) handle(ctx context.Context, req *fleetv1.GateRequest, reply *fleetv1.GateReply) error {
	select {
	case <-s.ready:
	case <-ctx.Done():
		return diag.CallCancelled.New("gate", ctx.Err(), "the stream has not started")
	}
	defer s.work.ring()
	switch k := req.Kind.(type) {
	case *fleetv1.GateRequest_Reserve:
		return s.reserve(ctx, k.Reserve, reply)
	case *fleetv1.GateRequest_Reset_:
		return s.reset(ctx, k.Reset_)
	case *fleetv1.GateRequest_Hold:
		return s.hold(ctx, reply)
	case *fleetv1.GateRequest_Barrier:
		return s.reach(ctx, k.Barrier.GetCoverage(), reply)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch k := req.Kind.(type) {
	case *fleetv1.GateRequest_Written:
		return s.gate.Written(k.Written)
	case *fleetv1.GateRequest_Forget:
		s.gate.Forget(k.Forget)
		return nil
	case *fleetv1.GateRequest_Loaded:
		return s.gate.TablesLoaded(k.Loaded.Tables)
	case *fleetv1.GateRequest_Resume:
		reply.Missed = s.resume()
		return nil
	}
	return internal("a request of unknown kind")
}

func (s *Stream) reserve(ctx context.Context, r *fleetv1.Reserve, reply *fleetv1.GateReply) (err error) {
	if err := fault.Point("gate.before-reserve"); err != nil {
		return err
	}
	if _, err := s.horizon(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	reply.Floor, err = s.gate.Reserve(r)
	return errors.Join(err, fault.Point("gate.after-reserve"))
}

// reset drops everything for the tables from now on, and answers once nothing of them is on its way to the
// target any more: only then may they be emptied (Invariant 15).
func (s *Stream) reset(ctx context.Context, r *fleetv1.ResetTables) error {
	s.mu.Lock()
	err := s.gate.ResetTables(r.Tables, r.Aside)
	mark := s.feed.released
	s.mu.Unlock()
	for err == nil {
		s.mu.Lock()
		through := bytes.Compare(s.feed.committed, mark) >= 0 || !s.feed.busy()
		s.mu.Unlock()
		if through {
			return nil
		}
		if !sleep(ctx, pollFast, s.commit.c) {
			return diag.CallCancelled.New("gate", ctx.Err(), "rows of the table were still on their way to the target")
		}
	}
	return err
}
