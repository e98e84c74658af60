package stream

import (
	"bytes"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Gate decides which transactions may be released to the sink and which of their changes are dropped
// (handover.md, rules 2, 4 and 5). It does no I/O, reads no clock and takes no lock: one goroutine at a
// time drives it.
type Gate struct {
	tables map[uint32]*gateTable
	// open are the tables that have spans or a unit, flying those of them that are in flight somewhere: few of all. What
	// is asked after each event looks at nothing else.
	open, flying map[*gateTable]bool
	// undone counts the tables whose changes still have to be judged.
	undone int
	// received is the position of the last transaction that came from the source, or where the stream started.
	received  []byte
	committed []byte
	start     []byte
	begun     bool
	// limit is the smallest floor in flight, or held; nil: none.
	limit []byte
	// held is where a comparison holds the stream; nil: nowhere.
	held []byte
	// delivered are transactions not yet known to be visible to new snapshots, oldest first.
	delivered []delivery
	passed    []uint32
}

// delivery is one round's transactions that no horizon has shown yet.
type delivery struct {
	last []byte
	ids  []uint64
}

// NewGate rebuilds the gate of a stream that starts at position: state holds the floors of chunks in flight
// and the coverage of written ones.
func NewGate(tables []*rowv1.Table, state []*fleetv1.GateTable, position []byte) (*Gate, error) {
	g := &Gate{tables: map[uint32]*gateTable{}, open: map[*gateTable]bool{}, flying: map[*gateTable]bool{}, received: position, committed: position, start: position}
	for _, t := range tables {
		g.tables[t.Index] = &gateTable{index: t.Index, keyed: t.Gate == rowv1.GateMode_GATE_MODE_KEYED, start: position}
	}
	for _, s := range state {
		t := g.tables[s.Table]
		if t == nil {
			return nil, internal("the gate's state names table %d, which the pipeline does not have", s.Table)
		}
		if err := t.rebuild(s); err != nil {
			return nil, err
		}
	}
	for _, t := range g.tables {
		known := t.done
		t.pass(position)
		switch {
		case !t.done:
			g.undone++
		case !known:
			// It passed while nobody was there to say so: the coordinator still waits for it.
			g.passed = append(g.passed, t.index)
		}
		g.list(t)
	}
	g.setLimit()
	return g, nil
}

// Received takes note of transactions that came from the source: from now on floors are reserved behind
// them. positions has one entry of equal width per id.
func (g *Gate) Received(positions []byte, ids []uint64) error {
	if len(ids) == 0 || len(positions) == 0 || len(positions)%len(ids) != 0 {
		return diag.StreamBroken.New("stream", nil, "a round holds %d transactions and %d bytes of positions", len(ids), len(positions))
	}
	width := len(positions) / len(ids)
	last := positions[len(positions)-width:]
	// A floor may have been promised at received: a transaction that comes later must lie after it (Invariant 2).
	// Only the very first one may lie at the start itself: see below.
	if c := bytes.Compare(positions[:width], g.received); c < 0 || c == 0 && g.begun {
		return diag.StreamBroken.New("stream", nil, "a transaction arrived at or before a position that was already passed")
	}
	g.received, g.begun = last, true
	g.delivered = append(g.delivered, delivery{last: last, ids: ids})
	return nil
}

// Horizon tells what a snapshot taken after every transaction delivered so far would include: those it sees
// need not be remembered.
func (g *Gate) Horizon(c *rowv1.Coverage) {
	if c == nil {
		return
	}
	kept := g.delivered[:0]
	for _, d := range g.delivered {
		if len(c.Through) > 0 && bytes.Compare(d.last, c.Through) <= 0 {
			continue
		}
		if c.Exact {
			d.ids = unseen(c, d.ids)
		}
		if len(d.ids) > 0 {
			kept = append(kept, d)
		}
	}
	clear(g.delivered[len(kept):])
	g.delivered = kept
}

// unseen returns the ids that c does not see. It never changes ids, which belongs to a frame's header.
func unseen(c *rowv1.Coverage, ids []uint64) []uint64 {
	var out []uint64
	for _, x := range ids {
		if !sdk.Sees(c, x) {
			out = append(out, x)
		}
	}
	return out
}

// Floor is what a read that starts now must include: everything received (Invariant 2).
func (g *Gate) Floor() *rowv1.Floor {
	f := &rowv1.Floor{Position: bytes.Clone(g.received)}
	for _, d := range g.delivered {
		f.Pending = append(f.Pending, d.ids...)
	}
	return f
}

// Limit is the smallest floor of the chunks in flight: nothing above it may be released (Invariant 3). nil: no limit.
func (g *Gate) Limit() []byte { return g.limit }

// Releasable reports whether a round that ends at position may go to the sink. Besides the hold, while something is
// still to be loaded, or set aside to be loaded some day, a round waits until its transactions are visible at the
// source: what it drops for chunks without a floor is remembered by nobody once the token has passed it, so a gate that
// starts there again could not ask later reads to see it (Invariant 4).
func (g *Gate) Releasable(position []byte) bool {
	if g.limit != nil && !below(position, g.limit, g.start) {
		return false
	}
	return g.undone == 0 || g.Visible(position)
}

// Visible reports whether every transaction up to position is known to be visible to new snapshots.
func (g *Gate) Visible(position []byte) bool {
	return len(g.delivered) == 0 || bytes.Compare(g.delivered[0].last, position) > 0
}

// Committed takes note that everything up to position is durable at the target. Only that lets go of
// coverage: a released round may have to be judged again after a crash (Invariant 6).
func (g *Gate) Committed(position []byte) {
	if bytes.Compare(position, g.committed) <= 0 {
		return
	}
	g.committed = position
	for t := range g.open {
		g.settle(t)
	}
}

// Done reports whether every change of the table is applied, so that nobody has to look at its keys.
func (g *Gate) Done(table uint32) bool {
	t := g.tables[table]
	return t != nil && t.done
}

// AllDone reports whether no table is judged any more.
func (g *Gate) AllDone() bool { return g.undone == 0 }

// Judge reports whether a change to key by the transaction (position, id) is dropped (Invariant 5).
func (g *Gate) Judge(table uint32, key, position []byte, id uint64) (drop bool) {
	t := g.tables[table]
	return t == nil || t.drops(key, position, id)
}

// Truncate tells what a TRUNCATE of the table by (position, id) has to empty at the target: everything, or
// these ranges, or nothing.
func (g *Gate) Truncate(table uint32, position []byte, id uint64) (ranges []*rowv1.KeyRange, all bool) {
	t := g.tables[table]
	if t == nil {
		return nil, false
	}
	return t.truncate(position, id)
}

// Passed are the tables that are done although the state the gate was rebuilt from did not know.
func (g *Gate) Passed() []uint32 { return g.passed }

// Overlapping counts chunks and units after whose end every commit is a state of the source.
func (g *Gate) Overlapping() int {
	n := 0
	for _, t := range g.tables {
		n += t.overlapping()
	}
	return n
}

func (g *Gate) settle(t *gateTable) {
	if t.done {
		return
	}
	t.pass(g.committed)
	if t.done {
		g.undone--
		g.passed = append(g.passed, t.index)
	}
	g.list(t)
}

// list enters a table that has changed into the lists it belongs to, and takes it out of the others.
func (g *Gate) list(t *gateTable) {
	keep := func(list map[*gateTable]bool, in bool) {
		if in {
			list[t] = true
		} else {
			delete(list, t)
		}
	}
	keep(g.open, len(t.spans) > 0 || t.unit != nil)
	keep(g.flying, t.lowestInFlight() != nil)
}

// Hold releases nothing above what was received until Unhold; a snapshot that sees the floor it returns shows
// everything that may be released.
func (g *Gate) Hold() *rowv1.Floor {
	f := g.Floor()
	g.held = f.Position
	g.setLimit()
	return f
}

// Unhold ends a hold. Repeating it is harmless.
func (g *Gate) Unhold() {
	g.held = nil
	g.setLimit()
}

func (g *Gate) setLimit() {
	g.limit = g.held
	for t := range g.flying {
		if f := t.lowestInFlight(); f != nil && (g.limit == nil || bytes.Compare(f, g.limit) < 0) {
			g.limit = f
		}
	}
}

// below reports whether a floor includes the transaction at position. A transaction that begins exactly where the
// stream started may come after a floor was promised there (the start is where the log was read up to, not a
// transaction): it counts as above the floor, is held, and coverage decides.
func below(position, floor, start []byte) bool {
	c := bytes.Compare(position, floor)
	return c < 0 || c == 0 && !bytes.Equal(position, start)
}

func internal(why string, args ...any) error { return diag.Internal.New("gate", nil, why, args...) }
