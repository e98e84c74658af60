package stream

import (
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const traceID = "0af7651916cd43dd8448eb211c80319c"

// A round that the source's connector traces stays one trace to its commit; a round that it does not costs no span.
func TestStream_HandsTheTraceOfARoundOn(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	r := start(t, 0)
	for i, parent := range []string{"", "00-" + traceID + "-b7ad6b7169203331-01"} {
		r.send(&rowv1.FrameHeader{Traceparent: parent, Kind: &rowv1.FrameHeader_RoundBegin{RoundBegin: &rowv1.RoundBegin{Seq: r.seq,
			Positions: pos(20 + i), TxnIds: []uint64{120 + uint64(i)}, CommitMicros: []int64{1}}}}, nil)
		r.rows("a")
		r.end(20+i, false)
		r.sink.permits <- struct{}{}
		for h := r.next(); h.GetRoundEnd() == nil; h = r.next() {
			if h.GetRoundBegin() == nil {
				continue
			}
			if h.Traceparent == parent && i == 1 || !strings.Contains(h.Traceparent, traceID) == (i == 1) {
				t.Errorf("round %d goes to the target with %q", i, h.Traceparent)
			}
		}
	}
	r.eventually("the commit in the progress", func() bool { return strings.Contains(r.stream.Progress().Traceparent, traceID) })
	var names []string
	for _, s := range recorder.Ended() {
		if s.SpanContext().TraceID().String() == traceID {
			names = append(names, s.Name())
		}
	}
	if got := strings.Join(names, " "); got != "gate.hold round" {
		t.Errorf("spans %q", got)
	}
}
