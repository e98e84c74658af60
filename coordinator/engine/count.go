package engine

import (
	"context"
	"time"

	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/position"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// count adds up tables and chunks.
func (p *Pipeline) count(s *controlv1.Status) {
	var done fraction
	for _, t := range p.sorted {
		v := p.tally(t)
		switch {
		case t.asked():
		case t.failure != nil:
			s.TablesFailed++
			s.Failures = append(s.Failures, t.failure)
		case t.Loaded:
			s.TablesDone++
		}
		if t.Compared != "" {
			s.TablesCompared++
		}
		if t.Compared == "equal" {
			s.TablesEqual++
			if s.EqualAtMicros == 0 || t.ComparedAt < s.EqualAtMicros {
				s.EqualAtMicros = t.ComparedAt
			}
		}
		if p.unfollowed(t) {
			s.TablesNotFollowed++
		}
		s.TablesTotal++
		s.RowsTotalEstimate += max(t.row.EstimatedRows, 0)
		s.BytesTotalEstimate += max(t.row.EstimatedBytes, 0)
		s.RowsLoaded, s.BytesLoaded = s.RowsLoaded+v.rows, s.BytesLoaded+v.bytes
		s.RowsInFlight, s.BytesInFlight = s.RowsInFlight+v.rowsMoving, s.BytesInFlight+v.bytesMoving
		s.ChunksTotal, s.ChunksDone = s.ChunksTotal+v.chunks, s.ChunksDone+v.chunksDone
		done.add(max(t.row.EstimatedBytes, 0), v.acknowledged, v.fraction-v.acknowledged)
		if len(s.TopTables) < 8 && (v.state == "loading" || v.state == "failed") {
			s.TopTables = append(s.TopTables, p.tableStatus(t, v))
		}
	}
	acknowledged, moving := done.value()
	s.LoadFraction = acknowledged + moving
}

// tally is how far a table is. It is taken of every table for every status, so it is no message yet.
type tally struct {
	state                                                    string
	rows, bytes, rowsMoving, bytesMoving, chunks, chunksDone int64
	fraction, acknowledged                                   float64
}

func (p *Pipeline) tally(t *table) tally {
	v := tally{state: "queued", rows: t.Rows, bytes: t.Bytes, chunks: int64(t.Chunks)}
	if !t.Split && p.state.Phase >= controlv1.Phase_PHASE_LOAD && p.small(t) {
		v.chunks = 1
	}
	var done fraction
	for n := 0; n < t.Chunks && len(t.chunks) > 0; n++ {
		c := t.chunks[plan.ChunkID(t.Index, uint32(n))]
		if c == nil { // its table is loaded, and the chunk forgotten
			continue
		}
		switch {
		case c.Written:
			v.rows, v.bytes, v.chunksDone = v.rows+c.result.GetRows(), v.bytes+c.result.GetBytes(), v.chunksDone+1
		case c.inFlight:
			v.state = "loading"
			v.rowsMoving, v.bytesMoving = v.rowsMoving+c.moved.GetRows(), v.bytesMoving+c.moved.GetBytes()
		}
		acknowledged, moving := c.part()
		done.add(c.row.EstimatedBytes, acknowledged, moving)
	}
	acknowledged, moving := done.value()
	v.fraction, v.acknowledged = acknowledged+moving, acknowledged
	switch {
	case t.asked():
	case t.failure != nil:
		v.state = "failed"
	case t.Loaded:
		v.state, v.chunksDone, v.fraction, v.acknowledged = "loaded", v.chunks, 1, 1
	}
	return v
}

// asked: nothing is wrong with the table, somebody wants it loaded again.
func (t *table) asked() bool { return t.Again && t.failure.GetCode() == diag.Reloading.ID }

func (p *Pipeline) tableStatus(t *table, v tally) *controlv1.TableStatus {
	failure := t.failure
	if t.asked() {
		failure = nil
	}
	return &controlv1.TableStatus{Source: t.name(), Target: targetName(t.row), State: v.state,
		RowsEstimate: max(t.row.EstimatedRows, 0), BytesEstimate: max(t.row.EstimatedBytes, 0), Rows: v.rows, Bytes: v.bytes,
		RowsInFlight: v.rowsMoving, BytesInFlight: v.bytesMoving, ChunksTotal: v.chunks, ChunksDone: v.chunksDone,
		Fraction: v.fraction, FractionAcknowledged: v.acknowledged,
		Gate: t.row.Gate.String(), GateReason: t.row.GateReason, Lane: t.row.Lane, Compared: t.Compared, ComparedMicros: t.ComparedAt, NotFollowed: p.unfollowed(t), Failure: failure}
}

// Tables lists all tables as they are now, biggest first. Only who asks pays for it.
func (p *Pipeline) Tables(ctx context.Context) (tables []*controlv1.TableStatus, err error) {
	err = p.ask(ctx, func() error {
		for _, t := range p.sorted {
			tables = append(tables, p.tableStatus(t, p.tally(t)))
		}
		return nil
	})
	return tables, err
}

// Chunks lists the ledger as it is now.
func (p *Pipeline) Chunks(ctx context.Context) (chunks []*controlv1.ChunkStatus, err error) {
	err = p.ask(ctx, func() error {
		for _, t := range p.sorted {
			for n := range t.Chunks {
				if c := t.chunks[plan.ChunkID(t.Index, uint32(n))]; c != nil {
					chunks = append(chunks, p.countChunk(t, c))
				}
			}
		}
		return nil
	})
	return chunks, err
}

func (p *Pipeline) countChunk(t *table, c *chunk) *controlv1.ChunkStatus {
	st := &controlv1.ChunkStatus{Id: c.row.Id, Table: t.name(), State: "pending", Agent: c.Agent, Epoch: c.Epoch, Attempts: int32(c.Attempts),
		BytesEstimate: max(c.row.EstimatedBytes, 0), StartedMicros: micros(c.began), EndedMicros: micros(c.ended)}
	switch {
	case c.Written:
		st.State, st.Rows, st.Bytes = "written", c.result.GetRows(), c.result.GetBytes()
		st.Coverage = position.Print(p.state.PositionFormat, c.result.GetCoverage().GetHighWater())
	case c.inFlight:
		st.State, st.RowsInFlight, st.BytesInFlight = "in flight", c.moved.GetRows(), c.moved.GetBytes()
	}
	if len(c.Floor) > 0 && !c.Written {
		st.Floor = position.Print(p.state.PositionFormat, store.ReadFloor(c.Floor).GetPosition())
	}
	return st
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// fraction weighs parts by their size; what the target has acknowledged is kept apart from what is merely moving.
type fraction struct{ acknowledged, moving, total float64 }

func (f *fraction) add(bytes int64, acknowledged, moving float64) {
	const page = 8192 // an empty table is work, too
	weight := float64(max(bytes, page))
	f.acknowledged, f.moving, f.total = f.acknowledged+weight*acknowledged, f.moving+weight*moving, f.total+weight
}

func (f *fraction) value() (acknowledged, moving float64) {
	if f.total == 0 {
		return 0, 0
	}
	return f.acknowledged / f.total, f.moving / f.total
}
