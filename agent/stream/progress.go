package stream

import (
	"context"
	"time"

	"github.com/droverdb/drover/internal/telemetry"
	"github.com/droverdb/drover/plugins/sdk"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// stats counts what is committed at the target.
type stats struct {
	rounds, txns, changes, discarded int64
	sourceMicros, retained           int64
	sampled                          time.Time
}

func (c *stats) applied(x sent) {
	c.rounds += x.rounds
	c.txns += x.txns
	c.changes += x.changes
	c.discarded += x.discarded
	if x.newest > 0 {
		c.sourceMicros = x.newest
	}
}

// sample starts a trace of a round about once a second: from here to the commit, through every process on the way. mu is held.
func (s *Stream) sample(begin *sdk.Frame) {
	f := &s.feed
	if f.cur.span != nil || time.Since(s.stats.sampled) < sampleEvery {
		return
	}
	s.stats.sampled = time.Now()
	ctx, span := telemetry.Tracer().Start(s.trace, "round")
	f.cur.span, begin.Header.Traceparent = span, telemetry.Inject(ctx)
}

func (x *sent) endTrace() {
	if x.span != nil {
		x.span.End()
	}
}

// Progress tells how far the stream is. Any goroutine may call it; before the stream has started all is zero.
func (s *Stream) Progress() *fleetv1.StreamProgress {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &fleetv1.StreamProgress{}
	if s.gate == nil {
		return p
	}
	p.Applied, p.Received = s.feed.committed, s.gate.received
	p.AppliedSourceMicros = s.stats.sourceMicros
	p.Rounds, p.Transactions = s.stats.rounds, s.stats.txns
	p.Changes, p.Dropped = s.stats.changes, s.stats.discarded
	p.HeldBytes = s.queue.bytes
	p.OverlappingChunks = int32(s.gate.Overlapping())
	p.RetainedLogBytes = s.stats.retained
	p.PassedTables = append(p.PassedTables, s.gate.Passed()...)
	if at := s.oldest(); at > 0 {
		p.LagMicros = max(0, time.Now().UnixMicro()-at)
	}
	return p
}

// oldest is the commit time of the oldest transaction that has rows for the target and is not committed there.
func (s *Stream) oldest() int64 {
	for _, x := range s.feed.inflight {
		if x.first > 0 {
			return x.first
		}
	}
	if s.feed.half {
		return s.feed.cur.first
	}
	for _, it := range s.queue.items {
		if it.begin != nil && len(it.begin.CommitMicros) > 0 {
			return it.begin.CommitMicros[0]
		}
	}
	return 0
}

// runReporter hands progress over about once a second: a hint, after everything is durable (Invariant 7).
func (s *Stream) runReporter(ctx context.Context) error {
	if s.task.Report == nil {
		return nil
	}
	drain, cancel := context.WithCancel(drainContext(ctx))
	defer cancel()
	unhook := context.AfterFunc(ctx, cancel)
	defer unhook()
	for sleep(drain, time.Second, nil) {
		s.task.Report(s.Progress())
	}
	return nil
}
