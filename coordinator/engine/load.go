package engine

import (
	"context"
	"time"

	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/schedule"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/fault"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// loadAll moves all rows. The actor decides after every message; nothing here waits for a single task.
func (p *Pipeline) loadAll(ctx context.Context) error {
	if p.state.Loaded {
		return nil
	}
	if err := p.enter(ctx, controlv1.Phase_PHASE_LOAD); err != nil {
		return err
	}
	var broken error
	err := p.pump(ctx, 0, func() bool {
		if broken = p.drive(ctx); broken != nil {
			return true
		}
		return p.allLoaded()
	})
	if err != nil {
		return err
	}
	if broken != nil {
		return broken
	}
	if p.run.snapshotTask != 0 {
		p.dropSnapshot()
	}
	p.state.Loaded = true
	p.note("info", "all rows are loaded")
	if err := fault.Point("coordinator.before-loaded"); err != nil {
		return err
	}
	if err := p.save(ctx); err != nil {
		return err
	}
	return fault.Point("coordinator.after-loaded")
}

func (p *Pipeline) allLoaded() bool {
	for _, t := range p.tables {
		if !t.Loaded && !t.Aside || t.Again {
			return false
		}
	}
	return len(p.run.loads) == 0
}

// drive is one decision.
func (p *Pipeline) drive(ctx context.Context) error {
	if err := p.asideWhileLoading(); err != nil {
		return err
	}
	var complete []*table
	for _, t := range p.tables { // also those whose last chunks only the target knew to be written
		if !t.Loaded && t.failure == nil && t.complete() {
			complete = append(complete, t)
		}
	}
	p.tablesLoaded(complete...)
	if p.stop != nil {
		return p.stop
	}
	if err := p.snapshot(ctx); err != nil {
		return err
	}
	p.invite()
	c := schedule.Decide(p.view())
	for _, index := range c.Split {
		if err := p.split(p.tables[index]); err != nil {
			return err
		}
	}
	if len(c.Grants) == 0 {
		return nil
	}
	return p.grant(ctx, c.Grants)
}

// view is what the scheduler sees. Small tables become one chunk without asking anybody.
func (p *Pipeline) view() schedule.View {
	v := schedule.View{Parallel: int(p.spec.Parallel), Agents: p.loaders(), Apart: p.apart(), Speed: p.run.speed}
	for l := range p.run.loads {
		v.InFlight = append(v.InFlight, l.Pair)
	}
	if p.run.splitting != 0 {
		v.Splitting = 1
	}
	cut := p.present(map[string]bool{p.run.reader: true, p.run.writer: true}) // one cuts a table, the other keeps its plan
	now := time.Now()
	for _, t := range p.sorted {
		if t.Loaded || t.failure != nil {
			continue
		}
		shelf, ready := 0, true
		if p.needsSnapshot(t) {
			shelf, ready = 1, p.run.snapshot != "" && (!p.follow() || contains(p.run.group, t.Index))
		}
		if !t.Split {
			if p.small(t) {
				v.Pending = append(v.Pending, schedule.Chunk{ID: plan.ChunkID(t.Index, 0), Bytes: t.row.EstimatedBytes, Ready: ready, Shelf: shelf})
			} else if cut {
				v.Unsplit = append(v.Unsplit, t.Index)
			}
			continue
		}
		for n := range t.Chunks {
			c := t.chunks[plan.ChunkID(t.Index, uint32(n))]
			if c == nil || c.Written || c.inFlight {
				continue
			}
			v.Pending = append(v.Pending, schedule.Chunk{ID: c.row.Id, Bytes: c.row.EstimatedBytes, Held: c.Granted && p.follow(),
				Ready: ready && now.After(c.notUntil), Alone: c.Granted, Shelf: shelf})
		}
	}
	return v
}

// small tables are one chunk, which enters the ledger when it is granted: of thousands few are in flight.
func (p *Pipeline) small(t *table) bool { return plan.Fits(t.row, p.chunkBytes()) }

// enterWhole makes the only chunk of a small table.
func (p *Pipeline) enterWhole(t *table) {
	whole := plan.Whole(t.row, p.chunkBytes())
	t.Split, t.Chunks = true, 1
	t.keep(&chunk{row: whole, Chunk: store.Chunk{Chunk: store.Wire(whole)}})
}

// needsSnapshot: in a plain copy everything is read under one snapshot, else only unit tables are.
func (p *Pipeline) needsSnapshot(t *table) bool { return !p.follow() || plan.Unit(t.row) }

func (p *Pipeline) chunkBytes() int64 {
	if p.spec.ChunkBytes > 0 {
		return p.spec.ChunkBytes
	}
	return plan.DefaultChunkBytes
}
