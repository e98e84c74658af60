package postgres

import (
	"strconv"
	"strings"

	"github.com/droverdb/drover/internal/diag"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// coverageOf makes a coverage of pg_current_snapshot()'s text (xmin:xmax:xid,xid…) and of the log's insert position
// read in the same statement: whatever the snapshot includes was in the log before it.
func coverageOf(snapshot, insertLSN string) (*rowv1.Coverage, error) {
	lsn, err := parseLSN(insertLSN)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(snapshot, ":")
	if len(parts) != 3 {
		return nil, malformedSnapshot()
	}
	c := &rowv1.Coverage{Exact: true, HighWater: position(lsn, lsn)}
	if c.Xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return nil, malformedSnapshot()
	}
	if c.Xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return nil, malformedSnapshot()
	}
	if parts[2] == "" {
		return c, nil
	}
	for x := range strings.SplitSeq(parts[2], ",") {
		id, err := strconv.ParseUint(x, 10, 64)
		if err != nil {
			return nil, malformedSnapshot()
		}
		c.InProgress = append(c.InProgress, id)
	}
	return c, nil
}

func malformedSnapshot() error {
	return diag.Internal.New("source", nil, "the server sent a snapshot of unknown form")
}
