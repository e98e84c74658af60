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
	p.listLeft()
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
	if p.run.left.some() {
		return false
	}
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
	for _, t := range p.run.left.near { // also those whose last chunks only the target knew to be written
		if !t.Loaded && t.failure == nil && t.complete() {
			complete = append(complete, t)
		}
	}
	p.tablesLoaded(complete...)
	p.run.left.forget()
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

// view is what the scheduler sees: what is near, and as much more as it can use.
func (p *Pipeline) view() schedule.View {
	v := schedule.View{Parallel: int(p.spec.Parallel), Agents: p.loaders(), Apart: p.apart(), Speed: p.run.speed}
	for l := range p.run.loads {
		v.InFlight = append(v.InFlight, l.Pair)
	}
	if p.run.splitting != 0 {
		v.Splitting = 1
	}
	cut := p.present(map[string]bool{p.run.reader: true, p.run.writer: true}) // one cuts a table, the other keeps its plan
	if t := p.run.left.nextUncut(); t != nil && cut {
		v.Unsplit = []uint32{t.Index}
	}
	now, ready := time.Now(), 0
	for _, t := range p.run.left.near {
		ready += p.pend(&v, t, now)
	}
	if p.follow() || p.run.snapshot != "" {
		for most := v.Most(); ready < most && len(p.run.left.far) > 0; {
			ready += p.pend(&v, p.run.left.approach(), now)
		}
		v.Behind = p.run.left.farBytes
	}
	return v
}

// pend adds the chunks of a table that may be granted, now or later, and counts those that are ready. A small table becomes
// one chunk without asking anybody.
func (p *Pipeline) pend(v *schedule.View, t *table, now time.Time) (ready int) {
	if t.Loaded || t.failure != nil {
		return 0
	}
	add := func(c schedule.Chunk) {
		if p.needsSnapshot(t) {
			c.Shelf, c.Ready = 1, c.Ready && p.run.snapshot != "" && (!p.follow() || contains(p.run.group, t.Index))
		}
		if c.Ready {
			ready++
		}
		v.Pending = append(v.Pending, c)
	}
	if !t.Split {
		add(schedule.Chunk{ID: plan.ChunkID(t.Index, 0), Bytes: t.row.EstimatedBytes, Ready: true})
	}
	for n := range t.Chunks {
		c := t.chunks[plan.ChunkID(t.Index, uint32(n))]
		if c == nil || c.Written || c.inFlight {
			continue
		}
		add(schedule.Chunk{ID: c.row.Id, Bytes: c.row.EstimatedBytes, Held: c.Granted && p.follow(), Ready: now.After(c.notUntil), Alone: c.Granted})
	}
	return ready
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
