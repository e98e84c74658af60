package stream

import (
	"bytes"
	"slices"
	"sort"

	"github.com/droverdb/drover/plugins/sdk"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// gateTable is what the gate knows of one table.
type gateTable struct {
	index uint32
	keyed bool
	// done: every change is applied. loaded: every chunk of the table is known and written.
	done, loaded bool
	// spans lie side by side in key order. A key outside all of them belongs to a chunk without a floor.
	spans []*span
	// unit stands for the whole table when its keys are not byte-ordered; nil: no floor yet.
	unit *span
	// start is where the stream began.
	start []byte
	// aside: nobody loads it, every change of it is dropped (Invariant 22).
	aside bool
}

// span is a key range whose rows share a floor and a coverage: one chunk, or ranges that are through.
type span struct {
	chunk    uint64
	from, to []byte
	floor    *rowv1.Floor
	written  bool
	coverage *rowv1.Coverage
	// through: written, and no later transaction can be in its coverage.
	through bool
}

func (t *gateTable) rebuild(s *fleetv1.GateTable) error {
	t.done, t.aside = s.Done && !s.Aside, s.Aside
	if t.done || t.aside {
		return nil
	}
	if !t.keyed {
		t.rebuildUnit(s.Chunks)
		return nil
	}
	for _, c := range s.Chunks {
		if c.Floor == nil && !c.Written {
			continue
		}
		p := &span{chunk: c.Chunk, from: c.Keys.GetFrom(), to: c.Keys.GetTo(), floor: c.Floor, written: c.Written, coverage: c.Coverage}
		if p.floor == nil {
			p.floor = &rowv1.Floor{}
		}
		if err := t.insert(p); err != nil {
			return err
		}
	}
	return nil
}

// rebuildUnit takes the unit as written only when all its chunks are: they share one coverage.
func (t *gateTable) rebuildUnit(chunks []*fleetv1.GateChunk) {
	written := len(chunks) > 0
	for _, c := range chunks {
		written = written && c.Written
		if c.Floor == nil {
			continue
		}
		if t.unit == nil {
			t.unit = &span{floor: c.Floor}
		}
		if c.Coverage != nil {
			t.unit.coverage = c.Coverage
		}
	}
	if t.unit == nil && written {
		t.unit = &span{floor: &rowv1.Floor{}, coverage: chunks[0].Coverage}
	}
	if t.unit != nil {
		// Without its coverage it stays in flight: the target tells (Recovered).
		t.unit.written, t.loaded = written && t.unit.coverage != nil, written
	}
}

// at returns the span that a key belongs to, or nil.
func (t *gateTable) at(key []byte) *span {
	if !t.keyed {
		return t.unit
	}
	lo, hi := 0, len(t.spans)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if bytes.Compare(t.spans[mid].from, key) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return nil
	}
	if p := t.spans[lo-1]; len(p.to) == 0 || bytes.Compare(key, p.to) < 0 {
		return p
	}
	return nil
}

// drops is rule 5 of the handover.
func (t *gateTable) drops(key, position []byte, id uint64) bool {
	if t.done {
		return false
	}
	p := t.at(key)
	return p == nil || p.covers(position, id, t.start)
}

// covers reports whether the read of the span includes, or will include, the transaction. Once it is written its
// coverage alone decides: a floor may have been reserved again for a chunk that the target already had.
func (p *span) covers(position []byte, id uint64, start []byte) bool {
	switch {
	case p.through:
		return false
	case p.written:
		return sdk.Includes(p.coverage, position, id)
	}
	return below(position, p.floor.Position, start)
}

func (t *gateTable) truncate(position []byte, id uint64) (ranges []*rowv1.KeyRange, all bool) {
	if t.done {
		return nil, true
	}
	if !t.keyed {
		return nil, t.unit != nil && !t.unit.covers(position, id, t.start)
	}
	for _, p := range t.spans {
		if p.covers(position, id, t.start) {
			continue
		}
		if n := len(ranges); n > 0 && len(ranges[n-1].To) > 0 && bytes.Equal(ranges[n-1].To, p.from) {
			ranges[n-1].To = p.to
			continue
		}
		ranges = append(ranges, &rowv1.KeyRange{From: p.from, To: p.to})
	}
	if len(ranges) == 1 && len(ranges[0].From) == 0 && len(ranges[0].To) == 0 {
		return nil, true
	}
	return ranges, false
}

// insert puts a span between its neighbours; ranges never overlap.
func (t *gateTable) insert(p *span) error {
	if len(p.to) > 0 && bytes.Compare(p.from, p.to) >= 0 {
		return internal("chunk %d of table %d has an empty key range", p.chunk, t.index)
	}
	i := t.search(p.from)
	if i > 0 && overlaps(t.spans[i-1], p) || i < len(t.spans) && overlaps(p, t.spans[i]) {
		return internal("chunk %d of table %d overlaps another one", p.chunk, t.index)
	}
	t.spans = slices.Insert(t.spans, i, p)
	return nil
}

// search returns the index of the first span that starts after from.
func (t *gateTable) search(from []byte) int {
	return sort.Search(len(t.spans), func(i int) bool { return bytes.Compare(t.spans[i].from, from) > 0 })
}

// overlaps reports whether a, which does not start after b, reaches into b.
func overlaps(a, b *span) bool { return len(a.to) == 0 || bytes.Compare(a.to, b.from) > 0 }

// find returns a span by its chunk.
func (t *gateTable) find(chunk uint64) *span {
	for _, p := range t.spans {
		if p.chunk == chunk && !p.through {
			return p
		}
	}
	return nil
}

// isThrough reports whether the range lies within one that is through.
func (t *gateTable) isThrough(r *rowv1.KeyRange) bool {
	p := t.at(r.GetFrom())
	if p == nil || !p.through {
		return false
	}
	return len(p.to) == 0 || len(r.GetTo()) > 0 && bytes.Compare(r.To, p.to) <= 0
}

// pass lets go of coverage that committed has passed; neighbours that are through become one span.
func (t *gateTable) pass(committed []byte) {
	if t.unit != nil && t.unit.written && sdk.Passed(t.unit.coverage, committed) {
		t.unit.through = true
	}
	merged := t.spans[:0]
	for _, p := range t.spans {
		if p.written && !p.through && sdk.Passed(p.coverage, committed) {
			p = &span{from: p.from, to: p.to, written: true, through: true}
		}
		if n := len(merged); n > 0 && p.through && merged[n-1].through && bytes.Equal(merged[n-1].to, p.from) {
			merged[n-1].to = p.to
			continue
		}
		merged = append(merged, p)
	}
	clear(t.spans[len(merged):])
	t.spans = merged
	if t.loaded && t.allThrough() {
		t.done, t.spans, t.unit = true, nil, nil
	}
}

func (t *gateTable) allThrough() bool {
	if !t.keyed {
		return t.unit != nil && t.unit.through
	}
	return len(t.spans) == 1 && t.spans[0].through && len(t.spans[0].from) == 0 && len(t.spans[0].to) == 0
}

// gap reports whether some key belongs to no span: its changes have been dropped and nobody will read it.
func (t *gateTable) gap() bool {
	if !t.keyed {
		return t.unit == nil
	}
	if len(t.spans) == 0 || len(t.spans[0].from) > 0 || len(t.spans[len(t.spans)-1].to) > 0 {
		return true
	}
	for i := 1; i < len(t.spans); i++ {
		if !bytes.Equal(t.spans[i-1].to, t.spans[i].from) {
			return true
		}
	}
	return false
}

func (t *gateTable) lowestInFlight() []byte {
	var low []byte
	see := func(p *span) {
		if !p.written && (low == nil || bytes.Compare(p.floor.Position, low) < 0) {
			low = append([]byte{}, p.floor.Position...)
		}
	}
	if t.unit != nil {
		see(t.unit)
	}
	for _, p := range t.spans {
		see(p)
	}
	return low
}

func (t *gateTable) overlapping() int {
	if t.done || t.aside {
		return 0
	}
	n := 0
	if t.unit != nil && !t.unit.through {
		n++
	}
	for _, p := range t.spans {
		if !p.through {
			n++
		}
	}
	return max(n, 1)
}
