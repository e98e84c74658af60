package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/fault"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// releaseWithin bounds a removal: who cannot be reached by then is named.
const releaseWithin = time.Minute

// removal is an order to delete a pipeline; forget are the sides that are not asked to remove anything.
type removal struct {
	forget []connectorv1.Role
	answer chan deletion
}

type deletion struct {
	out *controlv1.DeleteResponse
	err error
}

// Delete releases what the pipeline holds at source and target, then forgets it. What it leaves at a side to forget is
// told. Repeating is harmless.
func (e *Engine) Delete(ctx context.Context, name string, forget []connectorv1.Role) (*controlv1.DeleteResponse, error) {
	p, err := e.Find(name)
	if err != nil {
		return nil, err
	}
	r := &removal{forget, make(chan deletion, 1)}
	p.post(func() {
		if p.deleting != nil {
			r.answer <- deletion{err: diag.Usage.New(name, nil, "it is being deleted already")}
			return
		}
		p.deleting, p.stop = r, errInterrupted
	})
	select {
	case d := <-r.answer:
		if d.err == nil {
			e.forget(p)
		}
		return d.out, d.err
	case <-p.done:
		return nil, diag.NoPipeline.New(name, nil, "its coordinator stops")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// remove runs on the actor; false: it failed, and the pipeline stays.
func (p *Pipeline) remove(ctx context.Context) bool {
	p.stop = nil
	limited, done := context.WithTimeout(ctx, releaseWithin)
	defer done()
	before, r, d := p.state.Desired, p.deleting, deletion{out: &controlv1.DeleteResponse{}}
	p.state.Desired = controlv1.Desired_DESIRED_STOPPED // whoever takes over halfway makes nothing again
	if d.err = p.save(limited); d.err == nil {
		d.err = p.release(limited, r.forget, d.out)
	}
	if d.err == nil {
		d.err = fault.Point("coordinator.before-forget")
	}
	if d.err == nil {
		d.err = errors.Join(p.store.Save(ctx, store.DropPipeline(p.name)...), fault.Point("coordinator.after-forget"))
	}
	if d.err != nil {
		d.err = p.stays(ctx, before, d.out.Removed, d.err)
	}
	r.answer <- d
	p.deleting = nil
	p.deleted = d.err == nil
	return p.deleted
}

// stays lets a pipeline that could not be deleted go on as before. Once something may have been removed it cannot: it
// stays stopped, and says so.
func (p *Pipeline) stays(ctx context.Context, before controlv1.Desired, removed []string, err error) error {
	if len(removed) == 0 && unreached(err) {
		p.state.Desired = before
		return errors.Join(err, p.save(ctx))
	}
	if d := diag.Find(err); d != nil {
		if d.Why += "; the pipeline is stopped from now on"; len(removed) > 0 {
			d.Why += ", removed are: " + strings.Join(removed, ", ")
		}
	}
	return err
}

// unreached: whoever was asked has done nothing.
func unreached(err error) bool {
	d := diag.Find(err)
	return d != nil && slices.ContainsFunc([]diag.Code{diag.Unreachable, diag.AuthFailed, diag.NoDatabase, diag.TooMany, diag.TLSRefused,
		diag.SecretAbsent, diag.NoAgent}, func(c diag.Code) bool { return c.ID == d.Code.ID })
}

// end is one side of a pipeline, as far as its release goes.
type end struct {
	side     string
	role     connectorv1.Role
	agent    string // that has worked there
	database string
	holds    bool
}

func (p *Pipeline) ends() []end {
	return []end{{"source", connectorv1.Role_ROLE_SOURCE, p.state.Reader, p.state.Source, p.follow()},
		{"target", connectorv1.Role_ROLE_SINK, p.state.Writer, p.state.Target, true}}
}

// madeNothing: it never got so far. One that the target knows from another source has its tokens there.
func (p *Pipeline) madeNothing() bool {
	return !p.state.Discovered && len(p.state.Start) == 0 && p.failure.GetCode() != diag.PositionForeign.ID
}

func (p *Pipeline) release(ctx context.Context, forget []connectorv1.Role, out *controlv1.DeleteResponse) error {
	if p.madeNothing() {
		return nil
	}
	p.run = newAttempt()
	if !slices.Contains(forget, connectorv1.Role_ROLE_SINK) {
		if theirs, err := p.belongsToOthers(ctx); err != nil {
			return forgetting(err, p.name, "target")
		} else if theirs {
			p.note("warn", "nothing is released: the target says that the pipeline is another coordinator's")
			return nil
		}
	}
	for _, x := range p.ends() {
		if slices.Contains(forget, x.role) {
			if x.holds {
				out.Left = append(out.Left, &controlv1.Left{Side: x.side, Database: x.database, Sql: p.state.Undo[x.side]})
			}
			continue
		}
		removed, err := p.releaseAt(ctx, x)
		if err != nil {
			return forgetting(err, p.name, x.side)
		}
		out.Removed = append(out.Removed, removed...)
	}
	return nil
}

func (p *Pipeline) releaseAt(ctx context.Context, x end) ([]string, error) {
	agent, err := p.able(ctx, x)
	if err != nil {
		return nil, err
	}
	t := &fleetv1.Task{Work: &fleetv1.Task_Release{Release: &connectorv1.ReleaseRequest{Pipeline: p.name, Role: x.role}}}
	if x.role == connectorv1.Role_ROLE_SOURCE {
		p.onSource(t)
	} else {
		p.onSink(t)
	}
	r, err := p.call(ctx, agent, t, nil)
	if d := diag.Find(err); d != nil && !strings.HasPrefix(d.Where, x.side) {
		d.Where = x.side + " › " + d.Where // whoever is asked for a password has to know of which
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = diag.CallCancelled.New(x.side, nil, "it has not removed everything within %v", releaseWithin)
	}
	return r.GetRelease().GetRemoved(), err
}

// forgetting adds to the fixes of a side that cannot be reached how to do without it.
func forgetting(err error, pipeline, side string) error {
	if d := diag.Find(err); d != nil && unreached(err) {
		d.Fixes = append(slices.Clone(d.Fix()), "If the "+side+" is gone for good: drover delete "+pipeline+" --forget "+side+"  # removes the rest, and says what is left there")
	}
	return err
}

// belongsToOthers: whoever took it over needs its tokens, and its slot. A target that does not answer keeps nobody from freeing
// the source; without an agent nothing is known of it.
func (p *Pipeline) belongsToOthers(ctx context.Context) (bool, error) {
	writer, err := p.able(ctx, p.ends()[1])
	if err != nil {
		return false, err
	}
	p.run.writer = writer
	known, err := p.askSink(ctx, &connectorv1.RecoverRequest{Pipeline: p.name})
	return err == nil && known.GetOwner() != "" && known.Owner != p.state.Owner, nil
}

// able waits for an agent that can reach one side, whatever becomes of the other: best the one that has worked there.
func (p *Pipeline) able(ctx context.Context, x end) (agent string, err error) {
	serves := func(a fleet.Agent) bool {
		if x.role == connectorv1.Role_ROLE_SOURCE {
			return p.reads(a)
		}
		return a.Connected && a.Hello.Sink && has(a.Hello.Connectors, p.spec.Target.Connector)
	}
	before := p.waiting
	p.waiting = "an agent that can reach the " + x.side
	err = p.pump(ctx, 0, func() bool {
		for _, may := range []func(fleet.Agent) bool{func(a fleet.Agent) bool { return a.Hello.Agent == x.agent }, p.trusted, func(fleet.Agent) bool { return true }} {
			for _, a := range p.fleet.Agents() {
				if agent == "" && may(a) && serves(a) {
					agent = a.Hello.Agent
				}
			}
		}
		return agent != ""
	})
	p.waiting = before
	if errors.Is(err, context.DeadlineExceeded) {
		err = diag.NoAgent.New(x.side, nil, "no agent that can reach it has come within %v", releaseWithin)
	}
	return agent, err
}
