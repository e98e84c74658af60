package engine

import (
	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/store"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// split asks for the ranges of a big table. They count once all pages are here and, with changes to come, once the
// target keeps them: a second split may cut elsewhere.
func (p *Pipeline) split(t *table) error {
	var chunks []*rowv1.Chunk
	var seen pages
	task := p.onSource(&fleetv1.Task{Epoch: p.state.Epoch, Work: &fleetv1.Task_Split{Split: &connectorv1.SplitRequest{Table: t.whole(), TargetBytes: plan.ChunkBytes(t.row, p.chunkBytes())}}})
	return p.splitStep(p.run.reader, task, func(m fleet.Message) {
		if seen.fresh(m.Event) {
			chunks = append(chunks, m.Event.GetChunks().GetChunks()...)
		}
		if m.Result == nil {
			return
		}
		chunks = append(chunks, m.Result.GetSplit().GetChunks()...)
		for n, c := range chunks {
			c.Id, c.Table = plan.ChunkID(t.Index, uint32(n)), t.Index
		}
		if !p.follow() {
			p.cut(t, chunks)
		} else if err := p.keepPlan(t, chunks); err != nil {
			p.stop = err
		}
	})
}

// keepPlan stores the ranges at the target before anything of them is granted.
func (p *Pipeline) keepPlan(t *table, chunks []*rowv1.Chunk) error {
	task := p.onSink(&fleetv1.Task{Epoch: p.state.Epoch, Work: &fleetv1.Task_Reset_{Reset_: &connectorv1.ResetRequest{
		Pipeline: p.name, Epoch: p.state.Epoch, Plan: chunks}}})
	return p.splitStep(p.run.writer, task, func(m fleet.Message) {
		if m.Result != nil {
			p.cut(t, chunks)
		}
	})
}

// splitStep runs one task of a split; only one table is split at a time.
func (p *Pipeline) splitStep(agent string, task *fleetv1.Task, on func(fleet.Message)) error {
	id, err := p.assign(agent, task, func(m fleet.Message) {
		if m.Result != nil {
			p.run.splitting = 0
			delete(p.run.tasks, m.Task)
			if err := fleetError(m); err != nil {
				p.stop = err
				return
			}
		}
		on(m)
	})
	if err == nil {
		p.run.splitting, p.run.tasks[id] = id, true
	}
	return err
}

// cut enters a table's chunks into the ledger.
func (p *Pipeline) cut(t *table, chunks []*rowv1.Chunk) {
	changes := make([]store.Change, 0, len(chunks)+1)
	for _, c := range chunks {
		rec := &chunk{row: c, Chunk: store.Chunk{Chunk: store.Wire(c)}}
		t.keep(rec)
		changes = append(changes, store.PutChunk(p.name, c.Id, rec.Chunk))
	}
	t.Split, t.Chunks = true, len(chunks)
	p.run.left.add(t)
	p.keep(append(changes, store.PutTable(p.name, t.Table)))
	if len(chunks) == 0 {
		p.tablesLoaded(t)
	}
}
