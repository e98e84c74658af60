package telemetry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

func clearEnvironment(t *testing.T) {
	t.Helper()
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
		"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_SDK_DISABLED", FormatVar, LevelVar} {
		t.Setenv(name, "")
	}
}

func TestSetup_IsOffUnlessConfigured(t *testing.T) {
	clearEnvironment(t)
	shutdown, err := Setup(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := Tracer().Start(t.Context(), "nothing")
	defer span.End()
	if span.IsRecording() || Inject(ctx) != "" {
		t.Error("records without an endpoint")
	}
	if err := errors.Join(shutdown(t.Context()), shutdown(t.Context())); err != nil {
		t.Error(err)
	}
}

type sink struct {
	collector.UnimplementedTraceServiceServer
	spans atomic.Int64
}

func (s *sink) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	for _, resource := range r.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			s.spans.Add(int64(len(scope.Spans)))
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func TestSetup_ExportsToTheStandardEndpointAndFlushes(t *testing.T) {
	clearEnvironment(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	received := &sink{}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, received)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-served })

	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"+listener.Addr().String())
	shutdown, err := Setup(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := Tracer().Start(t.Context(), "parent")
	_, child := Tracer().Start(Extract(context.Background(), Inject(ctx)), "child")
	if child.SpanContext().TraceID() != span.SpanContext().TraceID() {
		t.Error("the trace does not cross Inject and Extract")
	}
	child.End()
	span.End()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if n := received.spans.Load(); n != 2 {
		t.Errorf("%d spans arrived, want 2", n)
	}
}

func TestExtract_LeavesTheContextForGarbage(t *testing.T) {
	ctx := Extract(t.Context(), "not a traceparent")
	if trace.SpanContextFromContext(ctx).IsValid() {
		t.Error("a span from garbage")
	}
}

func TestSetup_RefusesUnknownLogSettings(t *testing.T) {
	for _, name := range []string{FormatVar, LevelVar} {
		t.Run(name, func(t *testing.T) {
			clearEnvironment(t)
			t.Setenv(name, "loud")
			if _, err := Setup(t.Context(), "test"); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestRedact_MasksPasswordsAndNothingElse(t *testing.T) {
	for in, want := range map[string]string{
		"postgres://u:s3cret@h:5432/db":                                      "postgres://u:***@h:5432/db",
		"a postgres://u:p@ss/w@h/db and mysql://v:q@h b":                     "a postgres://u:***@h/db and mysql://v:***@h b",
		"postgres://u@h:5432/db":                                             "postgres://u@h:5432/db",
		`drover doctor 'postgres://u:p@ss/w?o%25r@h:1/d' 'postgres://v@h/e'`: `drover doctor 'postgres://u:***@h:1/d' 'postgres://v@h/e'`,
		"malformed URL: postgres://u:p@s:s/w?o#r%d &'\"x@h/d":                "malformed URL: postgres://u:***@h/d",
		"postgres://u:ab://cd@h/d":                                           "postgres://u:***@h/d",
		"postgres://u@h/d?sslpassword=a'b;c&sslmode=on":                      "postgres://u@h/d?sslpassword=***&sslmode=on",
		`host=h password=a\ b'c user=u`:                                      "host=h password=*** user=u",
		"host=h password='a b":                                               "host=h password='***",
		"password: two words\nmode: x":                                       "password: ***\nmode: x",
		"http://h:8080/x":                                                    "http://h:8080/x",
		"host=h password=s3cret user=u":                                      "host=h password=*** user=u",
		`host=h password='s3 c\'ret' user=u`:                                 `host=h password='***' user=u`,
		"postgres://h/db?user=u&password=s3cret&sslmode=on":                  "postgres://h/db?user=u&password=***&sslmode=on",
		"no secret here":                                                     "no secret here",
		"   3 | password: s3cret\n   4 | mode: x":                            "   3 | password: ***\n   4 | mode: x",
		"FATAL: password authentication failed":                              "FATAL: password authentication failed",
	} {
		if got := Redact(in); got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
}

func TestLogger_MasksEveryKindOfValue(t *testing.T) {
	const secret = "s3cret"
	address := "postgres://u:" + secret + "@h/db"
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	for _, json := range []bool{false, true} {
		var out bytes.Buffer
		l := NewLogger(&out, json, slog.LevelInfo)
		l.With("with", address).Info("to "+address, "s", address, "err", errors.New(address), "url", parsed,
			"list", []string{address}, slog.Group("g", "s", address))
		if strings.Contains(out.String(), secret) {
			t.Errorf("json=%v: %s", json, out.String())
		}
		if n := strings.Count(out.String(), "u:***@h/db"); n < 6 {
			t.Errorf("json=%v: %d masked, want at least 6: %s", json, n, out.String())
		}
	}
}
