package postgres

import (
	"fmt"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
)

// One transaction of deletes in a table of a million rows without a key.
func BenchmarkApply_WholeRowDeletes(b *testing.B) {
	const rows = 1_000_000
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			url := dev.Database(b)
			dev.MustExec(b, url, "CREATE TABLE t (a int, b bigint, c text, d varchar)",
				fmt.Sprintf("INSERT INTO t SELECT i %% 1000, i, 'some text that is not short ' || i, NULL FROM generate_series(1, %d) i", rows), "VACUUM ANALYZE t")
			s := openSink(b, url)
			recovered(b, s, 1, position(1, 1))
			tb := testTable(0, "t", 0, "a int4", "b int8", "c text", "d varchar")
			st := applyStream(b, s, 1, arrowio.NativePGBinary, tb)
			next := 0
			pos := uint64(10)
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				changes := make([]change, n)
				for i := range changes {
					next++
					k := (next * 611_953) % rows
					changes[i] = ch('D', fmt.Sprint(k), fmt.Sprintf("%d|%d|some text that is not short %d|-", k%1000, k, k))
				}
				b.StartTimer()
				st.round(pos, tb, changes...)
				pos += 10
			}
			b.StopTimer()
			close(st.in)
			if err := st.fails(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
