package apply

import (
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"

	"github.com/droverdb/drover/plugins/sdk"
)

const minSlots = 1024

// find returns the entry of a row's key, making one when there is none.
func (e *Effect) find(ref Ref) *entry {
	if 2*(len(e.entries)+1) > len(e.slots) {
		e.grow()
	}
	b := e.Batches[ref.Batch]
	key := b.Key(int(ref.Row))
	h := xxh3.Hash(key)
	mask := uint64(len(e.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		s := e.slots[i]
		if s == 0 {
			e.entries = append(e.entries, entry{hash: h, key: ref, layer: -1})
			e.slots[i] = int32(len(e.entries))
			return &e.entries[len(e.entries)-1]
		}
		n := &e.entries[s-1]
		if n.hash == h && sameKey(e.Batches[n.key.Batch], int(n.key.Row), b, int(ref.Row)) {
			return n
		}
	}
}

func (e *Effect) grow() { e.resize(max(minSlots, 2*len(e.slots))) }

// resize makes room for size slots and files the entries again.
func (e *Effect) resize(size int) {
	if cap(e.slots) >= size {
		e.slots = e.slots[:size]
		clear(e.slots)
	} else {
		e.slots = make([]int32, size)
	}
	mask := uint64(size - 1)
	for n := range e.entries {
		i := e.entries[n].hash & mask
		for e.slots[i] != 0 {
			i = (i + 1) & mask
		}
		e.slots[i] = int32(n + 1)
	}
}

// compute builds the net effect from the batches, what was read again first.
func (e *Effect) compute() error {
	e.clear()
	rows := 0
	for _, b := range e.Batches {
		rows += len(b.ops)
	}
	e.resize(max(minSlots, 1<<bits.Len(uint(2*rows))))
	covered := 0
	covered, e.gen = e.covers.state()
	for _, r := range e.rereads {
		e.seed(r)
	}
	for _, key := range e.large {
		e.find(key).state = stateLarge
	}
	for bi, b := range e.Batches {
		if b.extra {
			continue
		}
		for row := range b.Rows() {
			if e.isDropped(b, row, covered > 0) {
				continue
			}
			if err := e.add(Ref{int32(bi), int32(row)}, b, row, covered > 0); err != nil {
				return err
			}
		}
	}
	e.collect()
	return nil
}

// seed starts a key with the state the source answered.
func (e *Effect) seed(r reread) {
	n := e.find(r.key)
	if r.row.Row < 0 {
		n.state, n.del = stateDeleted, r.key
		return
	}
	n.state, n.layer, n.partial = stateReplaced, e.push(r.row, -1), false
}

func (e *Effect) isDropped(b *Batch, row int, covered bool) bool {
	if len(b.drop) > 0 && b.dropped(row) {
		return true
	}
	if !covered {
		return false
	}
	p, id := e.round.txnAt(b.txn[row])
	return e.covers.drops(b.Table, b.Key(row), p, id)
}

func (e *Effect) add(ref Ref, b *Batch, row int, covered bool) error {
	n := e.find(ref)
	if e.FullRow() {
		return e.addCounted(n, ref, b.ops[row])
	}
	switch b.ops[row] {
	case sdk.OpDelete:
		n.was, n.state, n.del = n.state, stateDeleted, ref
	case sdk.OpUpdate:
		e.addUpdate(n, ref, b.missing(row) != nil)
	case sdk.OpInsert:
		e.addInsert(n, ref, b, row, covered)
	case sdk.OpReread:
		n.state, n.layer, n.partial = stateLarge, -1, false
	default:
		return fmt.Errorf("table %d: operation %d is not known", b.Table, b.ops[row])
	}
	return nil
}

func (e *Effect) addCounted(n *entry, ref Ref, op uint8) error {
	switch op {
	case sdk.OpDelete:
		n.count--
		n.del = ref
	case sdk.OpInsert:
		n.count++
		n.layer = e.push(ref, -1)
	default:
		return fmt.Errorf("table %d has no key: operation %d cannot be applied", e.Table.Index, op)
	}
	return nil
}

func (e *Effect) addUpdate(n *entry, ref Ref, partial bool) {
	if n.state == stateLarge {
		if partial {
			return // what the source has by now includes it
		}
		n.state = stateReplaced
	}
	next := int32(-1)
	if partial && n.state != stateNone && n.state != stateDeleted {
		next = n.layer
	}
	if n.state == stateDeleted { // only without exact coverage: the row is there again
		n.state, n.carry = stateReplaced, carryReread
	}
	if n.state == stateNone {
		n.state = stateUpdated
	}
	n.layer, n.partial = e.push(ref, next), partial
}

func (e *Effect) addInsert(n *entry, ref Ref, b *Batch, row int, covered bool) {
	next := int32(-1)
	partial := b.missing(row) != nil
	was := n.state
	if partial && was == stateLarge {
		return
	}
	if partial {
		next = e.movedFrom(ref, b, row, covered)
		n = e.find(ref)
	}
	switch was {
	case stateNone, stateInserted:
		n.state = stateInserted
	default:
		n.state = stateReplaced
	}
	n.layer, n.partial = e.push(ref, next), partial
}

// movedFrom decides where the columns that an I row lacks come from (package comment).
func (e *Effect) movedFrom(ref Ref, b *Batch, row int, covered bool) int32 {
	n := e.find(ref)
	old := b.oldRow(row)
	if old >= 0 && old < b.Rows() && !e.isDropped(b, old, covered) {
		at := int(ref.Batch)
		from := Ref{int32(at), int32(old)}
		o := *e.find(from) // may grow the entries
		n = e.find(ref)
		if o.state == stateDeleted && o.del == from {
			switch o.was {
			case stateNone:
				n.carry, n.from = carryOld, from
				return -1
			case stateUpdated:
				n.carry, n.from = carryOld, from
				return o.layer
			case stateLarge:
				n.carry = carryReread
				return -1
			case stateInserted, stateReplaced:
				n.carry, n.from = o.carry, o.from
				if o.carry == carryOwn {
					n.carry = carryOld
					n.from = from
				}
				return o.layer
			}
		}
	}
	switch n.state {
	case stateNone:
		n.carry = carryOwn
	case stateUpdated:
		n.carry = carryOwn
		return n.layer
	case stateInserted, stateReplaced:
		return n.layer
	default:
		n.carry = carryReread
	}
	return -1
}

// collect sorts the entries into deletes, updates and inserts, in order of first appearance.
func (e *Effect) collect() {
	for i := range e.entries {
		n := &e.entries[i]
		if e.FullRow() {
			e.collectCounted(n)
			continue
		}
		switch n.state {
		case stateDeleted:
			e.Deletes = append(e.Deletes, n.del)
		case stateUpdated:
			var missing []byte
			if n.partial {
				missing = e.missingOf(n.layer)
			}
			e.update(Image(n.layer), missing)
		case stateInserted, stateReplaced:
			if n.partial && e.missingOf(n.layer) != nil {
				e.needs = append(e.needs, int32(i))
				continue
			}
			e.place(n)
		case stateLarge:
			e.Renews = append(e.Renews, n.key)
		}
	}
}

func (e *Effect) collectCounted(n *entry) {
	if n.count < 0 {
		e.Deletes = append(e.Deletes, n.del)
		e.Counts = append(e.Counts, -n.count)
	}
	for range n.count {
		e.Inserts = append(e.Inserts, Image(n.layer))
	}
}

// place files an entry whose image is complete.
func (e *Effect) place(n *entry) {
	if n.state == stateInserted {
		e.Inserts = append(e.Inserts, Image(n.layer))
		return
	}
	e.update(Image(n.layer), nil)
}

// update adds an image to the group that sets the same columns.
func (e *Effect) update(img Image, missing []byte) {
	at, ok := e.byShape[string(missing)]
	if !ok {
		at = len(e.Updates)
		if at < cap(e.Updates) {
			e.Updates = e.Updates[:at+1]
		} else {
			e.Updates = append(e.Updates, Group{})
		}
		g := &e.Updates[at]
		g.Images, g.Columns, g.Full = g.Images[:0], g.Columns[:0], len(missing) == 0
		for c := range e.columns() {
			if c>>3 >= len(missing) || missing[c>>3]&(1<<(c&7)) == 0 {
				g.Columns = append(g.Columns, c)
			}
		}
		e.byShape[string(missing)] = at
	}
	e.Updates[at].Images = append(e.Updates[at].Images, img)
}

func (e *Effect) columns() int { return e.Batches[0].Columns() }
