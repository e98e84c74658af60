package postgres

import (
	"fmt"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
)

// TestApply_RoundsOfManyRows has so many rows that inserts become COPY and updates several statements.
func TestApply_RoundsOfManyRows(t *testing.T) {
	const rows = 2*statementRows + 77
	for _, native := range []string{arrowio.NativePGBinary, arrowio.NativePGText, sdk.LaneArrow} {
		t.Run(native, func(t *testing.T) {
			tb := testTable(0, "t", 1, "id int4", "a text", "b text", "n int4")
			url, _, st := startApply(t, native, "CREATE TABLE t (id int PRIMARY KEY, a text, b text, n int, c int DEFAULT 7)", tb)
			var inserts, updates, deletes []change
			for i := range rows {
				k := fmt.Sprint(i)
				inserts = append(inserts, ch('I', k, k+"|a"+k+"|-|4"))
				if i%2 == 0 {
					updates = append(updates, ch('U', k, k+"|?|b"+k+"|-"))
				} else {
					deletes = append(deletes, ch('D', k, k))
				}
			}
			st.round(10, tb, inserts...)
			wantRows(t, url, "SELECT count(*), sum(id), count(a), count(b), min(n), min(c), max(c) FROM t",
				fmt.Sprintf("%d\t%d\t%d\t0\t4\t7\t7", rows, rows*(rows-1)/2, rows))
			st.round(20, tb, append(updates, deletes...)...)
			wantRows(t, url, "SELECT count(*), count(*) FILTER (WHERE a = 'a' || id AND b = 'b' || id AND n IS NULL) FROM t",
				fmt.Sprintf("%d\t%[1]d", (rows+1)/2))
			// Every second row is there already: COPY is refused, and the safe form replaces them.
			st.round(30, tb, inserts...)
			wantRows(t, url, "SELECT count(*), count(a), count(b), count(n) FROM t", fmt.Sprintf("%d\t%[1]d\t0\t%[1]d", rows))
			st.close()
		})
	}
}

// BenchmarkApply_Inserts are rounds of 20,000 new rows.
func BenchmarkApply_Inserts(b *testing.B) {
	const rows = 20_000
	url := dev.Database(b)
	dev.MustExec(b, url, "CREATE TABLE t (id int PRIMARY KEY, n bigint, a text)")
	s := openSink(b, url)
	recovered(b, s, 1, position(1, 1))
	tb := testTable(0, "t", 1, "id int4", "n int8", "a text")
	st := applyStream(b, s, 1, arrowio.NativePGBinary, tb)
	pos, next := uint64(10), 0
	changes := make([]change, rows)
	for b.Loop() {
		for i := range changes {
			next++
			k := fmt.Sprint(next)
			changes[i] = ch('I', k, k+"|1|"+fmt.Sprintf("%080d", i))
		}
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
