package engine

import (
	"context"
	"errors"
	"time"

	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
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
			e.forget(p)
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
	p.run = newAttempt()
	if err := p.agents(ctx); err != nil {
		return nil, err
	}
	// Whoever took it over needs its tokens, and its slot. A target that does not answer keeps nobody from freeing the source.
	if known, err := p.askSink(ctx, &connectorv1.RecoverRequest{Pipeline: p.name}); err == nil && known.GetOwner() != "" && known.Owner != p.state.Owner {
		p.note("warn", "nothing is released: the target says that the pipeline is another coordinator's")
		return nil, nil
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
