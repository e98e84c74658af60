package engine

import (
	"context"
	"time"

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
		phases = append([]connectorv1.Phase{connectorv1.Phase_PHASE_KEYS}, append(phases, connectorv1.Phase_PHASE_CUTOVER)...)
	}
	if p.state.Late {
		phases = append([]connectorv1.Phase{connectorv1.Phase_PHASE_TABLES, connectorv1.Phase_PHASE_KEYS}, phases...)
	}
	if err := p.sequences(ctx); err != nil {
		return err
	}
	if err := p.steps(ctx, phases); err != nil {
		return err
	}
	p.state.Finished, p.state.Late = true, false
	return p.save(ctx)
}

func (p *Pipeline) allPassed() bool {
	for _, t := range p.tables {
		if !t.Passed && t.failure == nil {
			return false
		}
	}
	return true
}

// keepStreaming lasts until somebody stops it or the stream breaks. Values of sequences are carried over beside it, new tables
// looked for, and tables that were not compared are tried again.
func (p *Pipeline) keepStreaming(ctx context.Context) error {
	if !p.follow() {
		return nil
	}
	if err := p.enter(ctx, controlv1.Phase_PHASE_STREAMING); err != nil {
		return err
	}
	var look time.Time
	for next := time.Now().Add(compareEvery); ; {
		if err := p.pump(ctx, sequencesEvery, func() bool { return true }); err != nil {
			return err
		}
		if err := p.carrySequences(ctx); err != nil {
			return err
		}
		if began := time.Now(); !began.Before(look) {
			if err := p.lookForTables(ctx); err != nil {
				return err
			}
			look = time.Now().Add(max(tablesEvery, tablesShare*time.Since(began)))
		}
		if len(p.uncompared()) == 0 || time.Now().Before(next) {
			continue
		}
		if err := p.compareStream(ctx); err != nil {
			return err
		}
		next = time.Now().Add(compareEvery)
	}
}
