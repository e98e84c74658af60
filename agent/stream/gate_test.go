package stream

import (
	"bytes"
	"testing"

	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const (
	keyedTable = 1
	unitTable  = 2
)

var gateTables = []*rowv1.Table{
	{Index: keyedTable, Gate: rowv1.GateMode_GATE_MODE_KEYED},
	{Index: unitTable, Gate: rowv1.GateMode_GATE_MODE_UNIT},
}

func chunkOf(n uint64, from, to string) *fleetv1.GateChunk {
	return &fleetv1.GateChunk{Chunk: keyedTable<<32 | n, Keys: &rowv1.KeyRange{From: []byte(from), To: []byte(to)}}
}

func withCoverage(c *fleetv1.GateChunk, cov *rowv1.Coverage) *fleetv1.GateChunk {
	return &fleetv1.GateChunk{Chunk: c.Chunk, Keys: c.Keys, Coverage: cov}
}

// sees is an exact coverage of a snapshot taken at log position p, with these transactions in progress.
func sees(p int, xmax uint64, hidden ...uint64) *rowv1.Coverage {
	c := &rowv1.Coverage{Exact: true, Xmin: xmax, Xmax: xmax, InProgress: hidden, HighWater: pos(p)}
	for _, x := range hidden {
		c.Xmin = min(c.Xmin, x)
	}
	return c
}

func newGate(t *testing.T, at int, state ...*fleetv1.GateTable) *Gate {
	t.Helper()
	g, err := NewGate(gateTables, state, pos(at))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func received(t *testing.T, g *Gate, p int, id uint64) {
	t.Helper()
	if err := g.Received(pos(p), []uint64{id}); err != nil {
		t.Fatal(err)
	}
}

func reserve(t *testing.T, g *Gate, chunks ...*fleetv1.GateChunk) *rowv1.Floor {
	t.Helper()
	f, err := g.Reserve(&fleetv1.Reserve{Chunks: chunks})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func written(t *testing.T, g *Gate, chunks ...*fleetv1.GateChunk) {
	t.Helper()
	if err := g.Written(&fleetv1.Written{Chunks: chunks}); err != nil {
		t.Fatal(err)
	}
}

func TestGate_DropsWithoutFloorUpToFloorAndWhatTheReadIncluded(t *testing.T) {
	g := newGate(t, 10)
	received(t, g, 20, 120)
	c := chunkOf(0, "", "m")
	if !g.Judge(keyedTable, []byte("a"), pos(20), 120) {
		t.Error("a chunk without a floor takes changes")
	}
	reserve(t, g, c)
	if !g.Judge(keyedTable, []byte("a"), pos(20), 120) {
		t.Error("a change at the floor is not dropped")
	}
	if g.Limit() == nil || !bytes.Equal(g.Limit(), pos(20)) {
		t.Errorf("limit %x, want the floor", g.Limit())
	}
	written(t, g, withCoverage(c, sees(40, 140, 130)))
	for _, x := range []struct {
		key  string
		pos  int
		id   uint64
		drop bool
	}{
		{"a", 30, 125, true},  // seen by the snapshot
		{"a", 31, 130, false}, // still in progress in it
		{"a", 41, 126, false}, // after its high water: an id alone says nothing
		{"a", 35, 150, false}, // began later
		{"m", 30, 125, true},  // the next chunk has no floor; ends are exclusive
		{"z", 99, 999, true},
	} {
		if got := g.Judge(keyedTable, []byte(x.key), pos(x.pos), x.id); got != x.drop {
			t.Errorf("key %s at %d by %d: dropped %v, want %v", x.key, x.pos, x.id, got, x.drop)
		}
	}
	if g.Limit() != nil {
		t.Error("a written chunk still holds the stream")
	}
}

func TestGate_FloorCarriesWhatIsDeliveredAndNotYetVisible(t *testing.T) {
	g := newGate(t, 10)
	received(t, g, 20, 120)
	received(t, g, 30, 119)
	g.Horizon(sees(35, 125, 119)) // its commit waits for a standby
	f := reserve(t, g, chunkOf(0, "", ""))
	if !bytes.Equal(f.Position, pos(30)) || len(f.Pending) != 1 || f.Pending[0] != 119 {
		t.Fatalf("floor %v", f)
	}
	if g.Releasable(pos(30)) || !g.Releasable(pos(20)) {
		t.Error("a round may be released that a later gate could not ask reads to see")
	}
	err := g.Written(&fleetv1.Written{Chunks: []*fleetv1.GateChunk{withCoverage(chunkOf(0, "", ""), sees(40, 140, 119))}})
	if err == nil {
		t.Error("a read that does not see its floor is accepted")
	}
	g.Horizon(sees(36, 125))
	if !g.Releasable(pos(30)) {
		t.Error("a visible round is not released")
	}
}

func TestGate_RefusesAReadBeforeItsFloor(t *testing.T) {
	g := newGate(t, 10)
	received(t, g, 20, 120)
	reserve(t, g, chunkOf(0, "", ""))
	if err := g.Written(&fleetv1.Written{Chunks: []*fleetv1.GateChunk{withCoverage(chunkOf(0, "", ""), sees(15, 200))}}); err == nil {
		t.Error("accepted")
	}
}

func TestGate_AChunkInFlightKeepsItsFirstFloor(t *testing.T) {
	g := newGate(t, 10)
	reserve(t, g, chunkOf(0, "", "m"))
	received(t, g, 20, 120)
	f := reserve(t, g, chunkOf(0, "", "m"), chunkOf(1, "m", ""))
	if !bytes.Equal(f.Position, pos(20)) || !bytes.Equal(g.Limit(), pos(10)) {
		t.Errorf("floor %x, limit %x: an attempt that nobody heard of may have committed at the first floor", f.Position, g.Limit())
	}
	written(t, g, withCoverage(chunkOf(0, "", "m"), sees(12, 200)))
	if !bytes.Equal(g.Limit(), pos(20)) {
		t.Error("the other chunk does not hold")
	}
}

func TestGate_TheTargetsMarkWinsOverTheCoordinators(t *testing.T) {
	c := chunkOf(0, "", "")
	c.Floor = &rowv1.Floor{Position: pos(26)} // reserved again after a write that nobody heard of
	g := newGate(t, 20, &fleetv1.GateTable{Table: keyedTable, Chunks: []*fleetv1.GateChunk{c}})
	g.Recovered([]*rowv1.ChunkResult{{Chunk: c.Chunk, Coverage: sees(4, 106)}})
	if g.Judge(keyedTable, []byte("a"), pos(25), 122) {
		t.Error("a change after the read is dropped because of a later floor")
	}
	if g.Limit() != nil {
		t.Error("a chunk that the target has holds the stream")
	}
}

func TestGate_BecomesDoneWhenLoadedAndPassedByCommits(t *testing.T) {
	g := newGate(t, 10)
	a, b := chunkOf(0, "", "m"), chunkOf(1, "m", "")
	reserve(t, g, a, b)
	written(t, g, withCoverage(a, sees(20, 120)), withCoverage(b, sees(30, 130)))
	g.Committed(pos(25))
	if n := len(g.tables[keyedTable].spans); n != 2 || !g.tables[keyedTable].spans[0].through {
		t.Error("coverage that was passed is kept")
	}
	g.Committed(pos(30))
	if n := len(g.tables[keyedTable].spans); n != 1 {
		t.Errorf("%d spans, neighbours that are through do not become one", n)
	}
	if g.Done(keyedTable) {
		t.Error("done before all chunks are known")
	}
	if err := g.TablesLoaded([]uint32{keyedTable}); err != nil {
		t.Fatal(err)
	}
	if !g.Done(keyedTable) || len(g.Passed()) != 1 || g.Judge(keyedTable, []byte("x"), pos(1), 1) {
		t.Error("not done")
	}
	if err := g.Written(&fleetv1.Written{Chunks: []*fleetv1.GateChunk{withCoverage(a, sees(20, 120))}}); err != nil {
		t.Errorf("telling twice is an error: %v", err)
	}
}

func TestGate_ATableWithAGapIsNotLoaded(t *testing.T) {
	g := newGate(t, 10)
	for _, c := range []*fleetv1.GateChunk{chunkOf(0, "", "g"), chunkOf(2, "m", "")} {
		reserve(t, g, c)
		written(t, g, withCoverage(c, sees(20, 120)))
	}
	if g.TablesLoaded([]uint32{keyedTable}) == nil {
		t.Error("keys between g and m would be lost in silence")
	}
}

func TestGate_OverlappingChunksAreRefused(t *testing.T) {
	g := newGate(t, 10)
	reserve(t, g, chunkOf(0, "b", "m"))
	for _, c := range []*fleetv1.GateChunk{chunkOf(1, "a", "c"), chunkOf(2, "", ""), chunkOf(3, "c", "d"), chunkOf(4, "z", "y")} {
		if _, err := g.Reserve(&fleetv1.Reserve{Chunks: []*fleetv1.GateChunk{c}}); err == nil {
			t.Errorf("chunk %v accepted", c.Keys)
		}
	}
	reserve(t, g, chunkOf(5, "m", ""), chunkOf(6, "", "b"))
}

func TestGate_ForgetAndResetTakeFloorsBack(t *testing.T) {
	g := newGate(t, 10)
	reserve(t, g, chunkOf(0, "", ""))
	g.Forget(&fleetv1.Forget{Chunks: []uint64{keyedTable << 32}})
	if g.Limit() != nil || !g.Judge(keyedTable, []byte("a"), pos(50), 500) {
		t.Error("forgotten chunk still has a floor")
	}
	reserve(t, g, chunkOf(0, "", ""))
	written(t, g, withCoverage(chunkOf(0, "", ""), sees(20, 120)))
	g.Forget(&fleetv1.Forget{Chunks: []uint64{keyedTable << 32}})
	if g.Judge(keyedTable, []byte("a"), pos(50), 500) {
		t.Error("a written chunk was forgotten: its rows are at the target")
	}
	if err := g.ResetTables([]uint32{keyedTable}, false); err != nil || !g.Judge(keyedTable, []byte("a"), pos(50), 500) {
		t.Error("a reset table takes changes")
	}
}

func TestGate_UnitHasOneFloorAndOneCoverage(t *testing.T) {
	g := newGate(t, 10)
	if !g.Judge(unitTable, []byte("x"), pos(11), 111) {
		t.Error("a unit without a floor takes changes")
	}
	f, err := g.Reserve(&fleetv1.Reserve{Units: []uint32{unitTable}})
	if err != nil || !bytes.Equal(g.Limit(), f.Position) {
		t.Fatal(err)
	}
	if err := g.Written(&fleetv1.Written{Units: []uint32{unitTable}, UnitCoverage: sees(20, 120, 115)}); err != nil {
		t.Fatal(err)
	}
	if g.Limit() != nil || !g.Judge(unitTable, nil, pos(12), 112) || g.Judge(unitTable, nil, pos(13), 115) {
		t.Error("a unit is not judged by its coverage")
	}
	if ranges, all := g.Truncate(unitTable, pos(21), 121); len(ranges) > 0 || !all {
		t.Error("a truncate after the read does not empty the unit")
	}
	if _, all := g.Truncate(unitTable, pos(12), 112); all {
		t.Error("a truncate that the read includes empties the unit")
	}
	if err := g.TablesLoaded([]uint32{unitTable}); err != nil || g.Done(unitTable) {
		t.Error("done before its overlap has passed")
	}
	g.Committed(pos(20))
	if !g.Done(unitTable) {
		t.Error("not done")
	}
}

func TestGate_TruncateEmptiesOnlyWhatWasReadBeforeIt(t *testing.T) {
	g := newGate(t, 10)
	a, b, c := chunkOf(0, "", "g"), chunkOf(1, "g", "m"), chunkOf(2, "m", "t")
	reserve(t, g, a, b, c)
	written(t, g, withCoverage(a, sees(20, 120)), withCoverage(b, sees(21, 121)), withCoverage(c, sees(40, 140)))
	ranges, all := g.Truncate(keyedTable, pos(30), 130)
	if all || len(ranges) != 1 || len(ranges[0].From) > 0 || string(ranges[0].To) != "m" {
		t.Errorf("ranges %v, all %v", ranges, all)
	}
	if ranges, all := g.Truncate(unitTable, pos(30), 130); all || len(ranges) > 0 {
		t.Error("a table that nothing was read of is emptied")
	}
}

func TestGate_ATransactionAtTheStartItselfIsHeld(t *testing.T) {
	g := newGate(t, 10)
	reserve(t, g, chunkOf(0, "", "")) // a floor at the start, which is no transaction
	received(t, g, 10, 110)
	g.Horizon(sees(20, 200))
	if g.Releasable(pos(10)) {
		t.Error("released under a floor that was promised before it came")
	}
	written(t, g, withCoverage(chunkOf(0, "", ""), sees(10, 111, 110)))
	if g.Judge(keyedTable, []byte("a"), pos(10), 110) {
		t.Error("dropped although the read did not see it")
	}
	if g.Received(pos(10), []uint64{111}) == nil {
		t.Error("a second transaction at the same place is accepted")
	}
}

func TestGate_RebuildHoldsAndJudgesAsBefore(t *testing.T) {
	inFlight, done := chunkOf(1, "m", ""), withCoverage(chunkOf(0, "", "m"), sees(30, 130, 125))
	inFlight.Floor, done.Written = &rowv1.Floor{Position: pos(22)}, true
	g := newGate(t, 20, &fleetv1.GateTable{Table: keyedTable, Chunks: []*fleetv1.GateChunk{inFlight, done}},
		&fleetv1.GateTable{Table: unitTable, Done: true})
	if !bytes.Equal(g.Limit(), pos(22)) {
		t.Errorf("limit %x", g.Limit())
	}
	if g.Judge(keyedTable, []byte("a"), pos(29), 125) || !g.Judge(keyedTable, []byte("a"), pos(29), 126) || g.Judge(unitTable, nil, pos(1), 1) {
		t.Error("judged differently")
	}
}

func BenchmarkJudge(b *testing.B) {
	g, err := NewGate(gateTables, nil, pos(10))
	if err != nil {
		b.Fatal(err)
	}
	var req fleetv1.Reserve
	for i := range 256 {
		c := &fleetv1.GateChunk{Chunk: keyedTable<<32 | uint64(i), Keys: &rowv1.KeyRange{From: []byte{byte(i)}, To: []byte{byte(i + 1)}}}
		if i == 255 {
			c.Keys.To = nil
		}
		req.Chunks = append(req.Chunks, c)
	}
	if _, err := g.Reserve(&req); err != nil {
		b.Fatal(err)
	}
	for _, c := range req.Chunks {
		c.Coverage = sees(1000, 2000, 1500, 1600)
	}
	if err := g.Written(&fleetv1.Written{Chunks: req.Chunks}); err != nil {
		b.Fatal(err)
	}
	key, p := make([]byte, 8), pos(900)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		key[0] = byte(i)
		g.Judge(keyedTable, key, p, uint64(i))
	}
}

// What is in flight or half loaded is watched, and nothing else: there may be thousands of tables.
func TestGate_WatchesOnlyWhatIsBegun(t *testing.T) {
	g := newGate(t, 10)
	watches := func(when string, open, flying int) {
		t.Helper()
		if len(g.open) != open || len(g.flying) != flying || (g.Limit() != nil) != (flying > 0) {
			t.Errorf("%s: %d tables are open, %d in flight, the limit is %x", when, len(g.open), len(g.flying), g.Limit())
		}
	}
	watches("at the start", 0, 0)
	all := chunkOf(0, "", "")
	if _, err := g.Reserve(&fleetv1.Reserve{Chunks: []*fleetv1.GateChunk{all}, Units: []uint32{unitTable}}); err != nil {
		t.Fatal(err)
	}
	watches("reserved", 2, 2)
	g.Forget(&fleetv1.Forget{Units: []uint32{unitTable}})
	watches("a unit is forgotten", 1, 1)
	if err := g.Written(&fleetv1.Written{Chunks: []*fleetv1.GateChunk{withCoverage(all, sees(20, 100))}}); err != nil {
		t.Fatal(err)
	}
	watches("written", 1, 0)
	if err := g.TablesLoaded([]uint32{keyedTable}); err != nil {
		t.Fatal(err)
	}
	g.Committed(pos(30))
	watches("passed", 0, 0)
	if _, err := g.Reserve(&fleetv1.Reserve{Units: []uint32{unitTable}}); err != nil {
		t.Fatal(err)
	}
	if err := g.ResetTables([]uint32{unitTable}, true); err != nil {
		t.Fatal(err)
	}
	watches("set aside", 0, 0)
}
