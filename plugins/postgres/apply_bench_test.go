package postgres

import (
	"fmt"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
)

// Rounds of 20,000 updates of a table of 100,000 rows: what a target pays per change.
func BenchmarkApply_Updates(b *testing.B) {
	const rows = 20_000
	url := dev.Database(b)
	dev.MustExec(b, url, "CREATE TABLE t (id int PRIMARY KEY, n bigint, a text) WITH (fillfactor = 70)",
		"INSERT INTO t SELECT i, 0, repeat('x', 80) FROM generate_series(1, 100000) i")
	s := openSink(b, url)
	recovered(b, s, 1, position(1, 1))
	tb := testTable(0, "t", 1, "id int4", "n int8", "a text")
	st := applyStream(b, s, 1, arrowio.NativePGBinary, tb)
	changes := make([]change, rows)
	for i := range changes {
		k := fmt.Sprint(1 + (i*7919)%100_000)
		changes[i] = ch('U', k, k+"|1|"+fmt.Sprintf("%080d", i))
	}
	pos := uint64(10)
	b.ResetTimer()
	for b.Loop() {
		st.round(pos, tb, changes...)
		pos += 10
	}
	b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.StopTimer()
	close(st.in)
	if err := st.fails(); err != nil {
		b.Fatal(err)
	}
}
