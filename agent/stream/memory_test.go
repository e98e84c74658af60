package stream

import (
	"context"
	"fmt"
	"maps"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/apply"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// memoryTarget is a target database of one table (k, a, t).
type memoryTarget struct {
	rows   map[int]row
	kept   map[apply.CoverKey]*rowv1.Coverage
	covers *apply.Covers
	// lenient: a partial update of a row that is not there is left out (sources without exact coverage).
	lenient bool
	// bag holds the rows of a table without a key, nil otherwise; careless ignores how many equal rows go.
	bag      map[row]int
	careless bool
	// large tells which rows are too large to be fetched; renew writes rows of any size.
	large func(key int) bool
	renew func(*apply.Effect) (*rowv1.Coverage, error)
}

func newMemory() *memoryTarget {
	return &memoryTarget{rows: map[int]row{}, kept: map[apply.CoverKey]*rowv1.Coverage{}, covers: apply.NewCovers()}
}

// clone is a transaction on the target: thrown away, or taken as the new state.
func (t *memoryTarget) clone() *memoryTarget {
	c := &memoryTarget{rows: maps.Clone(t.rows), kept: maps.Clone(t.kept), covers: apply.NewCovers(), lenient: t.lenient,
		bag: maps.Clone(t.bag), careless: t.careless}
	for k, cov := range t.kept {
		c.covers.Add(k.Table, []byte(k.Key), cov)
	}
	return c
}

func keyAt(e *apply.Effect, ref apply.Ref) int { return int(e.Batches[ref.Batch].Key(int(ref.Row))[0]) }

func (t *memoryTarget) Fetch(_ context.Context, e *apply.Effect, keys []apply.Ref) (*apply.Batch, []int32, error) {
	b := newRoundBuilder()
	defer b.Release()
	found := make([]int32, len(keys))
	n := int32(0)
	for i, ref := range keys {
		found[i] = -1
		k := keyAt(e, ref)
		if v, ok := t.rows[k]; ok && t.large(k) {
			found[i] = apply.TooLarge
		} else if ok {
			b.add(sdk.OpInsert, 0, k, v.a, v.t, -1)
			found[i] = n
			n++
		}
	}
	batch, err := apply.NewBatch(0, 1, b.NewRecordBatch(), nil)
	return batch, found, err
}

func (t *memoryTarget) Delete(_ context.Context, e *apply.Effect) error {
	if e.FullRow() {
		return t.deleteRows(e)
	}
	for _, ref := range e.Deletes {
		delete(t.rows, keyAt(e, ref))
	}
	return nil
}

func value(e *apply.Effect, img apply.Image, col int) (int64, error) {
	b, i, ok := e.At(img, col)
	if !ok {
		return 0, fmt.Errorf("column %d of an image is nowhere", col)
	}
	return b.Column(col).(*array.Int64).Value(i), nil
}

func (t *memoryTarget) Update(_ context.Context, e *apply.Effect, g *apply.Group) error {
	for _, img := range g.Images {
		k := keyAt(e, e.KeyRef(img))
		v, ok := t.rows[k]
		if !ok && !g.Full {
			if t.lenient {
				continue
			}
			return fmt.Errorf("update of key %d meets no row", k)
		}
		for _, col := range g.Columns {
			x, err := value(e, img, col)
			if err != nil {
				return err
			}
			switch col {
			case 1:
				v.a = x
			case 2:
				v.t = x
			}
		}
		t.rows[k] = v
	}
	return nil
}

func (t *memoryTarget) Insert(_ context.Context, e *apply.Effect) error {
	for _, img := range e.Inserts {
		a, err := value(e, img, 1)
		if err != nil {
			return err
		}
		x, err := value(e, img, 2)
		if err != nil {
			return err
		}
		if e.FullRow() {
			t.bag[row{a, x}]++
			continue
		}
		t.rows[keyAt(e, e.KeyRef(img))] = row{a, x}
	}
	return nil
}

func (t *memoryTarget) Renew(_ context.Context, e *apply.Effect) (*rowv1.Coverage, error) {
	return t.renew(e)
}
