package stream

import (
	"fmt"
	"maps"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/apply"
)

// A table without a key: rows are values that occur more than once, matched as a whole; a key of the model is the place
// of a row at the source, which nobody else sees.

// fewValues makes rows that are equal to others.
const fewValues = 3

// addRow adds a whole row, named by itself.
func (b roundBuilder) addRow(op uint8, txn uint32, r row) {
	b.Field(0).(*array.Uint8Builder).Append(op)
	b.Field(1).(*array.Uint32Builder).Append(txn)
	b.Field(2).(*array.BinaryBuilder).Append([]byte{byte(r.a), byte(r.t)})
	b.Field(3).AppendNull()
	b.Field(4).AppendNull()
	b.Field(5).(*array.Int64Builder).Append(0)
	b.Field(6).(*array.Int64Builder).Append(r.a)
	b.Field(7).(*array.Int64Builder).Append(r.t)
}

// buildRows makes the record of the log's transactions [from, to): an update is a delete and an insert.
func (m *model) buildRows(from, to int) arrow.RecordBatch {
	b := newRoundBuilder()
	defer b.Release()
	for i := from; i < to; i++ {
		for _, c := range m.log[i].changes {
			if c.op != 'i' {
				b.addRow(sdk.OpDelete, uint32(i-from), c.old)
			}
			if c.op != 'd' {
				b.addRow(sdk.OpInsert, uint32(i-from), row{c.a, c.t})
			}
		}
	}
	return b.NewRecordBatch()
}

// bag counts equal rows.
func bag(rows map[int]row) map[row]int {
	out := map[row]int{}
	for _, r := range rows {
		out[r]++
	}
	return out
}

// same reports whether the target holds these rows.
func (t *memoryTarget) same(rows map[int]row) bool {
	if t.bag != nil {
		return maps.Equal(t.bag, bag(rows))
	}
	return maps.Equal(t.rows, rows)
}

func rowOf(e *apply.Effect, ref apply.Ref) row {
	b := e.Batches[ref.Batch]
	return row{b.Column(1).(*array.Int64).Value(int(ref.Row)), b.Column(2).(*array.Int64).Value(int(ref.Row))}
}

// deleteRows takes as many equal rows as it is told to, and fails when there are fewer.
func (t *memoryTarget) deleteRows(e *apply.Effect) error {
	for i, ref := range e.Deletes {
		r, n := rowOf(e, ref), int(e.Counts[i])
		if t.careless {
			n = 1
		}
		if t.bag[r] < n {
			return fmt.Errorf("%d of %d equal rows are there", t.bag[r], n)
		}
		if t.bag[r] -= n; t.bag[r] == 0 {
			delete(t.bag, r)
		}
	}
	return nil
}
