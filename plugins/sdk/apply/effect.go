package apply

import (
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Ref names a row: Effect.Batches[Batch], row Row.
type Ref struct{ Batch, Row int32 }

// Image names a row's net image in an effect; read it with Effect.At.
type Image int32

// Group is updates that set the same columns.
type Group struct {
	// Columns are the data columns every image has, key columns included.
	Columns []int
	// Full: all columns are present; a row that is not there may be inserted.
	Full   bool
	Images []Image
}

// Effect is the net effect of a run of batches of one table with one schema version.
type Effect struct {
	Table   *rowv1.Table
	Version uint32
	Batches []*Batch

	// Deletes name rows by the key columns of a D row (or by all columns when Table has no key).
	Deletes []Ref
	// Counts, only for tables without a key, tells how many equal rows each delete takes.
	Counts  []int32
	Updates []Group
	Inserts []Image
	// Renews name rows that the target has the source send again once all else is done: they may be of any size.
	Renews []Ref
	// Safe is set while the safe form runs: everything was turned into deletes and full inserts.
	Safe bool

	round    *Round
	covers   *Covers
	gen      uint64
	stale    bool // resolved or made safe by an earlier run
	entries  []entry
	slots    []int32
	layers   []layer
	needs    []int32
	rereads  []reread
	large    []Ref // keys whose rows are known to be too large for an answer in one piece
	missBits []byte
	byShape  map[string]int
}

// layer is one image of a row; columns it lacks are looked up in the next one.
type layer struct {
	ref  Ref
	next int32
}

type state uint8

const (
	stateNone state = iota
	stateDeleted
	stateUpdated
	stateInserted
	stateReplaced
	stateLarge // only the source has the row: it was written with values that are too large for a batch
)

type carry uint8

const (
	carryReread carry = iota // only the source has the missing columns
	carryOwn                 // the target's row at this key, if there is one
	carryOld                 // the target's row at the old key, if there is one
)

type entry struct {
	hash       uint64
	key        Ref
	del        Ref
	from       Ref
	layer      int32
	count      int32
	state, was state
	carry      carry
	partial    bool
}

// reread is the source's answer for one key: row < 0 means that there is no such row.
type reread struct {
	key Ref
	row Ref
}

// At finds data column col of an image. ok is false when no layer has it.
func (e *Effect) At(img Image, col int) (b *Batch, row int, ok bool) {
	for l := int32(img); l >= 0; l = e.layers[l].next {
		ref := e.layers[l].ref
		b := e.Batches[ref.Batch]
		m := b.missing(int(ref.Row))
		if m == nil || col>>3 >= len(m) || m[col>>3]&(1<<(col&7)) == 0 {
			return b, int(ref.Row), true
		}
	}
	return nil, 0, false
}

// Simple returns the only row of an image that needs no merging: the fast way to all its columns.
func (e *Effect) Simple(img Image) (Ref, bool) {
	l := e.layers[img]
	return l.ref, l.next < 0
}

// KeyRef returns a row whose key columns are those of the image.
func (e *Effect) KeyRef(img Image) Ref { return e.layers[img].ref }

// Empty reports whether nothing remains to be done.
func (e *Effect) Empty() bool {
	return len(e.Deletes) == 0 && len(e.Updates) == 0 && len(e.Inserts) == 0 && len(e.Renews) == 0
}

// FullRow reports whether rows are matched as a whole.
func (e *Effect) FullRow() bool { return e.Table.Gate == rowv1.GateMode_GATE_MODE_UNIT_FULL_ROW }

// missingOf returns the bitmap of columns that no layer has, or nil.
func (e *Effect) missingOf(l int32) []byte {
	first := true
	for ; l >= 0; l = e.layers[l].next {
		ref := e.layers[l].ref
		m := e.Batches[ref.Batch].missing(int(ref.Row))
		if m == nil {
			return nil
		}
		if first {
			e.missBits = append(e.missBits[:0], m...)
			first = false
			continue
		}
		any := byte(0)
		for i := range e.missBits {
			if i < len(m) {
				e.missBits[i] &= m[i]
			} else {
				e.missBits[i] = 0
			}
			any |= e.missBits[i]
		}
		if any == 0 {
			return nil
		}
	}
	return e.missBits
}

func (e *Effect) push(ref Ref, next int32) int32 {
	e.layers = append(e.layers, layer{ref, next})
	return int32(len(e.layers) - 1)
}

func (e *Effect) extend(l int32, ref Ref) {
	for e.layers[l].next >= 0 {
		l = e.layers[l].next
	}
	e.layers[l].next = e.push(ref, -1)
}

// clear keeps the batches and their memory, and forgets what was computed.
func (e *Effect) clear() {
	e.Deletes, e.Counts, e.Inserts, e.Renews = e.Deletes[:0], e.Counts[:0], e.Inserts[:0], e.Renews[:0]
	e.Updates = e.Updates[:0]
	e.entries, e.layers, e.needs = e.entries[:0], e.layers[:0], e.needs[:0]
	clear(e.byShape)
	e.Safe = false
}
