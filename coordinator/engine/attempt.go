package engine

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/lease"
	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	"github.com/droverdb/drover/internal/fault"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// attempt is one run through the phases. Whatever breaks, the next attempt starts here, under a new epoch, and asks
// the target what is true: a restarted coordinator does exactly the same.
type attempt struct {
	reader, writer string // agents
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
	inFlight       int
}

func (p *Pipeline) attempt(ctx context.Context) error {
	p.run = attempt{tasks: map[uint64]bool{}, replies: map[uint64]func(*fleetv1.GateReply){}}
	for _, step := range []func(context.Context) error{p.agents, p.assess, p.recover, p.schema, p.startStream, p.loadAll, p.finish, p.verify, p.keepStreaming} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pipeline) endAttempt() {
	for id := range p.run.tasks {
		delete(p.handlers, id)
		p.fleet.Abandon(id, "the attempt ended")
	}
	for _, t := range p.tables {
		for _, c := range t.chunks {
			c.inFlight = false
		}
	}
	p.run = attempt{}
}

// enter begins a phase, once.
func (p *Pipeline) enter(ctx context.Context, phase controlv1.Phase) error {
	p.waiting = ""
	if p.state.Phase >= phase && len(p.state.Phases) > 0 {
		return nil
	}
	now := time.Now().UnixMicro()
	if n := len(p.state.Phases); n > 0 {
		p.state.Phases[n-1].End = now
	}
	p.state.Phase = phase
	p.state.Phases = append(p.state.Phases, store.PhaseTime{Phase: phase, Start: now})
	p.note("info", "phase "+phase.String())
	defer p.publish()
	return p.save(ctx)
}

// agents waits until somebody can read the source and somebody can write the target.
func (p *Pipeline) agents(ctx context.Context) error {
	p.waiting = "an agent that can reach source and target"
	return p.pump(ctx, 0, func() bool {
		p.run.reader, p.run.writer = p.pick()
		if p.run.reader != "" && p.run.writer != "" {
			p.waiting = ""
			return true
		}
		return false
	})
}

// pick prefers one agent for both sides: rows then pass through memory.
func (p *Pipeline) pick() (reader, writer string) {
	for _, a := range p.fleet.Agents() {
		h := a.Hello
		reads := a.Connected && h.Source && has(h.Connectors, p.spec.Source.Connector)
		writes := a.Connected && h.Sink && has(h.Connectors, p.spec.Target.Connector)
		if reads && writes {
			return h.Agent, h.Agent
		}
		if reads && reader == "" {
			reader = h.Agent
		}
		if writes && writer == "" && h.TransferAddress != "" {
			writer = h.Agent
		}
	}
	return reader, writer
}

func (p *Pipeline) onSource(t *fleetv1.Task) *fleetv1.Task { t.Source = p.source(); return t }
func (p *Pipeline) onSink(t *fleetv1.Task) *fleetv1.Task   { t.Sink = p.sink(); return t }

// assess opens and checks both ends and reads the catalog, until it is stored.
func (p *Pipeline) assess(ctx context.Context) error {
	if err := p.enter(ctx, controlv1.Phase_PHASE_ASSESS); err != nil {
		return err
	}
	for _, side := range []struct {
		agent string
		task  *fleetv1.Task
		name  *string
	}{
		{p.run.reader, p.onSource(&fleetv1.Task{Work: &fleetv1.Task_Open{Open: &fleetv1.OpenTask{}}}), &p.state.Source},
		{p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Open{Open: &fleetv1.OpenTask{}}}), &p.state.Target},
	} {
		r, err := p.call(ctx, side.agent, side.task, nil)
		if err != nil {
			return err
		}
		*side.name = r.GetOpen().GetOpen().GetDisplay()
	}
	if p.state.Discovered {
		return nil
	}
	r, err := p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Recover{Recover: &connectorv1.RecoverRequest{Pipeline: p.name}}}), nil)
	if err != nil {
		return err
	}
	return p.discover(ctx, r.GetRecover())
}

func (p *Pipeline) discover(ctx context.Context, old *connectorv1.RecoverResponse) error {
	resuming := old.GetFound()
	if err := p.check(ctx, connectorv1.Role_ROLE_SOURCE, nil, resuming); err != nil {
		return err
	}
	r, err := p.call(ctx, p.run.reader, p.onSource(&fleetv1.Task{Work: &fleetv1.Task_Discover{
		Discover: &connectorv1.DiscoverRequest{Include: p.spec.Include, Exclude: p.spec.Exclude}}}), nil)
	if err != nil {
		return err
	}
	p.catalog = r.GetDiscover()
	if err := problemError(p.catalog.Problems); err != nil {
		return err
	}
	if err := p.check(ctx, connectorv1.Role_ROLE_SINK, p.catalog.Tables, resuming); err != nil {
		return err
	}
	p.makeTables(nil)
	p.state.Discovered = true
	// The target knows this pipeline though etcd does not: its memo says whether the load was complete.
	if resuming && string(old.Memo) == p.memo() {
		p.state.Loaded = true
		for _, t := range p.tables {
			t.Split, t.Loaded, t.Passed = true, true, true
		}
	} else if resuming && (len(old.Written) > 0 || len(old.Position) > 0) {
		if err := p.mint(ctx, old.MaxEpoch); err != nil {
			return err
		}
		if err := p.resetAt(ctx, p.catalog.Tables, nil); err != nil {
			return err
		}
	}
	changes := store.PutCatalog(p.name, p.catalog)
	for _, t := range p.tables {
		changes = append(changes, store.PutTable(p.name, t.Table))
	}
	p.note("info", "the catalog is known")
	return p.save(ctx, changes...)
}

func (p *Pipeline) check(ctx context.Context, role connectorv1.Role, tables []*rowv1.Table, resuming bool) error {
	agent, t := p.run.reader, &fleetv1.Task{Source: p.source()}
	if role == connectorv1.Role_ROLE_SINK {
		agent, t = p.run.writer, &fleetv1.Task{Sink: p.sink()}
		resuming = resuming || p.spec.WhenNotEmpty == "truncate"
	}
	t.Work = &fleetv1.Task_Check{Check: &connectorv1.CheckRequest{Pipeline: p.name, Role: role, Follow: p.follow(), Tables: tables,
		Resuming: resuming, Include: p.spec.Include, Exclude: p.spec.Exclude}}
	r, err := p.call(ctx, agent, t, nil)
	if err != nil {
		return err
	}
	if p.status != nil {
		p.run.note(p, r.GetCheck().GetProblems())
	}
	return problemError(r.GetCheck().GetProblems())
}

func (*attempt) note(p *Pipeline, problems []*connectorv1.Problem) {
	for _, x := range problems {
		if x.Warning {
			p.note("warn", x.Code+" "+x.Object+": "+x.Reason)
		}
	}
}

func (p *Pipeline) mint(ctx context.Context, seen uint64) error {
	p.state.Epoch = lease.Mint(p.state.Epoch, seen)
	return p.save(ctx)
}

// recover raises the fence and takes over what the target says is written. Slot first, its start durable (rule 1).
func (p *Pipeline) recover(ctx context.Context) error {
	if err := p.mint(ctx, 0); err != nil {
		return err
	}
	if p.follow() && len(p.state.Start) == 0 {
		r, err := p.call(ctx, p.run.reader, p.onSource(&fleetv1.Task{Work: &fleetv1.Task_Prepare{
			Prepare: &connectorv1.PrepareRequest{Pipeline: p.name, Tables: p.catalog.Tables}}}), nil)
		if err != nil {
			return err
		}
		if err := fault.Point("coordinator.before-start"); err != nil {
			return err
		}
		p.state.Start = r.GetPrepare().Position
		if err := p.save(ctx); err != nil {
			return err
		}
		if err := fault.Point("coordinator.after-start"); err != nil {
			return err
		}
	}
	for tries := 0; ; tries++ {
		r, err := p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Recover{Recover: &connectorv1.RecoverRequest{
			Pipeline: p.name, Epoch: p.state.Epoch, InitialPosition: p.state.Start, Create: true}}}), nil)
		if d := diag.Find(err); d != nil && d.Code.Class == diag.Fenced && tries == 0 {
			look, err := p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Recover{Recover: &connectorv1.RecoverRequest{Pipeline: p.name}}}), nil)
			if err != nil {
				return err
			}
			if err := p.mint(ctx, max(look.GetRecover().MaxEpoch, look.GetRecover().Epoch)); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if seen := r.GetRecover().MaxEpoch; seen > p.state.Epoch && tries < 3 {
			if err := p.mint(ctx, seen); err != nil {
				return err
			}
			continue
		}
		return p.reconcile(ctx, r.GetRecover().Written)
	}
}

// reconcile makes the ledger say what the target says; unit tables that were under way start over.
func (p *Pipeline) reconcile(ctx context.Context, written []*rowv1.ChunkResult) error {
	var changes []store.Change
	for _, r := range written {
		if c := p.chunk(r.Chunk); c != nil && !c.Written {
			c.Written, c.result, c.Result = true, r, store.Wire(r)
			changes = append(changes, store.PutChunk(p.name, r.Chunk, c.Chunk))
		}
	}
	var again []*table
	for _, t := range p.tables {
		t.failure, t.Failure = nil, nil
		if plan.Unit(t.row) && !t.Loaded && t.begun() {
			again = append(again, t)
		}
	}
	if err := p.save(ctx, changes...); err != nil || len(again) == 0 {
		return err
	}
	return p.restart(ctx, again)
}

// restart lets tables load from scratch.
func (p *Pipeline) restart(ctx context.Context, tables []*table) error {
	var rows []*rowv1.Table
	var changes []store.Change
	for _, t := range tables {
		rows = append(rows, t.row)
		for id := range t.chunks {
			changes = append(changes, store.DropChunk(p.name, id))
		}
		t.Table = store.Table{Index: t.Index}
		t.chunks = map[uint64]*chunk{}
		changes = append(changes, store.PutTable(p.name, t.Table))
		p.note("warn", "table "+t.row.Source.Schema+"."+t.row.Source.Name+" is loaded again")
	}
	if err := p.resetAt(ctx, rows, nil); err != nil {
		return err
	}
	return p.save(ctx, changes...)
}

func (p *Pipeline) resetAt(ctx context.Context, tables []*rowv1.Table, memo []byte) error {
	_, err := p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Reset_{Reset_: &connectorv1.ResetRequest{
		Pipeline: p.name, Epoch: p.state.Epoch, Tables: tables, Memo: memo}}}), nil)
	return err
}

// schema makes tables; with changes to come, their keys too.
func (p *Pipeline) schema(ctx context.Context) error {
	if p.state.Finished || p.state.Loaded && p.state.StepsDone > 0 {
		return nil
	}
	if err := p.enter(ctx, controlv1.Phase_PHASE_SCHEMA); err != nil {
		return err
	}
	phases := []connectorv1.Phase{connectorv1.Phase_PHASE_TABLES}
	if p.follow() {
		phases = append(phases, connectorv1.Phase_PHASE_KEYS)
	}
	if err := p.steps(ctx, phases); err != nil {
		return err
	}
	if p.spec.WhenNotEmpty == "truncate" && p.state.Phase < controlv1.Phase_PHASE_LOAD {
		return p.resetAt(ctx, p.catalog.Tables, nil)
	}
	return nil
}

// steps runs schema steps; the target remembers which are done.
func (p *Pipeline) steps(ctx context.Context, phases []connectorv1.Phase) error {
	if !p.spec.Schema {
		return nil
	}
	for _, phase := range phases {
		var steps []*connectorv1.SchemaStep
		for _, s := range p.catalog.Steps {
			if s.Phase == phase {
				steps = append(steps, s)
			}
		}
		if len(steps) == 0 {
			continue
		}
		done := p.stepsBefore(phase)
		var problems []*connectorv1.Problem
		seen := map[uint32]bool{}
		hear := func(s *connectorv1.ApplySchemaResponse) {
			if seen[s.Step] {
				return
			}
			seen[s.Step] = true
			if s.Problem != nil {
				problems = append(problems, s.Problem)
			} else {
				done++
			}
			p.state.StepsDone = max(p.state.StepsDone, done)
		}
		r, err := p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Schema{Schema: &connectorv1.ApplySchemaRequest{
			Pipeline: p.name, Epoch: p.state.Epoch, Steps: steps, Parallel: max(p.spec.Parallel, 2)}}}), func(e *fleetv1.Event) {
			if s := e.GetSchemaStep(); s != nil {
				hear(s)
			}
		})
		if err != nil {
			return err
		}
		for _, s := range r.GetSchema().GetSteps() {
			hear(s)
		}
		if err := problemError(problems); err != nil {
			return err
		}
	}
	return p.save(ctx)
}

func (p *Pipeline) stepsBefore(phase connectorv1.Phase) int {
	n := 0
	for _, s := range p.catalog.Steps {
		if s.Phase < phase {
			n++
		}
	}
	return n
}

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
