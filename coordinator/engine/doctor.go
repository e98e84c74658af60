package engine

import (
	"context"
	"time"

	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	"github.com/droverdb/drover/internal/telemetry"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// Doctor opens and checks both sides. Nothing is created.
func (e *Engine) Doctor(ctx context.Context, r *controlv1.DoctorRequest) (*controlv1.DoctorResponse, error) {
	mode := controlv1.Mode_MODE_FULL_LOAD
	if r.Follow {
		mode = controlv1.Mode_MODE_FULL_LOAD_AND_CDC
	}
	spec := &controlv1.Spec{Name: "doctor", Mode: mode, Source: r.Source, Target: r.Target, Include: r.Include, Exclude: r.Exclude}
	p := newPipeline(spec, store.State{}, e.store, e.Fleet) // never started: this goroutine is its actor
	p.run = newAttempt()
	limited, done := context.WithTimeout(ctx, 15*time.Second)
	defer done()
	if err := p.agents(limited); err != nil {
		return nil, diag.NoAgent.New("doctor", nil, "no agent can reach both sides")
	}
	d := &doctor{p: p, asked: r, out: &controlv1.DoctorResponse{Source: telemetry.Redact(r.Source.GetUrl()), Target: telemetry.Redact(r.Target.GetUrl())}, found: &connectorv1.DiscoverResponse{}}
	d.source(ctx)
	d.target(ctx)
	return d.out, nil
}

// doctor gathers what is wrong with both sides: a problem at one of them keeps nothing else from being looked at.
type doctor struct {
	p      *Pipeline
	asked  *controlv1.DoctorRequest
	out    *controlv1.DoctorResponse
	found  *connectorv1.DiscoverResponse
	opened *connectorv1.OpenResponse // of the source
}

func (d *doctor) source(ctx context.Context) {
	agent := d.p.run.reader
	opened := d.open(ctx, agent, d.p.onSource(&fleetv1.Task{}), "source")
	if opened == nil {
		return
	}
	d.out.Source, d.opened = opened.Display, opened
	d.check(ctx, agent, d.p.onSource(&fleetv1.Task{}), "source", connectorv1.Role_ROLE_SOURCE)
	found, err := d.p.readCatalog(ctx, &connectorv1.DiscoverRequest{Include: d.asked.Include, Exclude: d.asked.Exclude})
	if err != nil {
		d.problem("source", err)
		return
	}
	d.found = found
	d.out.Problems = append(d.out.Problems, d.found.Problems...)
}

func (d *doctor) target(ctx context.Context) {
	agent := d.p.run.writer
	opened := d.open(ctx, agent, d.p.onSink(&fleetv1.Task{}), "target")
	if opened == nil {
		return
	}
	d.out.Target = opened.Display
	if err := apart(d.opened, opened); err != nil {
		d.problem("target", err)
		return
	}
	d.check(ctx, agent, d.p.onSink(&fleetv1.Task{}), "target", connectorv1.Role_ROLE_SINK)
}

func (d *doctor) problem(side string, err error) {
	f := wire.Failure(err)
	d.out.Problems = append(d.out.Problems, &connectorv1.Problem{Code: f.Code, Object: f.Where, Reason: f.Why, Fix: f.Fix, Side: side})
}

// open answers nil when the side cannot be reached.
func (d *doctor) open(ctx context.Context, agent string, t *fleetv1.Task, side string) *connectorv1.OpenResponse {
	d.out.Checks++
	t.Work = &fleetv1.Task_Open{Open: &fleetv1.OpenTask{}}
	res, err := d.p.call(ctx, agent, t, nil)
	if err != nil {
		d.problem(side, err)
		return nil
	}
	return res.GetOpen().GetOpen()
}

func (d *doctor) check(ctx context.Context, agent string, t *fleetv1.Task, side string, role connectorv1.Role) {
	t.Work = &fleetv1.Task_Check{Check: &connectorv1.CheckRequest{Pipeline: "doctor", Role: role, Follow: d.asked.Follow,
		Tables: d.found.Tables, Steps: d.found.Steps, Packed: d.found.Packed, Include: d.asked.Include, Exclude: d.asked.Exclude,
		SourceVersion: d.opened.GetServerVersion(), SourceSorting: d.opened.GetSorting(), SourceEncoding: d.opened.GetEncoding()}}
	res, err := d.p.call(ctx, agent, t, nil)
	if err != nil {
		d.problem(side, err)
		return
	}
	d.out.Checks += res.GetCheck().GetChecks()
	var ours *catalog
	problems := res.GetCheck().GetProblems()
	if ours, err = newCatalog(d.found); err == nil {
		problems, err = withShared(res.GetCheck(), ours)
	}
	if err != nil {
		d.problem(side, err)
	}
	d.out.Problems = append(d.out.Problems, problems...)
}
