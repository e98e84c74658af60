// Package engine runs every pipeline as one actor: a goroutine that owns the pipeline's state. Read pipeline.go,
// attempt.go, assess.go, recover.go, steps.go, gate.go, load.go (left, split, helper, grant, loaded) and finish.go in this order.
package engine

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

var errInterrupted = errors.New("engine: the pipeline was told to do something else")

// table is a table's progress in memory.
type table struct {
	store.Table
	// row is without columns; full is all of it, in wire form.
	row     *rowv1.Table
	full    []byte
	chunks  map[uint64]*chunk
	failure *fleetv1.Failure
}

// chunk is a ledger entry in memory.
type chunk struct {
	store.Chunk
	row      *rowv1.Chunk
	result   *rowv1.ChunkResult
	inFlight bool
	notUntil time.Time
	// Of the attempt under way: what has moved, and how much of the chunk that is. Nothing of it is written yet.
	moved        *fleetv1.ChunkProgress
	moving       float64
	began, ended time.Time // of the newest attempt; zero: not in this coordinator's time
}

// Pipeline is an actor. Fields below the mutex's are touched by its goroutine only.
type Pipeline struct {
	name  string
	store *store.Store
	fleet *fleet.Fleet
	done  chan struct{}

	mu     sync.Mutex
	inbox  []func()
	bell   chan struct{}
	status *controlv1.Status
	news   chan struct{}
	log    ring

	spec     *controlv1.Spec
	state    store.State
	catalog  *catalog
	tables   []*table
	sorted   []*table // biggest first
	handlers map[uint64]func(fleet.Message)
	stop     error // why the attempt under way must end
	failure  *fleetv1.Failure
	more     []*fleetv1.Failure     // steps that were refused beside the one that the failure names
	found    []*connectorv1.Problem // by checks, until the catalog is stored with them
	waiting  string
	waits    map[uint64]string // what tasks say that they wait for in a database
	run      attempt
	others   []string                // tables that the selection includes and the pipeline does not have
	astray   map[seat]*fleetv1.Hello // who reaches something else than the databases, in these sessions
	lost     time.Time               // since when nobody reaches them; zero: somebody does
	rate     rate
	adopted  bool // whether this term has looked for tasks to adopt
	deleted  bool
	// dropTasks tells, when the actor ends, whether tasks end with it.
	dropTasks func() bool
	deleting  *removal // that was asked for
	shown     time.Time
}

func newPipeline(spec *controlv1.Spec, st store.State, s *store.Store, f *fleet.Fleet) *Pipeline {
	return &Pipeline{name: spec.Name, spec: spec, state: st, store: s, fleet: f, done: make(chan struct{}), bell: make(chan struct{}, 1),
		dropTasks: func() bool { return true }, news: make(chan struct{}), handlers: map[uint64]func(fleet.Message){}, astray: map[seat]*fleetv1.Hello{}, waits: map[uint64]string{}, log: newRing()}
}

// post hands work to the actor; it never blocks.
func (p *Pipeline) post(f func()) {
	p.mu.Lock()
	p.inbox = append(p.inbox, f)
	p.mu.Unlock()
	select {
	case p.bell <- struct{}{}:
	default:
	}
}

// ask runs f on the actor and waits for it.
func (p *Pipeline) ask(ctx context.Context, f func() error) error {
	answer := make(chan error, 1)
	p.post(func() { answer <- f() })
	select {
	case err := <-answer:
		return err
	case <-p.done:
		return diag.NoPipeline.New(p.name, nil, "it has been deleted or its coordinator stops")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// firstTries is how often a pipeline that never began is tried again before it fails.
const firstTries = 3

// loop is the actor: attempts follow each other until the pipeline is done, fails or is told to rest.
func (p *Pipeline) loop(ctx context.Context) error {
	defer close(p.done)
	p.failure = readFailure(p.state.Failure)
	if p.state.Owner == "" { // stored by an earlier version
		p.state.Owner = newOwner()
	}
	if err := p.load(ctx); lostStore(err) {
		return err
	} else if err != nil {
		p.fail(err)
	}
	for wait, tries := time.Duration(0), 0; ; {
		p.publish()
		err := p.pump(ctx, wait, p.due)
		if ctx.Err() != nil {
			return nil
		}
		if p.deleting != nil && p.remove(ctx) {
			return nil
		}
		if err != nil || !p.due() {
			p.stop = nil
			continue
		}
		began := time.Now()
		err = p.attempt(ctx)
		p.endAttempt(!lostStore(err) && (ctx.Err() == nil || p.dropTasks()))
		p.stop = nil
		switch {
		case ctx.Err() != nil:
			return nil
		case lostStore(err):
			return err
		case err == nil || errors.Is(err, errInterrupted):
			wait = 0
		case p.spare(ctx, err):
			tries++
			wait = min(time.Duration(tries)*50*time.Millisecond, time.Second)
		case retryable(err) && !(p.neverBegan() && tries >= firstTries), p.comesBack(err):
			tries++
			if time.Since(began) > time.Minute {
				wait = 0
			}
			wait = min(max(2*wait, 200*time.Millisecond), 10*time.Second)
			p.waiting = tryingAgain(err)
			p.note("warn", p.waiting)
		default:
			p.fail(err)
		}
	}
}

// due reports whether there is something to do.
func (p *Pipeline) due() bool {
	return p.state.Desired == controlv1.Desired_DESIRED_RUNNING && p.failure == nil && p.state.Phase != controlv1.Phase_PHASE_DONE
}

// neverBegan: nothing was made at either side. Then a database that does not answer is more likely a wrong address
// than a bad moment, and somebody sits before the screen.
func (p *Pipeline) neverBegan() bool {
	return p.state.Phase <= controlv1.Phase_PHASE_ASSESS && !p.state.Discovered
}

// comesBack: a target that was written to and refuses that now is amid a failover, or a standby that is promoted next. At
// first contact it is a wrong address.
func (p *Pipeline) comesBack(err error) bool {
	d := diag.Find(err)
	return d != nil && d.Code.ID == diag.ReadOnly.ID && !p.neverBegan()
}

// tryingAgain tells what is waited for: the code of the error says what to look at.
func tryingAgain(err error) string { return "trying again: " + err.Error() }

func retryable(err error) bool {
	d := diag.Find(err)
	return d == nil || d.Code.Class == diag.Retry || d.Code.Class == diag.Fenced
}

// lostStore: this coordinator does not lead any more, or cannot know whether it does. Its term ends; what it has given out
// goes on.
func lostStore(err error) bool {
	return errors.Is(err, store.ErrFenced) || errors.Is(err, store.ErrUnavailable)
}

func (p *Pipeline) fail(err error) {
	p.failure, p.waiting = wire.Failure(err), "" // for a person, who reads why
	p.failure.Fix = named(p.failure.Fix, "PIPELINE", p.name)
	p.state.Failure = store.Wire(p.failure)
	p.note("error", err.Error())
	ctx, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	_ = p.save(ctx) // the failure is also found again by trying again
}

// named puts names into the commands of fixes, so that they work as they stand.
func named(fixes []string, names ...string) (out []string) {
	r := strings.NewReplacer(names...)
	for _, f := range fixes {
		out = append(out, r.Replace(f))
	}
	return out
}

func (p *Pipeline) save(ctx context.Context, more ...store.Change) error {
	return p.store.Save(ctx, append(more, store.PutState(p.name, p.state))...)
}

// pump lets the actor work off its inbox until the condition holds. With wait it returns no earlier than that.
func (p *Pipeline) pump(ctx context.Context, wait time.Duration, until func() bool) error {
	end := time.Now().Add(wait)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		p.mu.Lock()
		work := p.inbox
		p.inbox = nil
		p.mu.Unlock()
		for _, f := range work {
			f()
		}
		switch {
		case p.deleted:
			return errInterrupted
		case ctx.Err() != nil:
			return ctx.Err()
		case p.stop != nil:
			return p.stop
		case time.Until(end) <= 0 && until():
			return nil
		}
		if len(work) > 0 {
			p.publishSoon()
			continue
		}
		select {
		case <-p.bell:
		case <-p.fleet.Changed():
		case <-tick.C:
			p.publishSoon()
		case <-ctx.Done():
		}
	}
}

// assign gives a task to an agent; on hears everything about it, on the actor.
func (p *Pipeline) assign(agent string, t *fleetv1.Task, on func(fleet.Message)) (uint64, error) {
	t.Pipeline = p.name
	id, err := p.fleet.Assign(agent, t, p.listen)
	if err == nil {
		p.handlers[id] = on
	}
	return id, err
}

// listen takes what is reported of a task to the actor.
func (p *Pipeline) listen(m fleet.Message) {
	p.post(func() {
		h := p.handlers[m.Task]
		if m.Result != nil {
			delete(p.handlers, m.Task)
		}
		if h != nil {
			p.hearWaiting(m)
			h(m)
		}
	})
}

// pending is a task whose result is awaited.
type pending struct {
	id     uint64
	result *fleetv1.Result
}

// begin gives out a task; await brings its result, or takes it back.
func (p *Pipeline) begin(agent string, t *fleetv1.Task, event func(*fleetv1.Event)) (*pending, error) {
	w := &pending{}
	t.Epoch = p.state.Epoch
	id, err := p.assign(agent, t, func(m fleet.Message) {
		if m.Event != nil && event != nil {
			event(m.Event)
		}
		if m.Result != nil {
			w.result = m.Result
		}
	})
	w.id = id
	return w, err
}

func (p *Pipeline) await(ctx context.Context, w *pending) (*fleetv1.Result, error) {
	if err := p.pump(ctx, 0, func() bool { return w.result != nil }); err != nil {
		p.takeBack(w)
		return nil, err
	}
	return w.result, wire.Error(w.result.Failure)
}

// takeBack ends a task whose result nobody awaits any more.
func (p *Pipeline) takeBack(w *pending) {
	if w.result == nil {
		delete(p.handlers, w.id)
		p.fleet.Abandon(w.id, "interrupted")
	}
}

// call runs one task to its result while the actor goes on hearing others.
func (p *Pipeline) call(ctx context.Context, agent string, t *fleetv1.Task, event func(*fleetv1.Event)) (*fleetv1.Result, error) {
	w, err := p.begin(agent, t, event)
	if err != nil {
		return nil, err
	}
	return p.await(ctx, w)
}

func (p *Pipeline) follow() bool { return p.spec.Mode == controlv1.Mode_MODE_FULL_LOAD_AND_CDC }

func (p *Pipeline) source() *fleetv1.Endpoint {
	return endpoint(p.spec.Source, connectorv1.Role_ROLE_SOURCE, p.name, p.spec.Lane)
}

func (p *Pipeline) sink() *fleetv1.Endpoint {
	e := endpoint(p.spec.Target, connectorv1.Role_ROLE_SINK, p.name, p.spec.Lane)
	e.Owner = p.state.Owner
	return e
}
