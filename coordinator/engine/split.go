package engine

import (
	"context"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/store"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// split asks for the ranges of a big table. They count once all pages are here: a second split may cut elsewhere.
func (p *Pipeline) split(_ context.Context, t *table) error {
	var chunks []*rowv1.Chunk
	task := p.onSource(&fleetv1.Task{Epoch: p.state.Epoch, Work: &fleetv1.Task_Split{Split: &connectorv1.SplitRequest{Table: t.row, TargetBytes: p.chunkBytes()}}})
	id, err := p.assign(p.run.reader, task, func(m fleet.Message) {
		chunks = append(chunks, m.Event.GetChunks().GetChunks()...)
		if m.Result == nil {
			return
		}
		p.run.splitting = 0
		delete(p.run.tasks, m.Task)
		if err := fleetError(m); err != nil {
			p.stop = err
			return
		}
		chunks = append(chunks, m.Result.GetSplit().GetChunks()...)
		changes := make([]store.Change, 0, len(chunks)+1)
		for n, c := range chunks {
			c.Id, c.Table = plan.ChunkID(t.Index, uint32(n)), t.Index
			rec := &chunk{row: c, Chunk: store.Chunk{Chunk: store.Wire(c)}}
			t.chunks[c.Id] = rec
			changes = append(changes, store.PutChunk(p.name, c.Id, rec.Chunk))
		}
		t.Split, t.Chunks = true, len(chunks)
		p.keep(append(changes, store.PutTable(p.name, t.Table)))
		if len(chunks) == 0 {
			p.tableLoaded(t)
		}
	})
	if err == nil {
		p.run.splitting, p.run.tasks[id] = id, true
	}
	return err
}
