// Package trace_test receives a real OTLP export and follows one chunk through every process.
package trace_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// receiver is an OTLP endpoint that keeps the spans of every trace, named "service span kind".
type receiver struct {
	collector.UnimplementedTraceServiceServer
	mu     sync.Mutex
	traces map[string][]string
}

func (r *receiver) Export(_ context.Context, q *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, res := range q.ResourceSpans {
		service := ""
		for _, a := range res.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.GetStringValue()
			}
		}
		for _, scope := range res.ScopeSpans {
			for _, s := range scope.Spans {
				r.traces[string(s.TraceId)] = append(r.traces[string(s.TraceId)], service+" "+s.Name+" "+kind(s))
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func kind(s *tracev1.Span) string {
	if s.Kind == tracev1.Span_SPAN_KIND_SERVER {
		return "server"
	}
	return ""
}

// listen starts the endpoint.
func listen(t *testing.T) (*receiver, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{traces: map[string][]string{}}
	s := grpc.NewServer()
	collector.RegisterTraceServiceServer(s, r)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	return r, "http://" + l.Addr().String()
}

// has looks for one trace that holds every one of the spans.
func (r *receiver) has(spans ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, names := range r.traces {
		all := strings.Join(names, "\n") + "\n"
		found := 0
		for _, s := range spans {
			if strings.Contains(all, s) {
				found++
			}
		}
		if found == len(spans) {
			return nil
		}
	}
	return fmt.Errorf("no trace of %d holds all of %q: %v", len(r.traces), spans, r.traces)
}

func TestTrace_FollowsAChunkThroughEveryProcess(t *testing.T) {
	source, target := dev.Database(t), dev.Database(t)
	dev.MustExec(t, source, "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 1000)")
	r, endpoint := listen(t)
	p := harness.Start(t, harness.Command{Args: []string{"copy", source, target, "--data", t.TempDir()},
		Env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint, "OTEL_BSP_SCHEDULE_DELAY=200"}})
	if res := p.Wait(); res.Code != 0 {
		t.Fatal(res)
	}
	harness.Eventually(t, 10*time.Second, func() error {
		return r.has("drover coordinator.grant", "drover load", "drover-connector-postgres drover.connector.v1.RowsService/ReadChunks server",
			"drover-connector-postgres drover.connector.v1.RowsService/WriteChunks server")
	})
}
