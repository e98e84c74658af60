package engine

import (
	"time"

	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/position"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// count adds up tables and chunks.
func (p *Pipeline) count(s *controlv1.Status) (tables []*controlv1.TableStatus, chunks []*controlv1.ChunkStatus) {
	var done fraction
	for _, t := range p.ordered() {
		v := p.countTable(t, &chunks)
		switch {
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
		}
		s.TablesTotal++
		s.RowsTotalEstimate += v.RowsEstimate
		s.BytesTotalEstimate += v.BytesEstimate
		s.RowsLoaded, s.BytesLoaded = s.RowsLoaded+v.Rows, s.BytesLoaded+v.Bytes
		s.RowsInFlight, s.BytesInFlight = s.RowsInFlight+v.RowsInFlight, s.BytesInFlight+v.BytesInFlight
		s.ChunksTotal, s.ChunksDone = s.ChunksTotal+v.ChunksTotal, s.ChunksDone+v.ChunksDone
		tables = append(tables, v)
		done.add(v.BytesEstimate, v.FractionAcknowledged, v.Fraction-v.FractionAcknowledged)
		if len(s.TopTables) < 8 && (v.State == "loading" || v.State == "failed") {
			s.TopTables = append(s.TopTables, v)
		}
	}
	acknowledged, moving := done.value()
	s.LoadFraction = acknowledged + moving
	return tables, chunks
}

// countTable is one table, and adds its chunks to all.
func (p *Pipeline) countTable(t *table, all *[]*controlv1.ChunkStatus) *controlv1.TableStatus {
	v := &controlv1.TableStatus{Source: t.name(), Target: t.row.Target.GetSchema() + "." + t.row.Target.GetName(), State: "queued",
		RowsEstimate: max(t.row.EstimatedRows, 0), BytesEstimate: max(t.row.EstimatedBytes, 0), Rows: t.Rows, Bytes: t.Bytes,
		ChunksTotal: int64(t.Chunks), Gate: t.row.Gate.String(), GateReason: t.row.GateReason, Lane: t.row.Lane, Compared: t.Compared,
		Failure: t.failure}
	var done fraction
	for n := range t.Chunks {
		c := t.chunks[plan.ChunkID(t.Index, uint32(n))]
		if c == nil { // its table is loaded, and the chunk forgotten
			continue
		}
		st := p.countChunk(t, c)
		switch {
		case c.Written:
			v.Rows, v.Bytes, v.ChunksDone = v.Rows+st.Rows, v.Bytes+st.Bytes, v.ChunksDone+1
		case c.inFlight:
			v.State = "loading"
			v.RowsInFlight, v.BytesInFlight = v.RowsInFlight+st.RowsInFlight, v.BytesInFlight+st.BytesInFlight
		}
		acknowledged, moving := c.part()
		done.add(c.row.EstimatedBytes, acknowledged, moving)
		*all = append(*all, st)
	}
	acknowledged, moving := done.value()
	v.Fraction, v.FractionAcknowledged = acknowledged+moving, acknowledged
	switch {
	case t.failure != nil:
		v.State = "failed"
	case t.Loaded:
		v.State, v.ChunksDone, v.Fraction, v.FractionAcknowledged = "loaded", v.ChunksTotal, 1, 1
	}
	return v
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
