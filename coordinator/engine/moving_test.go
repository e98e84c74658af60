package engine

import (
	"testing"
	"time"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/store"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// loadingTables is a pipeline amid its load; sizes holds the estimated bytes of each table's chunks.
func loadingTables(sizes ...[]int64) *Pipeline {
	p := newPipeline(&controlv1.Spec{Name: "p"}, store.State{Phase: controlv1.Phase_PHASE_LOAD, Desired: controlv1.Desired_DESIRED_RUNNING}, nil, nil)
	for i, chunks := range sizes {
		row := &rowv1.Table{Index: uint32(i), Source: &rowv1.TableRef{Schema: "s", Name: string(rune('a' + i))}}
		t := &table{row: row, chunks: map[uint64]*chunk{}, Table: store.Table{Index: uint32(i), Split: true, Chunks: len(chunks)}}
		for n, size := range chunks {
			id := plan.ChunkID(uint32(i), uint32(n))
			row.EstimatedBytes += size
			t.chunks[id] = &chunk{row: &rowv1.Chunk{Id: id, Table: uint32(i), EstimatedBytes: size}}
		}
		p.tables = append(p.tables, t)
	}
	p.sort()
	return p
}

func (p *Pipeline) counted() *controlv1.Status {
	s := &controlv1.Status{Phase: p.state.Phase, Desired: p.state.Desired}
	p.count(s)
	return s
}

// tick is what an agent reports of a load that has moved so many bytes of one chunk.
func (p *Pipeline) tick(id uint64, bytes int64) {
	p.hearLoad(&load{chunks: []uint64{id}}, nil)(fleet.Message{Tick: &fleetv1.TaskProgress{Chunks: []*fleetv1.ChunkProgress{{Chunk: id, Bytes: bytes}}}})
}

const mib = int64(1 << 20)

// A table of a single chunk moves on while it is loaded, short of the end, and nothing counts as acknowledged before it is.
func TestMoving_OneChunkIsNotAllOrNothing(t *testing.T) {
	p := loadingTables([]int64{100 * mib})
	c := p.chunk(0)
	p.tick(0, 50*mib) // not given out: a late word of an attempt that has ended
	if s := p.counted(); s.LoadFraction != 0 || s.BytesInFlight != 0 {
		t.Errorf("a chunk that nobody loads: %v", s)
	}
	c.inFlight = true
	for _, step := range []struct {
		moved int64
		want  float64
	}{{25 * mib, 0.25}, {60 * mib, 0.6}, {100 * mib, movingMost}, {300 * mib, movingMost}} {
		p.tick(0, step.moved)
		s := p.counted()
		if s.LoadFraction != step.want || s.BytesInFlight != step.moved || s.BytesLoaded != 0 || s.ChunksDone != 0 || s.TopTables[0].FractionAcknowledged != 0 {
			t.Errorf("%d MiB moved: %v", step.moved/mib, s)
		}
	}
	c.Written, c.result = true, &rowv1.ChunkResult{Rows: 7, Bytes: 300 * mib}
	c.land()
	if s := p.counted(); s.LoadFraction != 1 || s.BytesInFlight != 0 || s.BytesLoaded != 300*mib || c.ended.IsZero() {
		t.Errorf("written: %v", s)
	}
}

// What an attempt has moved goes back when it is lost, and nothing else does.
func TestMoving_ALostAttemptTakesBackItsOwnOnly(t *testing.T) {
	p := loadingTables([]int64{50 * mib, 50 * mib}, []int64{100 * mib})
	p.chunk(0).inFlight, p.chunk(plan.ChunkID(1, 0)).inFlight = true, true
	p.tick(0, 25*mib)
	p.tick(plan.ChunkID(1, 0), 50*mib)
	if f := p.counted().LoadFraction; f != 0.375 {
		t.Errorf("in flight: %v", f)
	}
	p.chunk(0).land()
	if f := p.counted().LoadFraction; f != 0.25 {
		t.Errorf("one attempt was lost: %v", f)
	}
	p.chunk(0).inFlight = true
	if f := p.counted().LoadFraction; f != 0.25 {
		t.Errorf("its next attempt has moved nothing: %v", f)
	}
	p.endAttempt(false)
	if s := p.counted(); s.LoadFraction != 0 || s.BytesInFlight != 0 {
		t.Errorf("all attempts were lost: %v", s)
	}
}

// A better estimate, known once a chunk is written, takes nothing back from those in flight.
func TestMoving_NeverGoesBackForABetterEstimate(t *testing.T) {
	p := loadingTables([]int64{100 * mib, 100 * mib})
	one, two := p.chunk(0), p.chunk(1)
	one.inFlight, two.inFlight = true, true
	p.tick(1, 50*mib)
	before := p.counted().LoadFraction
	one.Written, one.result = true, &rowv1.ChunkResult{Bytes: 200 * mib} // twice what was thought
	one.land()
	p.tick(1, 60*mib)
	if f := p.counted().LoadFraction; f < before+0.5 {
		t.Errorf("from %v to %v, with half of the table written meanwhile", before, f)
	}
	p.tick(1, 160*mib)
	if two.moving != 0.8 {
		t.Errorf("160 of about 200 MiB: %v", two.moving)
	}
}

func TestBottleneck_NamesTheSlowerSide(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		full []float64
		want string
	}{{nil, ""}, {[]float64{1, 1}, ""}, {[]float64{1, 1, 0.9}, "target write"}, {[]float64{0.2, 0.1, 0.3}, "source read"}, {[]float64{0.5, 0.6, 0.7}, ""}} {
		a := &ahead{}
		for _, f := range c.full {
			a.add(now, f)
		}
		if got := a.slower(now); got != c.want {
			t.Errorf("%v: %q, not %q", c.full, got, c.want)
		}
		if got := a.slower(now.Add(time.Minute)); got != "" {
			t.Errorf("%v: %q a minute later", c.full, got)
		}
	}
}

func TestBottleneck_NamesTheStageThatLags(t *testing.T) {
	p := loadingTables()
	const second = 1_000_000
	for _, c := range []struct {
		phase                  controlv1.Phase
		lag, read, wait, apply int64
		want                   string
	}{
		{controlv1.Phase_PHASE_STREAMING, second, second, 0, 0, ""},
		{controlv1.Phase_PHASE_STREAMING, 9 * second, 9 * second, second, second, "source log read"},
		{controlv1.Phase_PHASE_STREAMING, 9 * second, 9 * second, 6 * second, 6 * second, "target apply"}, // no room is left to read into
		{controlv1.Phase_PHASE_STREAMING, 9 * second, 2 * second, 6 * second, second, "target apply"},
		{controlv1.Phase_PHASE_CATCH_UP, 9 * second, 2 * second, second, 6 * second, "target apply"},
		{controlv1.Phase_PHASE_LOAD, 9 * second, 2 * second, 6 * second, second, ""}, // the load's floors hold it
	} {
		s := &controlv1.Status{Phase: c.phase, Desired: controlv1.Desired_DESIRED_RUNNING,
			Stream: &fleetv1.StreamProgress{LagMicros: c.lag, ReadLagMicros: c.read, TransferLagMicros: c.wait, ApplyLagMicros: c.apply}}
		if got := p.bottleneck(s); got != c.want {
			t.Errorf("%v: %q, not %q", s, got, c.want)
		}
	}
}
