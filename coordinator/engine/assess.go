package engine

import (
	"context"

	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// assess opens and checks both ends and learns the catalog, until it is stored: from the target's memo when it has
// one, else from the source.
func (p *Pipeline) assess(ctx context.Context) error {
	if err := p.enter(ctx, controlv1.Phase_PHASE_ASSESS); err != nil {
		return err
	}
	source, target, err := p.open(ctx)
	if err != nil {
		return err
	}
	if err := apart(source.GetOpen(), target.GetOpen()); err != nil {
		return err
	}
	if err := p.sameDatabases(ctx, source.GetOpen(), target.GetOpen()); err != nil {
		return err
	}
	p.state.Source, p.state.Target = source.GetOpen().GetDisplay(), target.GetOpen().GetDisplay()
	p.state.TargetID = target.GetOpen().GetIdentity()
	p.state.Undo = map[string][]string{"source": source.GetOpen().GetUndo(), "target": target.GetOpen().GetUndo()}
	p.state.SourceInstance, p.state.TargetInstance = source.GetOpen().GetInstance(), target.GetOpen().GetInstance()
	p.state.PositionFormat = source.GetDescribe().GetPositionFormat()
	if p.state.Discovered {
		return nil
	}
	p.state.SourceID = source.GetOpen().GetIdentity()
	p.run.sourceVersion, p.run.sourceSorting, p.run.sourceEncoding = source.GetOpen().GetServerVersion(), source.GetOpen().GetSorting(), source.GetOpen().GetEncoding()
	known, err := p.askSink(ctx, &connectorv1.RecoverRequest{Pipeline: p.name})
	if err != nil {
		return err
	}
	m, err := readMemo(known.GetMemo())
	if err != nil {
		return err
	}
	if m != nil {
		return p.resume(ctx, known, m)
	}
	return p.discover(ctx, known)
}

// apart refuses a database as its own target, whatever it is called there: what empties the target would empty the source.
func apart(source, target *connectorv1.OpenResponse) error {
	foreign := source.GetIdentity() == "" || source.GetIdentity() != target.GetIdentity()
	copied := source.GetInstance() != "" && target.GetInstance() != "" && source.GetInstance() != target.GetInstance()
	if foreign || copied {
		return nil
	}
	return diag.SameDatabase.New("target › "+target.GetDisplay(), nil, "it is the database of the source, %s", source.GetDisplay())
}

// open starts both connectors at once: that takes longer than anything else before the first row. If both fail, the
// source is told first.
func (p *Pipeline) open(ctx context.Context) (source, target *fleetv1.OpenResult, err error) {
	ask := func(agent string, t *fleetv1.Task) (*pending, error) {
		t.Work = &fleetv1.Task_Open{Open: &fleetv1.OpenTask{}}
		return p.begin(agent, t, nil)
	}
	one, err := ask(p.run.reader, p.onSource(&fleetv1.Task{}))
	if err != nil {
		return nil, nil, err
	}
	defer p.takeBack(one)
	two, err := ask(p.run.writer, p.onSink(&fleetv1.Task{}))
	if err != nil {
		return nil, nil, err
	}
	defer p.takeBack(two)
	r, err := p.await(ctx, one)
	if err != nil {
		return nil, nil, err
	}
	w, err := p.await(ctx, two)
	return r.GetOpen(), w.GetOpen(), err
}

// askSink asks the target what it keeps of the pipeline.
func (p *Pipeline) askSink(ctx context.Context, r *connectorv1.RecoverRequest) (*connectorv1.RecoverResponse, error) {
	a, err := p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Recover{Recover: r}}), nil)
	return a.GetRecover(), err
}

// discover reads the catalog at the source. Tokens without a memo are of a load that cannot be gone on with: its
// snapshot is gone.
func (p *Pipeline) discover(ctx context.Context, old *connectorv1.RecoverResponse) error {
	resuming := old.GetFound()
	p.found = nil
	if err := p.check(ctx, connectorv1.Role_ROLE_SOURCE, resuming); err != nil {
		return err
	}
	found, err := p.readCatalog(ctx, &connectorv1.DiscoverRequest{Include: p.spec.Include, Exclude: p.spec.Exclude})
	if err != nil {
		return err
	}
	if p.catalog, err = newCatalog(found); err != nil {
		return err
	}
	if err := problemError(p.catalog.problems); err != nil {
		return err
	}
	if err := p.check(ctx, connectorv1.Role_ROLE_SINK, resuming); err != nil {
		return err
	}
	warnings := p.found
	p.found = nil
	if err := p.makeTables(nil); err != nil {
		return err
	}
	if err := p.claim(ctx, old); err != nil {
		return err
	}
	p.found = nil // as before
	p.catalog.problems = append(append(p.catalog.problems, warnings...), p.left()...)
	p.state.Discovered, p.state.Left = true, nil
	p.note("info", "the catalog is known")
	return p.save(ctx, p.everything()...)
}

// readCatalog puts the pages of the answer together.
func (p *Pipeline) readCatalog(ctx context.Context, req *connectorv1.DiscoverRequest) (*connectorv1.DiscoverResponse, error) {
	all, seen := &connectorv1.DiscoverResponse{}, pages(0)
	r, err := p.call(ctx, p.run.reader, p.onSource(&fleetv1.Task{Work: &fleetv1.Task_Discover{Discover: req}}), func(e *fleetv1.Event) {
		if seen.fresh(e) {
			join(all, e.GetCatalog())
		}
	})
	join(all, r.GetDiscover())
	return all, err
}

// join appends without a copy: a catalog may be large.
func join(all, more *connectorv1.DiscoverResponse) {
	all.Tables, all.Steps = append(all.Tables, more.GetTables()...), append(all.Steps, more.GetSteps()...)
	all.Packed = append(all.Packed, more.GetPacked()...)
	all.NotCarried, all.Problems = append(all.NotCarried, more.GetNotCarried()...), append(all.Problems, more.GetProblems()...)
}

// pages is the last page of an answer that came; a link that broke may bring pages again.
type pages uint32

func (p *pages) fresh(e *fleetv1.Event) bool {
	if e.GetPage() <= uint32(*p) {
		return false
	}
	*p = pages(e.Page)
	return true
}

// everything is the catalog and all that is known of its tables.
func (p *Pipeline) everything() []store.Change {
	changes := p.catalog.put(p.name)
	for _, t := range p.tables {
		changes = append(changes, store.PutTable(p.name, t.Table))
		for id, c := range t.chunks {
			changes = append(changes, store.PutChunk(p.name, id, c.Chunk))
		}
	}
	return changes
}

// check asks one side for everything that would stop the pipeline there.
func (p *Pipeline) check(ctx context.Context, role connectorv1.Role, resuming bool) error {
	agent, t := p.run.reader, &fleetv1.Task{Source: p.source()}
	req := &connectorv1.CheckRequest{Pipeline: p.name, Role: role, Follow: p.follow(), Resuming: resuming, Include: p.spec.Include, Exclude: p.spec.Exclude}
	if role == connectorv1.Role_ROLE_SINK {
		agent, t = p.run.writer, &fleetv1.Task{Sink: p.sink()}
		req.Resuming = resuming || p.spec.WhenNotEmpty == "truncate"
		req.Packed, req.SourceVersion = p.catalog.tables, p.run.sourceVersion
		req.SourceSorting, req.SourceEncoding = p.run.sourceSorting, p.run.sourceEncoding
		if p.spec.Schema {
			req.Packed = p.catalog.pages()
		}
	}
	t.Work = &fleetv1.Task_Check{Check: req}
	r, err := p.call(ctx, agent, t, nil)
	if err != nil {
		return err
	}
	problems, err := withShared(r.GetCheck(), p.catalog)
	if err != nil {
		return err
	}
	for _, x := range problems {
		if x.Warning {
			p.note("warn", x.Code+" "+x.Object+": "+x.Reason)
		}
	}
	p.found = append(p.found, problems...)
	return problemError(problems)
}
