package engine

import (
	"context"

	"github.com/droverdb/drover/coordinator/store"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

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
		if side.name == &p.state.Source {
			p.state.PositionFormat = r.GetOpen().GetDescribe().GetPositionFormat()
		}
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
