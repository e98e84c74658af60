package sdk

import (
	"bytes"
	"slices"

	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Includes reports whether a read with coverage c has seen the transaction at position p with id x.
// Positions compare byte-wise in log order within one slot. A nil coverage includes nothing.
// The rule is that of PostgreSQL's snapshots (src/backend/utils/time/snapmgr.c, XidInMVCCSnapshot);
// sources that know only positions leave exact false.
func Includes(c *rowv1.Coverage, p []byte, x uint64) bool {
	if c == nil {
		return false
	}
	if len(c.Through) > 0 && bytes.Compare(p, c.Through) <= 0 {
		return true
	}
	if !c.Exact {
		return false
	}
	if len(c.HighWater) > 0 && bytes.Compare(p, c.HighWater) > 0 {
		return false
	}
	return Sees(c, x)
}

// Sees reports whether the snapshot part of c includes transaction id x, whatever its position.
func Sees(c *rowv1.Coverage, x uint64) bool {
	if x < c.Xmin {
		return true
	}
	return x < c.Xmax && !slices.Contains(c.InProgress, x)
}

// SeesAll reports whether the snapshot part of c includes every pending transaction of a floor:
// the condition under which a chunk may be read (handover.md, rule 3).
func SeesAll(c *rowv1.Coverage, pending []uint64) bool {
	for _, x := range pending {
		if !Sees(c, x) {
			return false
		}
	}
	return true
}

// Passed reports whether no transaction after position p can be included in c any more.
func Passed(c *rowv1.Coverage, p []byte) bool {
	if c == nil {
		return true
	}
	end := c.Through
	if c.Exact {
		end = c.HighWater
	}
	return len(end) > 0 && bytes.Compare(p, end) >= 0
}
