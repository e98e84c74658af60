package agent

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/droverdb/drover/agent/stream"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/telemetry"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// meter holds the agent's metrics; docs/how-to/telemetry.md lists them. Counters count what the target has committed.
type meter struct {
	rows, bytes, rounds, transactions, refused metric.Int64Counter
	lag                                        metric.Float64ObservableGauge
	lagBytes, retained, credits                metric.Int64ObservableGauge
	observing                                  metric.Registration
}

// newMeter makes the metrics of an agent; gauges are observed when they are exported.
func newMeter(a *Agent) (*meter, error) {
	m, t, errs := &meter{}, telemetry.Meter(), make([]error, 0, 10)
	counter := func(name, unit, what string) metric.Int64Counter {
		c, err := t.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(what))
		errs = append(errs, err)
		return c
	}
	gauge := func(name, unit, what string) metric.Int64ObservableGauge {
		g, err := t.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(what))
		errs = append(errs, err)
		return g
	}
	m.rows = counter("drover.rows", "{row}", "rows and changes committed at the target")
	m.bytes = counter("drover.bytes", "By", "bytes of rows and changes committed at the target")
	m.rounds = counter("drover.rounds", "{round}", "rounds committed at the target")
	m.transactions = counter("drover.transactions", "{transaction}", "source transactions committed at the target")
	m.refused = counter("drover.epochs.refused", "{refusal}", "tasks that the target refused because a newer epoch owns the work")
	m.lagBytes = gauge("drover.lag.bytes", "By", "bytes that wait, by stage")
	m.retained = gauge("drover.log.retained", "By", "log that the source keeps for the slot")
	m.credits = gauge("drover.credits", "{task}", "load tasks at the same time, by side and whether offered or used")
	var err error
	m.lag, err = t.Float64ObservableGauge("drover.lag", metric.WithUnit("s"), metric.WithDescription("how long the oldest change has waited, by stage"))
	errs = append(errs, err)
	m.observing, err = t.RegisterCallback(func(_ context.Context, o metric.Observer) error { m.observe(a, o); return nil },
		m.lag, m.lagBytes, m.retained, m.credits)
	if err = errors.Join(append(errs, err)...); err != nil {
		return nil, diag.Internal.New("telemetry", err, "the agent's metrics cannot be made")
	}
	return m, nil
}

// of are the attributes of what a task counts.
func of(t *fleetv1.Task, work string) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String("drover.pipeline", t.Pipeline), attribute.String("drover.work", work)))
}

// loaded counts a load that the target has committed; chunks it had before were counted before.
func (m *meter) loaded(ctx context.Context, t *fleetv1.Task, r *fleetv1.LoadResult) {
	if r.AlreadyWritten {
		return
	}
	var rows, size int64
	for _, c := range r.Results {
		rows, size = rows+c.Rows, size+c.Bytes
	}
	m.rows.Add(ctx, rows, of(t, "load"))
	m.bytes.Add(ctx, size, of(t, "load"))
}

// committed counts the rounds of a stream.
func (m *meter) committed(t *fleetv1.Task) func(stream.Count) {
	labels := of(t, "stream")
	return func(c stream.Count) {
		ctx := context.Background()
		m.rows.Add(ctx, c.Changes, labels)
		m.bytes.Add(ctx, c.Bytes, labels)
		m.rounds.Add(ctx, c.Rounds, labels)
		m.transactions.Add(ctx, c.Transactions, labels)
	}
}

// failed counts what the target refused; a task that was merely cancelled was not refused.
func (m *meter) failed(ctx context.Context, t *fleetv1.Task, err error) {
	if diag.ClassOf(err) == diag.Fenced && ctx.Err() == nil {
		work := "load"
		if t.GetLoad() == nil {
			work = "stream"
		}
		m.refused.Add(context.Background(), 1, of(t, work))
	}
}

func (m *meter) observe(a *Agent, o metric.Observer) {
	a.mu.Lock()
	running := make([]*running, 0, len(a.running))
	for _, r := range a.running {
		running = append(running, r)
	}
	a.mu.Unlock()
	var used int64
	for _, r := range running {
		if r.task.GetLoad() != nil {
			used++
		}
		if p := r.progress(); p.GetStream() != nil {
			m.observeStream(o, r.task.Pipeline, p.Stream)
		}
	}
	for _, c := range []struct {
		side, state string
		n           int64
	}{{"read", "offered", int64(a.cfg.ReadCredits)}, {"write", "offered", int64(a.cfg.WriteCredits)}, {"read", "used", used}} {
		o.ObserveInt64(m.credits, c.n, metric.WithAttributes(attribute.String("drover.agent", a.cfg.Name),
			attribute.String("drover.side", c.side), attribute.String("drover.state", c.state)))
	}
}

func (m *meter) observeStream(o metric.Observer, pipeline string, p *fleetv1.StreamProgress) {
	name := attribute.String("drover.pipeline", pipeline)
	for _, s := range []struct {
		stage         string
		micros, bytes int64
	}{{"read", p.ReadLagMicros, p.ReadLagBytes}, {"transfer", p.TransferLagMicros, p.TransferLagBytes}, {"apply", p.ApplyLagMicros, p.ApplyLagBytes}} {
		stage := metric.WithAttributes(name, attribute.String("drover.stage", s.stage))
		o.ObserveFloat64(m.lag, float64(s.micros)/1e6, stage)
		o.ObserveInt64(m.lagBytes, s.bytes, stage)
	}
	o.ObserveInt64(m.retained, p.RetainedLogBytes, metric.WithAttributes(name))
}

func (m *meter) close() error { return m.observing.Unregister() }
