package stream

import (
	"bytes"
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/droverdb/drover/internal/telemetry"
	"github.com/droverdb/drover/plugins/sdk"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// stats counts what is committed at the target.
type stats struct {
	rounds, txns, changes, discarded int64
	sourceMicros, retained           int64
	// read is up to where the log was received, readMicros the time of that at the source, unread the log after it.
	read               []byte
	readMicros, unread int64
	// compared: the source has told once how much log it has, and end is where that ended.
	compared bool
	end      []byte
	// trace is that of the last traced round that was committed.
	trace string
}

func (c *stats) applied(x sent) {
	c.rounds += x.rounds
	c.txns += x.txns
	c.changes += x.changes
	c.discarded += x.discarded
	if x.newest > 0 {
		c.sourceMicros = x.newest
	}
	if x.trace != "" {
		c.trace = x.trace
	}
}

// known reports whether a lag can be told: of log of which nothing was received yet nobody knows the age.
func (c *stats) known() bool { return c.compared && (c.unread == 0 || c.readMicros > 0) }

// received notes how far the log was read.
func (c *stats) received(h *rowv1.FrameHeader) {
	switch k := h.Kind.(type) {
	case *rowv1.FrameHeader_RoundEnd:
		if !k.RoundEnd.Open {
			c.read = k.RoundEnd.Position
		}
	case *rowv1.FrameHeader_RoundBegin:
		if n := len(k.RoundBegin.CommitMicros); n > 0 {
			c.readMicros = k.RoundBegin.CommitMicros[n-1]
		}
	case *rowv1.FrameHeader_Idle:
		c.read, c.readMicros = k.Idle.Position, k.Idle.SourceMicros
		if bytes.Compare(c.read, c.end) >= 0 { // a server also says where it is while it passes over what is not ours
			c.unread = 0
		}
	}
}

// Traces of rounds begin in the source's connector, for about one round a second. Here a round is held by the gate,
// then on its way to the commit; both are spans of that trace.

// holdTrace begins the span of a traced round that the gate holds. mu is held.
func (s *Stream) holdTrace(f *sdk.Frame) {
	if f.Header.Traceparent == "" || s.queue.open == nil || f.Header.GetRoundBegin() == nil {
		return
	}
	ctx := telemetry.Extract(s.trace, f.Header.Traceparent)
	_, s.queue.open.hold = telemetry.Tracer().Start(ctx, "gate.hold", s.traceOptions()...)
}

// releaseTrace begins the span of a round that is released, and hands the trace on. mu is held.
func (s *Stream) releaseTrace(begin *sdk.Frame) {
	f := &s.feed
	if begin.Header.Traceparent == "" || f.cur.span != nil {
		return
	}
	ctx, span := telemetry.Tracer().Start(telemetry.Extract(s.trace, begin.Header.Traceparent), "round", s.traceOptions()...)
	begin.Header.Traceparent = telemetry.Inject(ctx)
	f.cur.span, f.cur.trace = span, begin.Header.Traceparent
}

func (s *Stream) traceOptions() []trace.SpanStartOption {
	return []trace.SpanStartOption{trace.WithLinks(trace.LinkFromContext(s.trace)),
		trace.WithAttributes(attribute.String("drover.pipeline", s.task.Pipeline))}
}

func (x *sent) endTrace() {
	if x.span != nil {
		x.span.SetAttributes(attribute.Int64("drover.changes", x.changes), attribute.Int64("drover.dropped", x.discarded))
		x.span.End()
	}
}

func (it *item) endHold() {
	if it.hold != nil {
		it.hold.End()
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
	p.Traceparent = s.stats.trace
	p.PassedTables = append(p.PassedTables, s.gate.Passed()...)
	if at := s.oldest(); at > 0 {
		p.LagMicros = max(0, time.Now().UnixMicro()-at)
	}
	s.lags(p, time.Now())
	p.LagKnown, p.LagMicros = s.stats.known(), max(p.LagMicros, p.ReadLagMicros)
	return p
}

// lags tells where the lag is: between the log and us, in the gate, between us and the commit. mu is held.
func (s *Stream) lags(p *fleetv1.StreamProgress, now time.Time) {
	if p.ReadLagBytes = s.stats.unread; p.ReadLagBytes > 0 && s.stats.readMicros > 0 {
		p.ReadLagMicros = max(0, now.UnixMicro()-s.stats.readMicros)
	}
	p.TransferLagBytes = s.queue.bytes
	for _, it := range s.queue.items {
		if it.begin != nil {
			p.TransferLagMicros = max(0, now.Sub(it.at).Microseconds())
			break
		}
	}
	for _, x := range s.feed.inflight {
		if x.bytes > 0 && p.ApplyLagBytes == 0 {
			p.ApplyLagMicros = max(0, now.Sub(x.at).Microseconds())
		}
		p.ApplyLagBytes += x.bytes
	}
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

// Unseen are the transactions that the next round waits for, because no snapshot of the source sees them yet. Any
// goroutine may call it.
func (s *Stream) Unseen() (ids []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate == nil || !s.feed.blind {
		return nil
	}
	for _, d := range s.gate.delivered {
		ids = append(ids, d.ids...)
	}
	return ids
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
