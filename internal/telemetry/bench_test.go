package telemetry

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/metric"
)

// Off, counting (every round) allocates nothing, and a span (every task; rounds ask Tracing first) next to nothing.
func TestOff_CostsNextToNothing(t *testing.T) {
	clearEnvironment(t)
	count, err := Meter().Int64Counter("x")
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { offRound(count) }); n > 0 {
		t.Errorf("a round costs %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, offTask); n > 3 {
		t.Errorf("a task costs %v allocations", n)
	}
}

func offRound(count metric.Int64Counter) {
	if Tracing() {
		panic("telemetry is on")
	}
	count.Add(context.Background(), 1)
}

func offTask() {
	ctx, span := Tracer().Start(context.Background(), "x")
	_ = Inject(ctx)
	span.End()
}

func BenchmarkOff_Round(b *testing.B) {
	count, err := Meter().Int64Counter("x")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		offRound(count)
	}
}

func BenchmarkOff_Task(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		offTask()
	}
}
