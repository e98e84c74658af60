package trace_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	metriccollector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// gauges keeps the newest value of every series, named "metric attribute attribute", and the largest one ever.
type gauges struct {
	metriccollector.UnimplementedMetricsServiceServer
	mu            sync.Mutex
	last, largest map[string]float64
}

func (g *gauges) Export(_ context.Context, q *metriccollector.ExportMetricsServiceRequest) (*metriccollector.ExportMetricsServiceResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, res := range q.ResourceMetrics {
		for _, scope := range res.ScopeMetrics {
			for _, m := range scope.Metrics {
				for _, p := range append(m.GetSum().GetDataPoints(), m.GetGauge().GetDataPoints()...) {
					name := m.Name + labels(p.Attributes)
					v := float64(p.GetAsInt()) + p.GetAsDouble()
					g.last[name], g.largest[name] = v, max(v, g.largest[name])
				}
			}
		}
	}
	return &metriccollector.ExportMetricsServiceResponse{}, nil
}

func labels(all []*commonv1.KeyValue) string {
	var b strings.Builder
	for _, a := range all { // sorted by the SDK
		b.WriteString(" " + a.Value.GetStringValue())
	}
	return b.String()
}

// is waits until a series has a value, or one that holds.
func (g *gauges) is(t *testing.T, name string, ok func(last, largest float64) bool) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		v, found := g.last[name]
		if !found || !ok(v, g.largest[name]) {
			return fmt.Errorf("%s: found %v, last %v, largest %v; all: %v", name, found, v, g.largest[name], g.last)
		}
		return nil
	})
}

func equals(n float64) func(float64, float64) bool {
	return func(last, _ float64) bool { return last == n }
}

// lock keeps everybody from a table until unlock is called.
func lock(t *testing.T, url, table string) (unlock func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err == nil {
		_, err = conn.Exec(t.Context(), "BEGIN; LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE")
	}
	if err != nil {
		t.Fatal(err)
	}
	unlock = sync.OnceFunc(func() { _ = conn.Close(context.Background()) })
	t.Cleanup(unlock)
	return unlock
}

// What the metrics say is true: as many rows as were copied and changed, lag while the target is locked and none after.
func TestMetrics_SayWhatIsTrue(t *testing.T) {
	source, target := dev.Database(t), dev.Database(t)
	dev.MustExec(t, source, "CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT i, 'v' FROM generate_series(1, 1234) i")
	r, env := listen(t)
	f := harness.StartFleet(t, harness.FleetOptions{Env: append(env, "OTEL_METRIC_EXPORT_INTERVAL=300")})
	f.Apply(t, "m", source, target, "cdc: {heartbeat: 1s}")
	f.Await(t, "m", "phase=streaming")
	r.gauges.is(t, "drover.rows m load", equals(1234))
	r.gauges.is(t, "drover.bytes m load", func(last, _ float64) bool { return last > 1234*4 && last < 1234*100 })
	r.gauges.is(t, "drover.credits src read offered", func(last, _ float64) bool { return last >= 1 })
	r.gauges.is(t, "drover.credits src read used", equals(0))
	r.gauges.is(t, "drover.log.retained m", func(last, _ float64) bool { return last > 0 })

	unlock := lock(t, target, "a")
	dev.MustExec(t, source, "INSERT INTO a SELECT i, repeat('w', 100) FROM generate_series(2001, 2500) i")
	r.gauges.is(t, "drover.lag m apply", func(last, _ float64) bool { return last > 0.5 })
	r.gauges.is(t, "drover.lag.bytes m apply", func(last, _ float64) bool { return last > 500*100 })
	unlock()
	r.gauges.is(t, "drover.rows m stream", equals(500))
	r.gauges.is(t, "drover.transactions m stream", equals(1))
	r.gauges.is(t, "drover.rounds m stream", equals(1))
	for _, stage := range []string{"read", "transfer", "apply"} {
		r.gauges.is(t, "drover.lag m "+stage, equals(0))
		r.gauges.is(t, "drover.lag.bytes m "+stage, equals(0))
	}
}
