// Package telemetry is Drover's one entry to OpenTelemetry and to logging.
//
// Traces and metrics leave by OTLP when the standard variables name an endpoint (OTEL_EXPORTER_OTLP_ENDPOINT and its
// kin), and are off otherwise: Tracer and Meter then cost next to nothing. Row values, SQL literals and secrets belong
// in none of them; the log handler masks passwords in URLs as a second line of defence, not as a licence.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/droverdb/drover"

// Setup starts the exporters that the environment asks for and makes this process's log plain or JSON (DROVER_LOG).
// The returned shutdown flushes what is buffered, within the context's deadline; it is never nil and safe to call twice.
// An endpoint that does not answer is no error: exporting retries in the background and drops what it cannot send.
func Setup(ctx context.Context, service string) (shutdown func(context.Context) error, err error) {
	log, err := fromEnvironment(os.Stderr)
	if err != nil {
		return nothing, err
	}
	setLogger(log)
	otel.SetTextMapPropagator(propagator)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("telemetry: export failed", "err", err) }))
	profiled, err := startProfile(service)
	if err != nil || os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return profiled, err
	}
	stops := []func(context.Context) error{profiled}
	shutdown = func(ctx context.Context) error {
		var errs []error
		for _, stop := range stops {
			errs = append(errs, stop(ctx))
		}
		stops = nil
		return errors.Join(errs...)
	}
	res, err := describe(service)
	if err != nil {
		return shutdown, err
	}
	if configured("TRACES") {
		stop, err := startTraces(ctx, res)
		if err != nil {
			return shutdown, err
		}
		stops = append(stops, stop)
	}
	if configured("METRICS") {
		stop, err := startMetrics(ctx, res)
		if err != nil {
			return shutdown, errors.Join(err, shutdown(ctx))
		}
		stops = append(stops, stop)
	}
	return shutdown, nil
}

func nothing(context.Context) error { return nil }

// configured reports whether the standard variables name an endpoint for the signal.
func configured(signal string) bool {
	if os.Getenv("OTEL_"+signal+"_EXPORTER") == "none" {
		return false
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

// describe names this process; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
func describe(service string) (*resource.Resource, error) {
	own := resource.NewSchemaless(attribute.String("service.name", service), attribute.Int("process.pid", os.Getpid()))
	if os.Getenv("OTEL_SERVICE_NAME") == "" && !strings.Contains(os.Getenv("OTEL_RESOURCE_ATTRIBUTES"), "service.name=") {
		return merge(resource.Environment(), own)
	}
	return merge(own, resource.Environment())
}

// merge lets b win.
func merge(a, b *resource.Resource) (*resource.Resource, error) {
	res, err := resource.Merge(a, b)
	if err != nil {
		return nil, fmt.Errorf("telemetry: resource: %w", err)
	}
	return res, nil
}

func startTraces(ctx context.Context, res *resource.Resource) (func(context.Context) error, error) {
	exporter, err := otlptracegrpc.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("telemetry: traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(res))
	otel.SetTracerProvider(provider)
	tracing.Store(true)
	return provider.Shutdown, nil
}

func startMetrics(ctx context.Context, res *resource.Resource) (func(context.Context) error, error) {
	exporter, err := otlpmetricgrpc.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("telemetry: metrics: %w", err)
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)), sdkmetric.WithResource(res))
	otel.SetMeterProvider(provider)
	measuring.Store(true)
	return provider.Shutdown, nil
}

var tracing, measuring atomic.Bool

// Tracing reports whether Setup started an exporter of traces. What costs something for every message or row asks first.
func Tracing() bool { return tracing.Load() }

// On reports whether Setup started an exporter of anything.
func On() bool { return tracing.Load() || measuring.Load() }

// Tracer is Drover's tracer; it does nothing unless Setup found an endpoint.
func Tracer() trace.Tracer { return otel.Tracer(scope) }

// Meter is Drover's meter; it does nothing unless Setup found an endpoint.
func Meter() metric.Meter { return otel.Meter(scope) }

var propagator = propagation.TraceContext{}

// Inject is the W3C traceparent of ctx's span, "" without one. It travels in messages of our own.
func Inject(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagator.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// Extract makes the span of a traceparent the parent of spans started under the returned context.
// What is not a traceparent leaves ctx as it is.
func Extract(ctx context.Context, traceparent string) context.Context {
	return propagator.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
}
