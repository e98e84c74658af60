package engine

import (
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/schedule"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag/wire"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// attempt is one run through the phases. Whatever breaks, the next attempt starts here, under a new epoch, and asks
// the target what is true: a restarted coordinator does exactly the same.
type attempt struct {
	reader, writer string // agents
	sourceVersion  string
	sourceSorting  string
	sourceEncoding string
	claimed        *connectorv1.RecoverResponse // behind the fence, when the attempt has raised it before it knew the catalog
	tasks          map[uint64]bool
	stream         uint64
	streaming      bool
	progress       *fleetv1.StreamProgress
	replies        map[uint64]func(*fleetv1.GateReply)
	snapshot       string
	snapshotTask   uint64
	coverage       *rowv1.Coverage
	group          []uint32
	splitting      uint64
	ahead          ahead
	left           left
	loads          map[*load]bool    // in flight
	grants         map[string][]byte // by the writer's name: under which others may write through it
	helpers        map[seat]*helper
	rests          map[schedule.Pair]rest
	speed          map[schedule.Pair]int64 // bytes a second of the latest load
	settling       settling
	setting        map[uint32]bool // tables that the target is being told to set aside
}

func newAttempt() attempt {
	return attempt{tasks: map[uint64]bool{}, replies: map[uint64]func(*fleetv1.GateReply){}, loads: map[*load]bool{}, grants: map[string][]byte{},
		helpers: map[seat]*helper{}, rests: map[schedule.Pair]rest{}, speed: map[schedule.Pair]int64{}, setting: map[uint32]bool{}}
}

func (p *Pipeline) attempt(ctx context.Context) error {
	p.run = newAttempt()
	adopted, err := p.adopt(ctx)
	if err != nil {
		return err
	}
	steps := []func(context.Context) error{p.agents, p.assess, p.recover, p.schema, p.startStream}
	if adopted {
		steps = nil
	}
	for _, step := range append(steps, p.loadAll, p.finish, p.verify, p.keepStreaming) {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// endAttempt lets go of the tasks under way: they end, or wait for the next leader to adopt them.
func (p *Pipeline) endAttempt(drop bool) {
	for id := range p.run.tasks {
		delete(p.handlers, id)
		if drop {
			p.fleet.Abandon(id, "the attempt ended")
		}
	}
	if drop {
		p.state.Running = nil
	}
	for _, t := range p.tables {
		for _, c := range t.chunks {
			c.land()
		}
	}
	for writer, grant := range p.run.grants {
		if drop {
			p.fleet.Revoke(writer, grant)
		}
	}
	p.run = attempt{}
}

// enter begins a phase, once. What a repeated attempt waits for stays on show until something has moved.
func (p *Pipeline) enter(ctx context.Context, phase controlv1.Phase) error {
	if p.state.Phase >= phase && len(p.state.Phases) > 0 {
		return nil
	}
	p.waiting = ""
	now := time.Now().UnixMicro()
	if n := len(p.state.Phases); n > 0 {
		p.state.Phases[n-1].End = now
	}
	p.state.Phase = phase
	p.state.Phases = append(p.state.Phases, store.PhaseTime{Phase: phase, Start: now})
	p.note("info", "phase "+strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(phase.String(), "PHASE_"), "_", "-")))
	defer p.publish()
	return p.save(ctx)
}

// agents waits until somebody can read the source and somebody can write the target.
func (p *Pipeline) agents(ctx context.Context) error {
	before := p.waiting
	return p.pump(ctx, 0, func() bool {
		p.run.reader, p.run.writer = p.pick()
		if p.run.reader != "" && p.run.writer != "" {
			p.waiting = before
			return true
		}
		p.waiting = "an agent that can reach source and target"
		return false
	})
}

// pick prefers the agents of the attempt before, then those that are not known to reach something else under the same
// address: after a server was started again, a physical copy of it cannot be told from it.
func (p *Pipeline) pick() (reader, writer string) {
	all := p.fleet.Agents()
	for _, may := range []func(fleet.Agent) bool{p.former, p.trusted, func(fleet.Agent) bool { return true }} {
		if reader, writer = p.pickOf(all, may); reader != "" && writer != "" {
			break
		}
	}
	return reader, writer
}

// former reports whether an agent was at work in the attempt before.
func (p *Pipeline) former(a fleet.Agent) bool {
	return (a.Hello.Agent == p.state.Reader || a.Hello.Agent == p.state.Writer) && p.trusted(a)
}

// trusted reports whether an agent has not gone astray in its session.
func (p *Pipeline) trusted(a fleet.Agent) bool {
	return p.astray[seat{a.Hello.Agent, connectorv1.Role_ROLE_SOURCE}] != a.Hello && p.astray[seat{a.Hello.Agent, connectorv1.Role_ROLE_SINK}] != a.Hello
}

// strays notes that an agent reaches something else, for as long as its session lasts.
func (p *Pipeline) strays(s seat) {
	for _, a := range p.fleet.Agents() {
		if a.Hello.Agent == s.agent {
			p.astray[s] = a.Hello
		}
	}
}

// pickOf prefers one agent for both sides: rows then pass through memory.
func (p *Pipeline) pickOf(all []fleet.Agent, may func(fleet.Agent) bool) (reader, writer string) {
	for _, a := range all {
		if !may(a) {
			continue
		}
		h := a.Hello
		reads, writes := p.reads(a), p.writes(a)
		if reads && writes {
			return h.Agent, h.Agent
		}
		if reads && reader == "" {
			reader = h.Agent
		}
		if writes && writer == "" {
			writer = h.Agent
		}
	}
	return reader, writer
}

// reads and writes tell what an agent can do for the pipeline now. Who is not reached writes only what it reads itself.
func (p *Pipeline) reads(a fleet.Agent) bool {
	return a.Connected && a.Hello.Source && has(a.Hello.Connectors, p.spec.Source.Connector)
}

func (p *Pipeline) writes(a fleet.Agent) bool {
	return a.Connected && a.Hello.Sink && has(a.Hello.Connectors, p.spec.Target.Connector) && (a.Hello.TransferAddress != "" || p.reads(a))
}

// own is who reads and writes all that is not a load.
func (a *attempt) own() schedule.Pair { return schedule.Pair{Reader: a.reader, Writer: a.writer} }

func (p *Pipeline) onSource(t *fleetv1.Task) *fleetv1.Task { t.Source = p.source(); return t }
func (p *Pipeline) onSink(t *fleetv1.Task) *fleetv1.Task   { t.Sink = p.sink(); return t }

// fleetError is the failure of a message as an error.
func fleetError(m fleet.Message) error { return wire.Error(m.Result.GetFailure()) }

func endpoint(e *fleetv1.Endpoint, role connectorv1.Role, pipeline, lane string) *fleetv1.Endpoint {
	c := proto.Clone(e).(*fleetv1.Endpoint)
	c.Role, c.Pipeline = role, pipeline
	if lane == "arrow" {
		if c.Options == nil {
			c.Options = map[string]string{}
		}
		c.Options["lane"] = lane
	}
	return c
}
