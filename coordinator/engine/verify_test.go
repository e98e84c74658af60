package engine

import (
	"testing"

	"github.com/droverdb/drover/coordinator/store"
)

// Large tables are compared one by one, so that the comparison is seen to go on; small ones many at once.
func TestSumPart_IsBoundedByTablesAndBytes(t *testing.T) {
	of := func(bytes ...int64) (all []*table) {
		for _, b := range bytes {
			all = append(all, &table{Table: store.Table{Bytes: b}})
		}
		return all
	}
	for want, tables := range map[int][]*table{1: of(sumBytes, 1, 1), 3: of(1, 1, sumBytes, 1), 2: of(-1, 0), sumTables: of(make([]int64, 100)...)} {
		if got := sumPart(tables); got != want {
			t.Errorf("%d of %d tables, not %d", got, len(tables), want)
		}
	}
}
