package sdk

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/droverdb/drover/internal/telemetry"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// sampleEvery bounds how often a round is traced.
const sampleEvery = time.Second

// sampler starts a trace for about one round a second, where the round begins: in the source's connector. The trace
// travels in the frame that begins the round. Each is a trace of its own, linked to the call: a stream lasts weeks.
type sampler struct {
	call context.Context
	emit func(*Frame) error
	last time.Time
	span trace.Span
}

// traced is emit, with sampled rounds traced; emit itself when nobody listens.
func traced(call context.Context, emit func(*Frame) error) (func(*Frame) error, func()) {
	if !telemetry.Tracing() {
		return emit, func() {}
	}
	s := &sampler{call: call, emit: emit}
	return s.send, s.end
}

func (s *sampler) send(f *Frame) error {
	if b := f.Header.GetRoundBegin(); b != nil && b.Piece == 0 && time.Since(s.last) >= sampleEvery {
		s.end()
		s.last = time.Now()
		var ctx context.Context
		ctx, s.span = telemetry.Tracer().Start(s.call, "source.read", trace.WithNewRoot(), trace.WithLinks(trace.LinkFromContext(s.call)),
			trace.WithAttributes(attribute.Int("drover.transactions", len(b.TxnIds))))
		f.Header.Traceparent = telemetry.Inject(ctx)
	}
	last := f.Header.GetRoundEnd()
	err := s.emit(f)
	if last != nil && !last.Open {
		s.end()
	}
	return err
}

func (s *sampler) end() {
	if s.span != nil {
		s.span.End()
		s.span = nil
	}
}

// rounds follows traced rounds through the target's connector: from the first frame to the answer.
type rounds struct {
	call context.Context

	mu   sync.Mutex
	open []*tracedRound
}

type tracedRound struct {
	seq           uint64
	ctx           context.Context
	apply, commit trace.Span
}

// taken hears of every frame that the connector takes.
func (r *rounds) taken(f *Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := f.Header.GetRoundBegin(); b != nil && f.Header.Traceparent != "" {
		x := &tracedRound{seq: b.Seq}
		x.ctx, x.apply = telemetry.Tracer().Start(telemetry.Extract(r.call, f.Header.Traceparent), "sink.apply",
			trace.WithLinks(trace.LinkFromContext(r.call)))
		r.open = append(r.open, x)
	}
	if e := f.Header.GetRoundEnd(); e != nil && !e.Open && len(r.open) > 0 {
		if x := r.open[len(r.open)-1]; x.seq == e.Seq && x.commit == nil {
			_, x.commit = telemetry.Tracer().Start(x.ctx, "sink.commit")
		}
	}
}

// committed hears of every answer.
func (r *rounds) committed(a *connectorv1.RoundAck) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for a != nil && len(r.open) > 0 && r.open[0].commit != nil && r.open[0].seq <= a.Seq {
		r.open[0].apply.SetAttributes(attribute.Int64("drover.rows", a.Rows))
		r.open[0].end()
		r.open = r.open[1:]
	}
}

func (r *rounds) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.open {
		x.end()
	}
	r.open = nil
}

func (x *tracedRound) end() {
	if x.commit != nil {
		x.commit.End()
	}
	x.apply.End()
}

// tracedApply wraps both directions of an Apply.
func tracedApply(call context.Context, next func() (*Frame, error), respond func(*connectorv1.ApplyResponse) error) (
	func() (*Frame, error), func(*connectorv1.ApplyResponse) error, func()) {
	if !telemetry.Tracing() {
		return next, respond, func() {}
	}
	r := &rounds{call: call}
	take := func() (*Frame, error) {
		f, err := next()
		if err == nil {
			r.taken(f)
		}
		return f, err
	}
	answer := func(a *connectorv1.ApplyResponse) error {
		r.committed(a.GetCommitted())
		return respond(a)
	}
	return take, answer, r.end
}

// tracedWrite shows what a WriteChunks does after the last row has arrived, its commit above all, as a span of its own.
func tracedWrite(call context.Context, next func() (*Frame, error)) (func() (*Frame, error), func()) {
	if !telemetry.Tracing() {
		return next, func() {}
	}
	var mu sync.Mutex // a connector may take from another goroutine
	var span trace.Span
	take := func() (*Frame, error) {
		f, err := next()
		mu.Lock()
		defer mu.Unlock()
		if errors.Is(err, io.EOF) && span == nil {
			_, span = telemetry.Tracer().Start(call, "sink.commit")
		}
		return f, err
	}
	return take, func() {
		mu.Lock()
		defer mu.Unlock()
		if span != nil {
			span.End()
		}
	}
}
