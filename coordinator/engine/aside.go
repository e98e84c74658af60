package engine

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// A table that cannot go on for a reason of its own is set aside, and the rest goes on (Invariant 22). The target hears of
// it first, behind the fence or, while tables load, before the gate; only then is a change of it dropped.

// ownReasons come from the data or the definition of one table, and from nothing that others share.
var ownReasons = []diag.Code{diag.SchemaChanged, diag.RowRefused, diag.MissingRow, diag.RowTooLarge, diag.NoIdentity,
	diag.NotEmpty, diag.RowUnreadable, diag.NotSent, diag.NoRight}

// miscounts is how often a chunk of which fewer rows arrive than were sent is tried: a trigger or rule at the target.
const miscounts = 5

func ownReason(code string) bool {
	return slices.ContainsFunc(ownReasons, func(c diag.Code) bool { return c.ID == code })
}

// blamed is the table that a failure is about, and about nothing else; nil: none.
func (p *Pipeline) blamed(f *fleetv1.Failure) *table {
	if f.GetTable() == 0 || int(f.Table) > len(p.tables) || !ownReason(f.Code) {
		return nil
	}
	return p.tables[f.Table-1]
}

// never reports whether changes that a failure is about are not in the log as the server reads it: to stop before them is
// no way to have them later.
func never(f *fleetv1.Failure) bool {
	return f.GetCode() == diag.NotSent.ID || f.GetCode() == diag.PublicationGone.ID
}

// struck are the sound tables that a failure is about, and about nothing else.
func (p *Pipeline) struck(f *fleetv1.Failure) (out []*table) {
	if never(f) && f.Table == 0 {
		return p.sound()
	}
	if p.blamed(f) == nil {
		return nil
	}
	for _, n := range append([]uint32{f.Table}, f.Also...) {
		if n > 0 && int(n) <= len(p.tables) && p.tables[n-1].failure == nil {
			out = append(out, p.tables[n-1])
		}
	}
	return out
}

// last reports whether no other table is left: then the pipeline stops where it is, and may go on from there.
func (p *Pipeline) last(tables ...*table) bool {
	return !slices.ContainsFunc(p.tables, func(x *table) bool { return x.failure == nil && !slices.Contains(tables, x) })
}

// hopeless: all tables are set aside, and none is to be loaded again.
func (p *Pipeline) hopeless() bool {
	return !slices.ContainsFunc(p.tables, func(t *table) bool { return t.failure == nil || t.Again })
}

// spare lets the rest go on without the tables that an attempt has failed for. Where changes never come, no table is spared
// from being set aside, not even the last: the next attempt ends when the target knows.
func (p *Pipeline) spare(ctx context.Context, err error) bool {
	f := wire.Failure(err)
	struck := p.struck(f)
	if len(struck) == 0 {
		return p.blamed(f) != nil && !p.hopeless()
	}
	if !never(f) && p.last(struck...) {
		return false
	}
	var changes []store.Change
	for i, t := range struck {
		own := proto.CloneOf(f)
		if i > 0 && f.Table > 0 {
			own.Where = "source › table " + t.name()
		}
		changes = append(changes, p.failTable(t, own))
	}
	_ = p.save(ctx, changes...) // it is also found again by trying again
	return true
}

// failTable takes a table out; whoever saves the change makes it last.
func (p *Pipeline) failTable(t *table, f *fleetv1.Failure) store.Change {
	f = proto.CloneOf(f)
	f.Table, f.Also, f.Class = t.Index+1, nil, fleetv1.FailureClass_FAILURE_CLASS_HOLD
	again := "drover reload " + p.name + " " + t.name()
	f.Fix = named(f.Fix, "PIPELINE TABLE", p.name+" "+t.name(), "PIPELINE", p.name)
	if !p.follow() {
		again = "Then run the same copy again; where a coordinator runs: " + again
	}
	if f.Code != diag.PublicationGone.ID && !slices.Contains(f.Fix, again) {
		f.Fix = append(f.Fix, again)
	}
	t.failure, t.Failure, t.Compared, t.ComparedAt, t.Aside, t.Again, t.Clear = f, store.Wire(f), "", 0, false, false, false
	if f.Code != diag.Reloading.ID { // else somebody asked for it, and that is told
		p.note("error", "table "+t.name()+" is set aside, the rest goes on: "+wire.Error(f).Error())
	}
	return store.PutTable(p.name, t.Table)
}

func (t *table) asAside() *connectorv1.Aside {
	return &connectorv1.Aside{Table: t.Index, Reason: store.Wire(t.failure)}
}

// emptied is what to store of a table that is set aside: nothing of it counts as loaded.
func (p *Pipeline) emptied(t *table) []store.Change {
	return p.unload(t, store.Table{Failure: store.Wire(t.failure), Aside: true, Again: t.Again, Clear: t.Clear})
}

// hearAside takes over what the target says of tables: it wins over the coordinator's memory.
func (p *Pipeline) hearAside(there []*connectorv1.Aside) map[uint32]bool {
	known := map[uint32]bool{}
	for _, a := range there {
		if int(a.Table) >= len(p.tables) {
			continue
		}
		known[a.Table] = true
		if t := p.tables[a.Table]; t.failure == nil {
			if t.failure = readFailure(a.Reason); t.failure == nil {
				t.failure = wire.Failure(diag.About(diag.Differs.New("table "+t.name(), nil, "it was set aside"), t.Index))
			}
			t.Failure = store.Wire(t.failure)
		}
	}
	return known
}

// putAside makes target and ledger agree on what is set aside, behind the fence and before any stream.
func (p *Pipeline) putAside(ctx context.Context, there []*connectorv1.Aside) error {
	known := p.hearAside(there)
	var fresh []*connectorv1.Aside
	for _, t := range p.tables {
		if t.failure != nil && !known[t.Index] && !t.Clear { // with Clear it was emptied, and a crash kept that from being stored
			fresh = append(fresh, t.asAside())
		}
	}
	if len(fresh) > 0 {
		if err := p.recordAside(ctx, fresh); err != nil {
			return err
		}
	}
	var changes []store.Change
	for _, t := range p.tables {
		if t.failure != nil {
			changes = append(changes, p.emptied(t)...)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return p.save(ctx, changes...)
}

func (p *Pipeline) recordAside(ctx context.Context, tables []*connectorv1.Aside) error {
	_, err := p.call(ctx, p.run.writer, p.asideTask(tables), nil)
	return err
}

func (p *Pipeline) asideTask(tables []*connectorv1.Aside) *fleetv1.Task {
	return p.onSink(&fleetv1.Task{Epoch: p.state.Epoch, Work: &fleetv1.Task_Reset_{Reset_: &connectorv1.ResetRequest{
		Pipeline: p.name, Epoch: p.state.Epoch, Aside: tables}}})
}

// asideWhileLoading sets tables aside whose load has failed, each once nothing of it is in flight: stream, snapshot and all
// other loads go on. The gate is told after the target.
func (p *Pipeline) asideWhileLoading() error {
	for _, t := range p.run.left.near {
		if t.failure == nil || t.Aside || p.run.setting[t.Index] || t.flying() {
			continue
		}
		p.run.setting[t.Index] = true
		id, err := p.assign(p.run.writer, p.asideTask([]*connectorv1.Aside{t.asAside()}), func(m fleet.Message) {
			if m.Result == nil {
				return
			}
			delete(p.run.tasks, m.Task)
			delete(p.run.setting, t.Index)
			if err := fleetError(m); err != nil {
				p.stop = err
				return
			}
			p.keep(p.emptied(t))
			if p.follow() && p.stop == nil {
				p.tell(dropAll(t.Index))
			}
		})
		if err != nil {
			return err
		}
		p.run.tasks[id] = true
	}
	return nil
}

// dropAll tells the gate that a table is set aside.
func dropAll(tables ...uint32) *fleetv1.GateRequest {
	return &fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Reset_{Reset_: &fleetv1.ResetTables{Tables: tables, Aside: true}}}
}

// flying: something of the table is being loaded.
func (t *table) flying() bool {
	for _, c := range t.chunks {
		if c.inFlight {
			return true
		}
	}
	return false
}

// failed counts the tables that are set aside.
func (p *Pipeline) failed() int {
	n := 0
	for _, t := range p.tables {
		if t.failure != nil {
			n++
		}
	}
	return n
}

// sound are the tables that have not failed.
func (p *Pipeline) sound() []*table {
	var out []*table
	for _, t := range p.tables {
		if t.failure == nil {
			out = append(out, t)
		}
	}
	return out
}
