package apply

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/droverdb/drover/plugins/sdk"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Test tables have columns k, a, b, c; k is the key and its own key bytes.
const width = 4

type row [width]string

type change struct {
	op        uint8
	row       row
	unchanged byte
	old       int // row number, -1: none
	txn       uint32
}

var schema = func() *arrow.Schema {
	f := []arrow.Field{{Name: sdk.ColOp, Type: arrow.PrimitiveTypes.Uint8}, {Name: sdk.ColTxn, Type: arrow.PrimitiveTypes.Uint32},
		{Name: sdk.ColKey, Type: arrow.BinaryTypes.Binary}, {Name: sdk.ColUnchanged, Type: arrow.BinaryTypes.Binary, Nullable: true},
		{Name: sdk.ColOld, Type: arrow.PrimitiveTypes.Int32, Nullable: true}}
	for i := range width {
		f = append(f, arrow.Field{Name: string(rune('a' + i)), Type: arrow.BinaryTypes.Binary, Nullable: true})
	}
	return arrow.NewSchema(f, nil)
}()

func batchOf(drop []byte, full bool, changes ...change) *Batch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for _, c := range changes {
		b.Field(0).(*array.Uint8Builder).Append(c.op)
		b.Field(1).(*array.Uint32Builder).Append(c.txn)
		key := c.row[0]
		if full {
			key = strings.Join(c.row[:], "\x00")
		}
		b.Field(2).(*array.BinaryBuilder).Append([]byte(key))
		if c.unchanged != 0 {
			b.Field(3).(*array.BinaryBuilder).Append([]byte{c.unchanged})
		} else {
			b.Field(3).AppendNull()
		}
		if c.old >= 0 {
			b.Field(4).(*array.Int32Builder).Append(int32(c.old))
		} else {
			b.Field(4).AppendNull()
		}
		for i := range width {
			f := b.Field(sdk.RoundColumns + i).(*array.BinaryBuilder)
			if c.unchanged&(1<<i) != 0 || (c.op == sdk.OpDelete || c.op == sdk.OpReread) && i > 0 && !full {
				f.AppendNull()
			} else {
				f.Append([]byte(c.row[i]))
			}
		}
	}
	out, err := NewBatch(0, 1, b.NewRecordBatch(), drop)
	if err != nil {
		panic(err)
	}
	return out
}

func testTables(gate rowv1.GateMode) []*rowv1.Table {
	return []*rowv1.Table{{Index: 0, Gate: gate, Key: []uint32{0}, Target: &rowv1.TableRef{Schema: "s", Name: "t"}}}
}

// target is a Target over a map. unique: values of column 1 must differ at every moment, as with an index.
type target struct {
	rows   map[string]row
	count  map[row]int
	unique bool
	// source has the rows as they are now, and what a reading of them includes; huge tells which rows are too large.
	source   map[string]row
	coverage *rowv1.Coverage
	huge     func(key string) bool
	renewed  int
}

var errConflict = fmt.Errorf("conflict")

func newTarget() *target { return &target{rows: map[string]row{}, count: map[row]int{}} }

func (t *target) clone() *target {
	c := *t
	c.rows, c.count = maps.Clone(t.rows), maps.Clone(t.count)
	return &c
}

func value(b *Batch, col, r int) string { return string(b.Column(col).(*array.Binary).Value(r)) }

func (t *target) check() error {
	seen := map[string]bool{}
	for _, r := range t.rows {
		if t.unique && seen[r[1]] {
			return errConflict
		}
		seen[r[1]] = true
	}
	return nil
}

func (t *target) Fetch(_ context.Context, e *Effect, keys []Ref) (*Batch, []int32, error) {
	fields := schema.Fields()[sdk.RoundColumns:]
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer b.Release()
	found := make([]int32, len(keys))
	n := int32(0)
	for i, k := range keys {
		r, ok := t.rows[value(e.Batches[k.Batch], 0, int(k.Row))]
		if found[i] = -1; !ok {
			continue
		}
		if t.huge != nil && t.huge(r[0]) {
			found[i] = TooLarge
			continue
		}
		found[i] = n
		n++
		for c := range width {
			b.Field(c).(*array.BinaryBuilder).Append([]byte(r[c]))
		}
	}
	return NewImages(0, e.Version, b.NewRecordBatch()), found, nil
}

func wholeRow(b *Batch, r int) (out row) {
	for c := range width {
		out[c] = value(b, c, r)
	}
	return out
}

func (t *target) Delete(_ context.Context, e *Effect) error {
	for i, r := range e.Deletes {
		b := e.Batches[r.Batch]
		if e.FullRow() {
			t.count[wholeRow(b, int(r.Row))] -= int(e.Counts[i])
			continue
		}
		delete(t.rows, value(b, 0, int(r.Row)))
	}
	return nil
}

func (t *target) image(e *Effect, img Image, cols []int, into row) (row, error) {
	for _, c := range cols {
		b, r, ok := e.At(img, c)
		if !ok {
			return into, fmt.Errorf("column %d is missing", c)
		}
		into[c] = value(b, c, r)
	}
	return into, nil
}

func (t *target) Update(_ context.Context, e *Effect, g *Group) error {
	for _, img := range g.Images {
		ref := e.KeyRef(img)
		key := value(e.Batches[ref.Batch], 0, int(ref.Row))
		old, ok := t.rows[key]
		if !ok {
			return errConflict
		}
		r, err := t.image(e, img, g.Columns, old)
		if err != nil {
			return err
		}
		t.rows[key] = r
		if err := t.check(); err != nil {
			return err
		}
	}
	return nil
}

func (t *target) Insert(_ context.Context, e *Effect) error {
	for _, img := range e.Inserts {
		r, err := t.image(e, img, []int{0, 1, 2, 3}, row{})
		if err != nil {
			return err
		}
		if e.FullRow() {
			t.count[r]++
			continue
		}
		if _, ok := t.rows[r[0]]; ok {
			return errConflict
		}
		t.rows[r[0]] = r
		if err := t.check(); err != nil {
			return err
		}
	}
	return nil
}

// Renew finds nothing in the way: the rows of these keys were deleted.
func (t *target) Renew(_ context.Context, e *Effect) (*rowv1.Coverage, error) {
	for _, k := range e.Renews {
		key := string(e.Batches[k.Batch].Key(int(k.Row)))
		if _, ok := t.rows[key]; ok {
			return nil, fmt.Errorf("key %s is still there", key)
		}
		if r, ok := t.source[key]; ok {
			t.rows[key] = r
		}
		t.renewed++
	}
	return t.coverage, t.check()
}
