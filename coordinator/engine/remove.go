package engine

import (
	"context"
	"errors"
	"time"

	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	"github.com/droverdb/drover/internal/fault"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

type deletion struct {
	removed []string
	err     error
}

// Delete releases what the pipeline holds at source and target, then forgets it. Repeating is harmless.
func (e *Engine) Delete(ctx context.Context, name string) ([]string, error) {
	p, err := e.Find(name)
	if err != nil {
		return nil, err
	}
	answer := make(chan deletion, 1)
	p.post(func() {
		if p.deleting != nil {
			answer <- deletion{err: diag.Usage.New(name, nil, "it is being deleted already")}
			return
		}
		p.deleting, p.stop = answer, errInterrupted
	})
	select {
	case d := <-answer:
		if d.err == nil {
			e.mu.Lock()
			delete(e.pipes, name)
			e.mu.Unlock()
		}
		return d.removed, d.err
	case <-p.done:
		return nil, diag.NoPipeline.New(name, nil, "its coordinator stops")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// remove runs on the actor; false: it failed, and the pipeline stays.
func (p *Pipeline) remove(ctx context.Context) bool {
	p.stop = nil
	limited, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	d := deletion{}
	p.state.Desired = controlv1.Desired_DESIRED_STOPPED // whoever takes over halfway makes nothing again
	if d.err = p.save(limited); d.err == nil {
		d.removed, d.err = p.release(limited)
	}
	if d.err == nil {
		d.err = fault.Point("coordinator.before-forget")
	}
	if d.err == nil {
		d.err = errors.Join(p.store.Save(ctx, store.DropPipeline(p.name)...), fault.Point("coordinator.after-forget"))
	}
	p.deleting <- d
	p.deleting = nil
	p.deleted = d.err == nil
	return p.deleted
}

func (p *Pipeline) release(ctx context.Context) ([]string, error) {
	if !p.state.Discovered && len(p.state.Start) == 0 {
		return nil, nil // nothing was made
	}
	p.run = attempt{tasks: map[uint64]bool{}}
	if err := p.agents(ctx); err != nil {
		return nil, err
	}
	var removed []string
	for _, role := range []connectorv1.Role{connectorv1.Role_ROLE_SOURCE, connectorv1.Role_ROLE_SINK} {
		agent, t := p.run.reader, &fleetv1.Task{Source: p.source()}
		if role == connectorv1.Role_ROLE_SINK {
			agent, t = p.run.writer, &fleetv1.Task{Sink: p.sink()}
		}
		t.Work = &fleetv1.Task_Release{Release: &connectorv1.ReleaseRequest{Pipeline: p.name, Role: role}}
		r, err := p.call(ctx, agent, t, nil)
		if err != nil {
			return removed, err
		}
		removed = append(removed, r.GetRelease().GetRemoved()...)
	}
	return removed, nil
}

// Doctor opens and checks both sides. Nothing is created.
func (e *Engine) Doctor(ctx context.Context, r *controlv1.DoctorRequest) (*controlv1.DoctorResponse, error) {
	out := &controlv1.DoctorResponse{}
	mode := controlv1.Mode_MODE_FULL_LOAD
	if r.Follow {
		mode = controlv1.Mode_MODE_FULL_LOAD_AND_CDC
	}
	spec := &controlv1.Spec{Name: "doctor", Mode: mode, Source: r.Source, Target: r.Target, Include: r.Include, Exclude: r.Exclude}
	p := newPipeline(spec, store.State{}, e.store, e.Fleet) // never started: this goroutine is its actor
	p.run = attempt{tasks: map[uint64]bool{}}
	limited, done := context.WithTimeout(ctx, 15*time.Second)
	defer done()
	if err := p.agents(limited); err != nil {
		return nil, diag.NoAgent.New("doctor", nil, "no agent can reach both sides")
	}
	discovered := &connectorv1.DiscoverResponse{}
	problem := func(side string, err error) {
		f := wire.Failure(err)
		out.Problems = append(out.Problems, &connectorv1.Problem{Code: f.Code, Object: f.Where, Reason: f.Why, Fix: f.Fix, Side: side})
	}
	version := ""
	open := func(agent string, t *fleetv1.Task, side string) (string, bool) {
		out.Checks++
		t.Work = &fleetv1.Task_Open{Open: &fleetv1.OpenTask{}}
		res, err := p.call(ctx, agent, t, nil)
		if err != nil {
			problem(side, err)
			return "", false
		}
		if side == "source" {
			version = res.GetOpen().GetOpen().GetServerVersion()
		}
		return res.GetOpen().GetOpen().GetDisplay(), true
	}
	check := func(agent string, t *fleetv1.Task, side string, role connectorv1.Role) {
		t.Work = &fleetv1.Task_Check{Check: &connectorv1.CheckRequest{Pipeline: "doctor", Role: role, Follow: r.Follow,
			Tables: discovered.Tables, Steps: discovered.Steps, SourceVersion: version, Include: r.Include, Exclude: r.Exclude}}
		res, err := p.call(ctx, agent, t, nil)
		if err != nil {
			problem(side, err)
			return
		}
		out.Checks += res.GetCheck().GetChecks()
		out.Problems = append(out.Problems, res.GetCheck().GetProblems()...)
	}
	var ok bool
	if out.Source, ok = open(p.run.reader, p.onSource(&fleetv1.Task{}), "source"); ok {
		check(p.run.reader, p.onSource(&fleetv1.Task{}), "source", connectorv1.Role_ROLE_SOURCE)
		res, err := p.call(ctx, p.run.reader, p.onSource(&fleetv1.Task{Work: &fleetv1.Task_Discover{
			Discover: &connectorv1.DiscoverRequest{Include: r.Include, Exclude: r.Exclude}}}), nil)
		if err != nil {
			problem("source", err)
		} else {
			discovered = res.GetDiscover()
			out.Problems = append(out.Problems, discovered.Problems...)
		}
	}
	if out.Target, ok = open(p.run.writer, p.onSink(&fleetv1.Task{}), "target"); ok {
		check(p.run.writer, p.onSink(&fleetv1.Task{}), "target", connectorv1.Role_ROLE_SINK)
	}
	return out, nil
}
