package stream

import (
	"bytes"

	"github.com/droverdb/drover/plugins/sdk"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Reserve puts chunks and units in flight and returns the floor that their read must include.
//
// What is in flight keeps its first floor: an earlier attempt may have committed without anybody knowing, and what
// lies between two floors would be dropped although that read did not see it (Invariant 3). The caller keeps the
// first floor too; the new attempt reads at the one returned, which sees more. A chunk that is written stays
// written. Calling it again is harmless.
func (g *Gate) Reserve(r *fleetv1.Reserve) (*rowv1.Floor, error) {
	floor := g.Floor()
	for _, p := range g.inFlight(r) { // after a restart they may lie ahead, and only they know what was not visible
		if bytes.Compare(p.floor.Position, floor.Position) > 0 {
			floor.Position = p.floor.Position
		}
		floor.Pending = append(floor.Pending, p.floor.Pending...)
	}
	for _, c := range r.Chunks {
		t := g.tables[sdk.ChunkTable(c.Chunk)]
		if t == nil {
			return nil, internal("chunk %d belongs to no table of the pipeline", c.Chunk)
		}
		if !t.keyed {
			g.reserveUnit(t, floor)
			continue
		}
		if t.done || t.isThrough(c.Keys) || t.find(c.Chunk) != nil {
			continue
		}
		p := &span{chunk: c.Chunk, from: c.Keys.GetFrom(), to: c.Keys.GetTo(), floor: floor}
		if err := t.insert(p); err != nil {
			g.setLimit()
			return nil, err
		}
		g.list(t)
	}
	for _, u := range r.Units {
		t := g.tables[u]
		if t == nil || t.keyed {
			return nil, internal("table %d is not gated as a unit", u)
		}
		g.reserveUnit(t, floor)
	}
	g.setLimit()
	return floor, nil
}

// inFlight finds what the request names and is in flight already.
func (g *Gate) inFlight(r *fleetv1.Reserve) []*span {
	var out []*span
	for _, c := range r.Chunks {
		if t := g.tables[sdk.ChunkTable(c.Chunk)]; t != nil {
			p := t.unit
			if t.keyed {
				p = t.find(c.Chunk)
			}
			if p != nil && !p.written {
				out = append(out, p)
			}
		}
	}
	for _, u := range r.Units {
		if t := g.tables[u]; t != nil && t.unit != nil && !t.unit.written {
			out = append(out, t.unit)
		}
	}
	return out
}

func (g *Gate) reserveUnit(t *gateTable, floor *rowv1.Floor) {
	if !t.done && t.unit == nil {
		t.unit = &span{floor: floor}
		g.list(t)
	}
}

// Written takes note that chunks are committed at the target, and what their reads included.
func (g *Gate) Written(w *fleetv1.Written) error {
	defer g.setLimit()
	for _, c := range w.Chunks {
		t := g.tables[sdk.ChunkTable(c.Chunk)]
		if t == nil {
			return internal("chunk %d belongs to no table of the pipeline", c.Chunk)
		}
		if !t.keyed || t.done || t.isThrough(c.Keys) {
			continue // a unit is written as a whole
		}
		p := t.find(c.Chunk)
		if p == nil {
			return internal("chunk %d was written without a floor", c.Chunk)
		}
		if err := p.write(c.Coverage, t.index); err != nil {
			return err
		}
		g.settle(t)
	}
	for _, u := range w.Units {
		t := g.tables[u]
		if t == nil || t.keyed || t.unit == nil && !t.done {
			return internal("unit %d was written without a floor", u)
		}
		if t.done {
			continue
		}
		if err := t.unit.write(w.UnitCoverage, u); err != nil {
			return err
		}
		g.settle(t)
	}
	return nil
}

// write refuses a read older than its floor: the changes between the two have been dropped (Invariant 2).
func (p *span) write(c *rowv1.Coverage, table uint32) error {
	if p.written {
		return nil
	}
	if c == nil {
		return internal("chunk %d of table %d was written without coverage", p.chunk, table)
	}
	end := c.Through
	if c.Exact {
		end = c.HighWater
	}
	early := len(end) > 0 && bytes.Compare(end, p.floor.Position) < 0
	if early || c.Exact && !sdk.SeesAll(c, p.floor.Pending) {
		return internal("chunk %d of table %d was read before its floor; the table has to be loaded again", p.chunk, table)
	}
	p.written, p.coverage = true, c
	return nil
}

// Forget takes back floors of chunks that will not be read under them. The caller knows that the target has
// not committed and will refuse the attempts that had these floors.
func (g *Gate) Forget(f *fleetv1.Forget) {
	for _, id := range f.Chunks {
		t := g.tables[sdk.ChunkTable(id)]
		if t == nil {
			continue
		}
		for i, p := range t.spans {
			if p.chunk == id && !p.written {
				t.spans = append(t.spans[:i], t.spans[i+1:]...)
				break
			}
		}
		g.list(t)
	}
	for _, u := range f.Units {
		if t := g.tables[u]; t != nil && t.unit != nil && !t.unit.written {
			t.unit = nil
			g.list(t)
		}
	}
	g.setLimit()
}

// TablesLoaded takes note that all chunks of the tables are known and written.
func (g *Gate) TablesLoaded(tables []uint32) error {
	for _, index := range tables {
		t := g.tables[index]
		if t == nil {
			return internal("table %d is not one of the pipeline", index)
		}
		if t.done {
			continue
		}
		if t.gap() {
			return internal("table %d is said to be loaded, but some of its keys belong to no chunk", index)
		}
		t.loaded = true
		g.settle(t)
	}
	return nil
}

// ResetTables forgets all that was loaded of these tables: their changes are dropped until chunks are reserved again, for
// good when they are set aside.
func (g *Gate) ResetTables(tables []uint32, aside bool) error {
	for _, index := range tables {
		t := g.tables[index]
		if t == nil {
			return internal("table %d is not one of the pipeline", index)
		}
		if t.done {
			g.undone++
		}
		delete(g.open, t)
		delete(g.flying, t)
		g.tables[index] = &gateTable{index: index, keyed: t.keyed, start: t.start, aside: aside}
		for i, p := range g.passed {
			if p == index {
				g.passed = append(g.passed[:i], g.passed[i+1:]...)
				break
			}
		}
	}
	g.setLimit()
	return nil
}

// Recovered corrects the gate by what the target itself says of chunks that were in flight: its mark is the
// truth, whatever the coordinator had heard before the crash.
func (g *Gate) Recovered(written []*rowv1.ChunkResult) {
	for _, r := range written {
		t := g.tables[sdk.ChunkTable(r.Chunk)]
		if t == nil {
			continue
		}
		if !t.keyed { // all chunks of a unit that is loaded share one coverage
			if t.loaded && t.unit != nil && !t.unit.written && r.Coverage != nil {
				t.unit.written, t.unit.coverage = true, r.Coverage
				g.settle(t)
			}
			continue
		}
		if p := t.find(r.Chunk); p != nil && !p.written && r.Coverage != nil {
			p.written, p.coverage = true, r.Coverage
			g.settle(t)
		}
	}
	g.setLimit()
}
