package sdk

import (
	"testing"

	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func TestIncludes_FollowsTheSnapshot(t *testing.T) {
	c := &rowv1.Coverage{Through: []byte{5}, Exact: true, Xmin: 100, Xmax: 110, InProgress: []uint64{103}, HighWater: []byte{9}}
	for _, k := range []struct {
		p    byte
		x    uint64
		want bool
	}{{5, 103, true}, {6, 99, true}, {6, 103, false}, {6, 104, true}, {6, 110, false}, {10, 99, false}} {
		if got := Includes(c, []byte{k.p}, k.x); got != k.want {
			t.Errorf("position %d id %d: included = %v, want %v", k.p, k.x, got, k.want)
		}
	}
	if Includes(nil, []byte{1}, 1) || SeesAll(c, []uint64{101, 103}) || !SeesAll(c, []uint64{101, 102}) {
		t.Error("nil coverage or pending ids judged wrongly")
	}
	if Passed(c, []byte{8}) || !Passed(c, []byte{9}) {
		t.Error("passed must be decided by the high water mark")
	}
}
