package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/stop"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// Engine owns the pipelines of a leading coordinator.
type Engine struct {
	Fleet *fleet.Fleet
	store *store.Store
	group *stop.Group
	drop  atomic.Bool // tasks are to end with the actors

	mu    sync.Mutex
	pipes map[string]*Pipeline
}

// New starts every pipeline that is stored.
func New(ctx context.Context, s *store.Store, f *fleet.Fleet) (*Engine, error) {
	e := &Engine{Fleet: f, store: s, group: stop.New(context.WithoutCancel(ctx)), pipes: map[string]*Pipeline{}}
	all, err := s.Specs(ctx)
	if err != nil {
		return nil, errors.Join(err, e.group.Stop(0))
	}
	for _, spec := range all {
		st, _, err := s.State(ctx, spec.Name)
		if err == nil {
			_, err = e.start(spec, st)
		}
		if err != nil {
			return nil, errors.Join(err, e.group.Stop(0))
		}
	}
	return e, nil
}

// Failed is closed when a pipeline found that another coordinator leads, or that etcd does not answer.
func (e *Engine) Failed() <-chan struct{} { return e.group.Context().Done() }

// Close ends all actors; their work goes on from the store. With keep the agents' tasks go on too, for the next leader to
// adopt.
func (e *Engine) Close(keep bool) error {
	e.drop.Store(!keep)
	e.group.Abort()
	err := e.group.Wait()
	if errors.Is(err, stop.ErrAborted) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (e *Engine) start(spec *controlv1.Spec, st store.State) (*Pipeline, error) {
	p := newPipeline(spec, st, e.store, e.Fleet)
	p.dropTasks = e.drop.Load
	p.publish()
	e.pipes[spec.Name] = p
	return p, e.group.Go(func(ctx context.Context) error {
		err := p.loop(ctx)
		if p.deleted { // whoever asked for it may have gone before
			e.forget(p)
		}
		return err
	})
}

// forget drops a pipeline that was deleted, unless another has its name by now.
func (e *Engine) forget(p *Pipeline) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pipes[p.name] == p {
		delete(e.pipes, p.name)
	}
}

// Find returns a pipeline.
func (e *Engine) Find(name string) (*Pipeline, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.pipes[name]; p != nil {
		return p, nil
	}
	return nil, diag.NoPipeline.New(name, nil, "it is not known here")
}

// All lists pipelines by name.
func (e *Engine) All() []*Pipeline {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []*Pipeline
	for _, p := range e.pipes {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *Pipeline) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return out
}

// Apply creates or changes a pipeline. It is durable on return; the same spec again changes nothing. With retry tables that
// have failed are loaded again.
func (e *Engine) Apply(ctx context.Context, spec *controlv1.Spec, start, retry, anew bool) (created, changed bool, p *Pipeline, err error) {
	e.mu.Lock()
	p = e.pipes[spec.Name]
	if p == nil {
		defer e.mu.Unlock()
		st := store.State{Desired: controlv1.Desired_DESIRED_STOPPED, Phase: controlv1.Phase_PHASE_ASSESS, Created: time.Now().UnixMicro(),
			Owner: newOwner(), Anew: anew}
		if start {
			st.Desired = controlv1.Desired_DESIRED_RUNNING
		}
		if err := e.store.Save(ctx, store.PutSpec(spec), store.PutState(spec.Name, st)); err != nil {
			return false, false, nil, err
		}
		p, err = e.start(spec, st)
		return true, false, p, err
	}
	e.mu.Unlock()
	err = p.ask(ctx, func() error {
		changed = !proto.Equal(p.spec, spec)
		if changed && p.state.Discovered && !sameWork(p.spec, spec) {
			return diag.SpecInvalid.New(spec.Name, nil, "mode (--follow), source, target, tables (--tables, --exclude), schema.create (--no-schema) and load.lane (--lane) cannot change once a pipeline has begun").
				WithFix("drover delete " + spec.Name + ", or use another name")
		}
		p.spec, p.state.Anew = spec, anew
		if changed {
			p.stop = errInterrupted
		}
		return p.save(ctx, store.PutSpec(spec))
	})
	if err == nil && start {
		err = p.Want(ctx, controlv1.Desired_DESIRED_RUNNING)
	}
	if err == nil && retry {
		_, err = p.Reload(ctx, nil, false)
	}
	return false, changed, p, err
}

// sameWork reports whether a pipeline that has begun can go on under another spec: what was done under the old one must be
// what the new one asks for.
func sameWork(a, b *controlv1.Spec) bool {
	return a.Mode == b.Mode && a.Source.Url == b.Source.Url && a.Target.Url == b.Target.Url && slices.Equal(a.Include, b.Include) &&
		slices.Equal(a.Exclude, b.Exclude) && a.Schema == b.Schema && a.Lane == b.Lane
}

// Want changes what the pipeline should do. Running again also clears a failure.
func (p *Pipeline) Want(ctx context.Context, d controlv1.Desired) error {
	return p.ask(ctx, func() error {
		if d == controlv1.Desired_DESIRED_RUNNING {
			p.failure, p.state.Failure = nil, nil
		}
		if p.state.Desired != d {
			p.state.Desired = d
			if d != controlv1.Desired_DESIRED_RUNNING {
				p.stop = errInterrupted
			}
			p.note("info", "desired: "+d.String())
		}
		err := p.save(ctx)
		p.publish()
		return err
	})
}

// Status is the newest status, and a channel that is closed when there is a newer one.
func (p *Pipeline) Status() (*controlv1.Status, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status, p.news
}

// Spec is the pipeline's spec.
func (p *Pipeline) Spec(ctx context.Context) (s *controlv1.Spec, err error) {
	err = p.ask(ctx, func() error { s = proto.Clone(p.spec).(*controlv1.Spec); return nil })
	return s, err
}

// Done is closed when the actor ends.
func (p *Pipeline) Done() <-chan struct{} { return p.done }
