package apply

import (
	"bytes"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/droverdb/drover/plugins/sdk"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Batch is one round batch: rows of one table in source order.
type Batch struct {
	Table, Version uint32
	rec            arrow.RecordBatch
	control        int
	drop           []byte
	ops            []uint8
	txn            []uint32
	keys           *array.Binary
	unchanged      *array.Binary
	old            *array.Int32
	// extra: the rows were fetched or read again; they are images, not changes.
	extra bool
	// free gives back what the record's memory belongs to.
	free func()
}

// NewBatch looks at rec in the round layout (sdk.ColOp … then the data columns) and takes it over: Release
// gives it back. drop is the gate's bitmap (nil: none).
func NewBatch(table, version uint32, rec arrow.RecordBatch, drop []byte) (*Batch, error) {
	b := &Batch{Table: table, Version: version, rec: rec, drop: drop, control: sdk.RoundColumns}
	if rec.NumCols() < sdk.RoundColumns {
		return nil, fmt.Errorf("round batch of table %d has %d columns", table, rec.NumCols())
	}
	ops, ok1 := rec.Column(0).(*array.Uint8)
	txn, ok2 := rec.Column(1).(*array.Uint32)
	keys, ok3 := rec.Column(2).(*array.Binary)
	unchanged, ok4 := rec.Column(3).(*array.Binary)
	old, ok5 := rec.Column(4).(*array.Int32)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return nil, fmt.Errorf("round batch of table %d: unexpected column types %s", table, rec.Schema())
	}
	b.ops, b.txn, b.keys, b.unchanged, b.old = ops.Uint8Values(), txn.Uint32Values(), keys, unchanged, old
	return b, nil
}

// NewImages wraps a record that has only data columns: what Target.Fetch answers. It is taken over.
func NewImages(table, version uint32, rec arrow.RecordBatch) *Batch {
	return &Batch{Table: table, Version: version, rec: rec, extra: true}
}

// OnRelease sets what is called once when the batch is given back (to free the frame its memory aliases).
func (b *Batch) OnRelease(f func()) { b.free = f }

// Release gives the record back.
func (b *Batch) Release() {
	if b.rec == nil {
		return
	}
	b.rec.Release()
	b.rec = nil
	if b.free != nil {
		b.free()
	}
}

// Rows is the number of rows, dropped ones included.
func (b *Batch) Rows() int { return len(b.ops) }

// Columns is the number of data columns.
func (b *Batch) Columns() int { return int(b.rec.NumCols()) - b.control }

// Column returns data column i.
func (b *Batch) Column(i int) arrow.Array { return b.rec.Column(b.control + i) }

// Record returns the whole record in the round layout.
func (b *Batch) Record() arrow.RecordBatch { return b.rec }

// Op returns the operation of a row.
func (b *Batch) Op(row int) uint8 { return b.ops[row] }

// Key returns the key bytes of a row; valid until Release.
func (b *Batch) Key(row int) []byte { return b.keys.Value(row) }

// dropped reports whether the gate dropped the row.
func (b *Batch) dropped(row int) bool {
	return row>>3 < len(b.drop) && b.drop[row>>3]&(1<<(row&7)) != 0
}

// missing returns the bitmap of data columns the source left out, or nil.
func (b *Batch) missing(row int) []byte {
	if b.unchanged == nil || b.unchanged.IsNull(row) {
		return nil
	}
	v := b.unchanged.Value(row)
	for _, x := range v {
		if x != 0 {
			return v
		}
	}
	return nil
}

// oldRow returns the row number of the D row that an I row moved from, or -1.
func (b *Batch) oldRow(row int) int {
	if b.old.IsNull(row) {
		return -1
	}
	return int(b.old.Value(row))
}

// Round is a run of source transactions (or a piece of a large one) as the gate released it.
type Round struct {
	Seq       uint64
	Piece     uint32
	Positions []byte
	TxnIDs    []uint64
	Truncates []*rowv1.Truncate
	Batches   []*Batch
	// Open and Position are those of the RoundEnd frame.
	Open     bool
	Position []byte
}

// NewRound starts a round from its first frame.
func NewRound(b *rowv1.RoundBegin) *Round {
	return &Round{Seq: b.Seq, Piece: b.Piece, Positions: b.Positions, TxnIDs: b.TxnIds, Truncates: b.Truncates}
}

// txnAt returns position and id of a transaction of the round.
func (r *Round) txnAt(i uint32) ([]byte, uint64) {
	if int(i) >= len(r.TxnIDs) {
		return nil, 0
	}
	w := len(r.Positions) / len(r.TxnIDs)
	return r.Positions[int(i)*w : (int(i)+1)*w], r.TxnIDs[i]
}

// Rows counts the rows of all batches that are not dropped by the gate.
func (r *Round) Rows() int64 {
	n := int64(0)
	for _, b := range r.Batches {
		n += int64(b.Rows())
		for i := range b.Rows() {
			if len(b.drop) > 0 && b.dropped(i) {
				n--
			}
		}
	}
	return n
}

// Release gives back all batches.
func (r *Round) Release() {
	for _, b := range r.Batches {
		b.Release()
	}
	r.Batches = nil
}

func sameKey(a *Batch, i int, b *Batch, j int) bool { return bytes.Equal(a.Key(i), b.Key(j)) }
