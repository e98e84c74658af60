package apply

import (
	"testing"

	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func TestCovers_ARowReadAfterATruncateOutlivesIt(t *testing.T) {
	c := NewCovers()
	c.Add(3, []byte("k"), &rowv1.Coverage{Exact: true, Xmin: 50, Xmax: 50, HighWater: []byte{9}})
	truncate := func(position byte, id uint64) *Round {
		return NewRound(&rowv1.RoundBegin{Positions: []byte{position}, TxnIds: []uint64{id}})
	}
	if keys := c.Outlive(3, truncate(5, 49)); len(keys) != 1 || string(keys[0]) != "k" {
		t.Errorf("the read included the truncate: its row is younger, got %q", keys)
	}
	if len(c.Outlive(3, truncate(9, 50))) > 0 || len(c.Outlive(4, truncate(5, 49))) > 0 {
		t.Error("a later truncate, or one of another table, takes everything")
	}
}
