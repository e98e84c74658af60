package engine

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Reload asks for tables to be emptied and loaded again, by their names at the source; without names, all that have failed.
// Those that have not failed need force. It returns what will be loaded again.
func (p *Pipeline) Reload(ctx context.Context, names []string, force bool) (chosen []string, err error) {
	err = p.ask(ctx, func() error {
		tables, err := p.choose(names, force)
		if err != nil || len(tables) == 0 {
			return err
		}
		var changes []store.Change
		for _, t := range tables {
			if t.failure == nil {
				p.failTable(t, wire.Failure(diag.Reloading.New("table "+t.name(), nil, "")))
			}
			t.Again, t.Clear = true, !p.follow()
			chosen, changes = append(chosen, t.name()), append(changes, store.PutTable(p.name, t.Table))
		}
		p.failure, p.state.Failure = nil, nil
		p.state.Desired = controlv1.Desired_DESIRED_RUNNING
		if p.state.Phase > controlv1.Phase_PHASE_STREAMING { // a copy that is over
			p.state.Phase = controlv1.Phase_PHASE_SCHEMA
		}
		p.note("info", "to be loaded again: "+strings.Join(chosen, ", "))
		p.stop = errInterrupted // the next attempt sets aside what is not yet
		err = p.save(ctx, changes...)
		p.publish()
		return err
	})
	return chosen, err
}

// choose finds tables by name.
func (p *Pipeline) choose(names []string, force bool) ([]*table, error) {
	if len(names) == 0 {
		return slices.DeleteFunc(slices.Clone(p.tables), func(t *table) bool { return t.failure == nil }), nil
	}
	var out []*table
	for _, n := range names {
		i := slices.IndexFunc(p.tables, func(t *table) bool { return t.name() == n })
		switch {
		case i < 0:
			return nil, diag.NothingToCopy.New("pipeline "+p.name, nil, "it has no table %s", n).
				WithFix("drover tables " + p.name + "  # names them")
		case p.tables[i].failure == nil && !force:
			return nil, diag.Confirm.New("table "+n, nil, "it has not failed, and is empty at the target until it is loaded again").
				WithFix("drover reload " + p.name + " " + n + " --yes --confirm " + p.name)
		}
		out = append(out, p.tables[i])
	}
	return out, nil
}

// settling are tables that are to be loaded again, and what the stream has to pass before; nil: that is not known yet.
type settling struct {
	tables []*table
	until  []byte
}

// settle begins to wait, beside the stream, until tables that are to be loaded again can be. What the stream had passed when
// they were set aside may be invisible for as long as a standby does not answer, and a read would miss it (Invariant 22);
// what it passes since then is waited for (Invariant 4). Then it passes all that the log holds: of rows as they were before
// the table's definition changed, the next stream must not hear.
func (p *Pipeline) settle() error {
	var wait []*table
	for _, t := range p.tables {
		if t.Again && !t.Clear {
			wait = append(wait, t)
		}
	}
	if len(wait) == 0 {
		return nil
	}
	req := &connectorv1.PrepareRequest{Pipeline: p.name, Tables: rowsOf(append(p.sound(), wait...)), Settle: true}
	for _, t := range wait { // published anew: a table that was dropped and made again is another one for the log
		req.Anew = append(req.Anew, t.Index)
	}
	prepare := &fleetv1.Task{Work: &fleetv1.Task_Prepare{Prepare: req}}
	return p.beside(prepare, wait, func(*fleetv1.Result) error {
		end := &fleetv1.Task{Work: &fleetv1.Task_Position{Position: &connectorv1.PositionRequest{Pipeline: p.name}}}
		return p.beside(end, wait, func(r *fleetv1.Result) error {
			p.run.settling = settling{wait, append([]byte{}, r.GetPosition().GetPosition()...)}
			p.settled(p.run.progress.GetApplied())
			return nil
		})
	})
}

// beside runs a task at the source while everything goes on. A failure of the tables' own makes them stay set aside, or the one
// that it names; of a table that is sound, it ends the attempt like any other.
func (p *Pipeline) beside(t *fleetv1.Task, wait []*table, then func(*fleetv1.Result) error) error {
	t.Epoch = p.state.Epoch
	id, err := p.assign(p.run.reader, p.onSource(t), func(m fleet.Message) {
		if m.Result == nil {
			return
		}
		delete(p.run.tasks, m.Task)
		switch f := m.Result.Failure; {
		case f == nil:
			if err := then(m.Result); err != nil {
				p.stop = err
			}
		case len(p.struck(f)) > 0 || !ownReason(f.Code):
			p.stop = wire.Error(f)
		default:
			p.stayAside(wait, f)
		}
	})
	if err == nil {
		p.run.tasks[id] = true
	}
	return err
}

// stayAside keeps tables set aside that were to be loaded again: the one that a failure names, while the others try again, or all.
func (p *Pipeline) stayAside(wait []*table, f *fleetv1.Failure) {
	stay := wait
	if t := p.blamed(f); slices.Contains(wait, t) {
		stay = []*table{t}
	}
	var changes []store.Change
	for _, t := range stay {
		p.failTable(t, f)
		t.Aside = true
		changes = append(changes, store.PutTable(p.name, t.Table))
	}
	p.keep(changes)
	switch {
	case p.stop != nil:
	case p.hopeless():
		p.stop = wire.Error(f)
	case len(stay) < len(wait):
		if err := p.settle(); err != nil {
			p.stop = err
		}
	}
}

// settled ends the attempt once the stream has passed what it has to: the next one empties the tables, behind its fence.
func (p *Pipeline) settled(applied []byte) {
	s := p.run.settling
	if s.until == nil || bytes.Compare(applied, s.until) < 0 || p.stop != nil {
		return
	}
	var changes []store.Change
	for _, t := range s.tables {
		t.Clear = true
		changes = append(changes, store.PutTable(p.name, t.Table))
	}
	p.run.settling = settling{}
	p.keep(changes)
	if p.stop == nil {
		p.stop = errInterrupted
	}
}

// reloadTables empties the tables that are to be loaded again, behind the fence and before any stream. One that cannot be
// loaded is set aside, as it was.
func (p *Pipeline) reloadTables(ctx context.Context) error {
	if len(p.cleared()) == 0 {
		return nil
	}
	if err := p.steps(ctx, []connectorv1.Phase{connectorv1.Phase_PHASE_TABLES}); err != nil { // one that could not be made
		return err
	}
	again := p.cleared()
	if len(again) == 0 {
		return nil
	}
	found, err := p.readCatalog(ctx, &connectorv1.DiscoverRequest{Include: p.spec.Include, Exclude: p.spec.Exclude})
	if err != nil {
		return err
	}
	fresh, err := newCatalog(found)
	if err != nil {
		return err
	}
	rows, err := fresh.named(again)
	if err != nil {
		return err
	}
	var emptied []*table
	for _, t := range again {
		err := p.empty(ctx, t, rows[t.name()])
		f := wire.Failure(err)
		switch {
		case err == nil:
			emptied = append(emptied, t)
			continue
		case f.Table == 0 && ownReason(f.Code):
			f.Table = t.Index + 1
		}
		if p.blamed(f) != t {
			return err
		}
		p.failTable(t, f)
		if err := p.recordAside(ctx, []*connectorv1.Aside{t.asAside()}); err != nil {
			return err
		}
		if err := p.save(ctx, p.emptied(t)...); err != nil {
			return err
		}
	}
	return p.again(ctx, emptied)
}

// cleared are the tables that can be loaded again now.
func (p *Pipeline) cleared() []*table {
	return slices.DeleteFunc(slices.Clone(p.tables), func(t *table) bool { return !t.Again || !t.Clear })
}

// empty takes the table's definition anew and empties it at the target, if that can take its rows.
func (p *Pipeline) empty(ctx context.Context, t *table, row *rowv1.Table) error {
	if row == nil {
		return diag.About(diag.SchemaChanged.New("source › table "+t.name(), nil, "the table is not there any more").
			WithFix("Create it again at the source, or drover delete "+p.name+" and copy without it."), t.Index)
	}
	row.Index, row.Target = t.Index, t.row.Target
	r, err := p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Reset_{Reset_: &connectorv1.ResetRequest{
		Pipeline: p.name, Epoch: p.state.Epoch, Tables: []*rowv1.Table{row}, Fit: true, Retyped: retyped(t.whole(), row)}}}), nil)
	if err != nil {
		return err
	}
	if contains(r.GetReset_().GetUnique(), t.Index) && row.Gate == rowv1.GateMode_GATE_MODE_KEYED {
		row.Gate, row.GateReason = rowv1.GateMode_GATE_MODE_UNIT, "it is loaded again beside its unique indexes: rows read at different moments may collide there"
	}
	t.row, t.full = outline(row, map[string]string{}), store.Wire(row)
	return p.catalog.replace(row)
}

// retyped are the columns of a table that have another type than they had.
func retyped(was, is *rowv1.Table) (names []string) {
	types := map[string]string{}
	for _, c := range was.Columns {
		types[c.Name] = c.NativeType
	}
	for _, c := range is.Columns {
		if old, ok := types[c.Name]; ok && old != c.NativeType {
			names = append(names, c.Name)
		}
	}
	return names
}

// again lets tables that are empty at the target load from scratch, and what is built after the load be looked at again.
// The target hears of definitions that have changed first: it is asked when nothing else is left.
func (p *Pipeline) again(ctx context.Context, tables []*table) error {
	if len(tables) == 0 {
		return nil
	}
	if p.follow() {
		memo, err := p.memo()
		if err != nil {
			return err
		}
		if _, err := p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Reset_{Reset_: &connectorv1.ResetRequest{
			Pipeline: p.name, Epoch: p.state.Epoch, Memo: memo}}}), nil); err != nil {
			return err
		}
	}
	changes := p.catalog.put(p.name)
	for _, t := range tables {
		t.failure = nil
		changes = append(changes, p.unload(t, store.Table{})...)
		p.note("info", "table "+t.name()+" is loaded again")
	}
	p.state.Loaded, p.state.Finished = false, false
	return p.save(ctx, changes...)
}
