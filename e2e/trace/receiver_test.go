package trace_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	metriccollector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracecollector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	resourcev1 "go.opentelemetry.io/proto/otlp/resource/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// receiver is an OTLP endpoint that keeps the spans of every trace, named "service span kind".
type receiver struct {
	tracecollector.UnimplementedTraceServiceServer
	mu     sync.Mutex
	traces map[string][]string
	raw    []byte // all that ever came
	gauges *gauges
}

func (r *receiver) Export(_ context.Context, q *tracecollector.ExportTraceServiceRequest) (*tracecollector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	raw, err := proto.Marshal(q)
	if err != nil {
		return nil, err
	}
	r.raw = append(r.raw, raw...)
	for _, res := range q.ResourceSpans {
		service := attribute(res.Resource, "service.name")
		for _, scope := range res.ScopeSpans {
			for _, s := range scope.Spans {
				r.traces[string(s.TraceId)] = append(r.traces[string(s.TraceId)], service+" "+s.Name+" "+kind(s))
			}
		}
	}
	return &tracecollector.ExportTraceServiceResponse{}, nil
}

func attribute(r *resourcev1.Resource, key string) string {
	for _, a := range r.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

func kind(s *tracev1.Span) string {
	if s.Kind == tracev1.Span_SPAN_KIND_SERVER {
		return "server"
	}
	return ""
}

// listen starts the endpoint and returns the environment of processes that send to it.
func listen(t *testing.T) (*receiver, []string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{traces: map[string][]string{}, gauges: &gauges{last: map[string]float64{}, largest: map[string]float64{}}}
	s := grpc.NewServer()
	metriccollector.RegisterMetricsServiceServer(s, r.gauges)
	tracecollector.RegisterTraceServiceServer(s, r)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	return r, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + l.Addr().String(), "OTEL_BSP_SCHEDULE_DELAY=200"}
}

// has looks for one trace that holds every one of the spans.
func (r *receiver) has(spans ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	best, missing := 0, spans
	for _, names := range r.traces {
		all := strings.Join(names, "\n") + "\n"
		var left []string
		for _, s := range spans {
			if !strings.Contains(all, s) {
				left = append(left, s)
			}
		}
		if len(left) == 0 {
			return nil
		}
		if found := len(spans) - len(left); found > best {
			best, missing = found, left
		}
	}
	return fmt.Errorf("none of %d traces holds all of %q; the best one lacks %q", len(r.traces), spans, missing)
}
