package engine

import (
	"context"
	"slices"
	"time"

	"github.com/droverdb/drover/coordinator/store"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// finish waits for the end of the overlap and builds what the load went faster without.
func (p *Pipeline) finish(ctx context.Context) error {
	if p.state.Finished {
		return nil
	}
	if err := p.enter(ctx, controlv1.Phase_PHASE_CATCH_UP); err != nil {
		return err
	}
	phases := []connectorv1.Phase{connectorv1.Phase_PHASE_INDEXES, connectorv1.Phase_PHASE_CONSTRAINTS, connectorv1.Phase_PHASE_FINISH}
	if p.follow() {
		p.waiting = "the end of the load's overlap"
		if err := p.pump(ctx, 0, p.allPassed); err != nil {
			return err
		}
		p.waiting = ""
	} else {
		phases = append([]connectorv1.Phase{connectorv1.Phase_PHASE_KEYS}, phases...)
	}
	if err := p.sequences(ctx); err != nil {
		return err
	}
	if err := p.steps(ctx, phases); err != nil {
		return err
	}
	p.state.Finished = true
	return p.save(ctx)
}

func (p *Pipeline) allPassed() bool {
	for _, t := range p.tables {
		if !t.Passed {
			return false
		}
	}
	return true
}

// sequences reads the values sequences have by now; tables and other steps stay as they were.
func (p *Pipeline) sequences(ctx context.Context) error {
	if !p.spec.Schema || !slices.ContainsFunc(p.catalog.Steps, func(s *connectorv1.SchemaStep) bool { return s.Kind == "sequence value" }) {
		return nil
	}
	found, err := p.readCatalog(ctx, &connectorv1.DiscoverRequest{Include: p.spec.Include, Exclude: p.spec.Exclude, ValuesOnly: true})
	if err != nil {
		return err
	}
	fresh := map[string]*connectorv1.SchemaStep{}
	for _, s := range found.Steps {
		if s.Phase == connectorv1.Phase_PHASE_FINISH {
			fresh[s.Kind+" "+s.Object] = s
		}
	}
	for _, s := range p.catalog.Steps {
		if n := fresh[s.Kind+" "+s.Object]; s.Phase == connectorv1.Phase_PHASE_FINISH && n != nil {
			s.Sql = n.Sql
		}
	}
	return p.save(ctx, store.PutCatalog(p.name, p.catalog)...)
}

// keepStreaming lasts until somebody stops it or the stream breaks. Tables that were not compared are tried again.
func (p *Pipeline) keepStreaming(ctx context.Context) error {
	if !p.follow() {
		return nil
	}
	if err := p.enter(ctx, controlv1.Phase_PHASE_STREAMING); err != nil {
		return err
	}
	for next := time.Now().Add(compareEvery); ; next = time.Now().Add(compareEvery) {
		if err := p.pump(ctx, 0, func() bool { return time.Now().After(next) && len(p.uncompared()) > 0 }); err != nil {
			return err
		}
		if err := p.compareStream(ctx); err != nil {
			return err
		}
	}
}
