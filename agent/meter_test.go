package agent

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/droverdb/drover/internal/diag"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// What the target refuses is counted, what was merely cancelled is not; chunks that were there before count once.
func TestMeter_CountsRefusalsAndRowsOnce(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })
	m, err := newMeter(&Agent{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	task := &fleetv1.Task{Pipeline: "p", Work: &fleetv1.Task_Load{}}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	m.failed(t.Context(), task, diag.FencedOut.New("target", nil, ""))
	m.failed(cancelled, task, diag.FencedOut.New("task", nil, ""))
	m.failed(t.Context(), task, diag.ConnLost.New("target", nil, ""))
	result := &fleetv1.LoadResult{Results: []*rowv1.ChunkResult{{Rows: 3, Bytes: 30}, {Rows: 4, Bytes: 40}}}
	m.loaded(t.Context(), task, result)
	result.AlreadyWritten = true
	m.loaded(t.Context(), task, result)

	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, x := range scope.Metrics {
			if sum, ok := x.Data.(metricdata.Sum[int64]); ok {
				for _, p := range sum.DataPoints {
					got[x.Name] += p.Value
				}
			}
		}
	}
	for name, want := range map[string]int64{"drover.epochs.refused": 1, "drover.rows": 7, "drover.bytes": 70} {
		if got[name] != want {
			t.Errorf("%s = %d, want %d", name, got[name], want)
		}
	}
}
