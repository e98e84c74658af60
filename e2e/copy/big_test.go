package copy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

const bigValue = `(SELECT decode(repeat('00ff10e1', %d), 'hex'))`

// A single value far beyond every buffer passes the load, within the memory that everything else passes in.
func TestCopy_AHugeValue(t *testing.T) {
	for _, lane := range []string{"native", "arrow"} {
		t.Run(lane, func(t *testing.T) {
			source, target := dev.Database(t), dev.TargetDatabase(t)
			dev.MustExec(t, source, fmt.Sprintf(`CREATE TABLE b (id int PRIMARY KEY, v bytea); ALTER TABLE b ALTER v SET STORAGE EXTERNAL; INSERT INTO b SELECT i, 'x' FROM generate_series(1, 50) i;
				INSERT INTO b VALUES (0, `+bigValue+`); INSERT INTO b SELECT i, 'y' FROM generate_series(51, 100) i; INSERT INTO b VALUES (101, `+bigValue+`)`, 25<<20, 5<<20))
			p := harness.Start(t, harness.Command{Args: []string{"copy", source, target, "--lane", lane, "--data", t.TempDir()}})
			memory := harness.PeakMemory(t, p.PID())
			if r := p.Wait(); r.Code != 0 {
				t.Fatal(r)
			}
			if mb := memory(); mb > 400 {
				t.Errorf("%d MB of memory", mb)
			} else {
				t.Logf("%d MB", mb)
			}
			sum := "SELECT count(*) || ' ' || sum(length(v)) || ' ' || (SELECT string_agg(md5(v), ' ' ORDER BY id) FROM b WHERE id IN (0, 101)) FROM b"
			if s, d := dev.MustQuery(t, source, sum), dev.MustQuery(t, target, sum); s != d {
				t.Errorf("source %s, target %s", s, d)
			}
		})
	}
}

// big compares two tables of large values row by row, without fetching any.
const big = "SELECT string_agg(id || ':' || coalesce(n::text, '-') || ':' || coalesce(md5(v), '-') || ':' || coalesce(md5(w), '-'), ' ' ORDER BY id) FROM "

// Rows of any size pass the stream, too, in the memory that everything else passes in, while other tables are written: of
// every kind of change, with any replica identity, on both lanes.
func TestFollow_AHugeValue(t *testing.T) {
	for _, lane := range []string{"native", "arrow"} {
		t.Run(lane, func(t *testing.T) {
			source, target := dev.Database(t), dev.TargetDatabase(t)
			dev.MustExec(t, source, `CREATE TABLE b (v bytea, id int PRIMARY KEY, n int, w text, u int UNIQUE);
				CREATE TABLE f (v bytea, id int PRIMARY KEY, n int, w text);
				ALTER TABLE b ALTER v SET STORAGE EXTERNAL; ALTER TABLE f ALTER v SET STORAGE EXTERNAL; ALTER TABLE f REPLICA IDENTITY FULL;
				CREATE TABLE small (id bigint PRIMARY KEY, v text); INSERT INTO small SELECT i, 'x' FROM generate_series(1, 1000) i`)
			p := harness.Start(t, harness.Command{Args: []string{"copy", source, target, "--follow", "--lane", lane, "--data", t.TempDir()}})
			p.WaitForOutput(t, "phase=streaming", 60*time.Second)
			memory := harness.PeakMemory(t, p.PID())
			w := harness.StartWriter(t, source, "public.small", harness.WriterOptions{Rate: 100})
			value := fmt.Sprintf(bigValue, 3<<20) // 12 MiB
			for table, first := range map[string]string{"b": fmt.Sprintf(bigValue, 15<<20), "f": value} {
				insert := "INSERT INTO " + table + " (id, n, v, w) VALUES "
				dev.MustExec(t, source,
					insert+"(1, 1, "+first+", 'first'), (2, 2, "+first+", 'second'), (3, 3, 'z', 'small')", // a large transaction
					"UPDATE "+table+" SET n = 10 WHERE id = 1",                                             // the value is unchanged
					"UPDATE "+table+" SET v = v || 'more' WHERE id = 2",
					"UPDATE "+table+" SET v = "+value+" WHERE id = 3",
					"UPDATE "+table+" SET id = 4 WHERE id = 3", // with an unchanged value
					"UPDATE "+table+" SET id = 5, v = v || 'x' WHERE id = 2",
					insert+"(6, 6, "+value+", 'gone'); DELETE FROM "+table+" WHERE id = 6", // before it is read again
					insert+"(7, 7, "+value+", 'to be small')",
					"UPDATE "+table+" SET v = 's' WHERE id = 7", // the old one is large
					insert+"(8, 8, "+value+", 'to be deleted')",
					"BEGIN; UPDATE "+table+" SET v = "+value+" WHERE id = 7; UPDATE "+table+" SET w = 'twice' WHERE id = 7; DELETE FROM "+table+" WHERE id = 8; COMMIT",
				)
			}
			for _, table := range []string{"b", "f"} {
				want := dev.MustQuery(t, source, big+table)
				harness.Eventually(t, 120*time.Second, func() error {
					if got := dev.MustQuery(t, target, big+table); got != want {
						return fmt.Errorf("the target has %s, the source %s", got, want)
					}
					return nil
				})
			}
			if s := w.Stop(); s.Commits == 0 {
				t.Error("nobody wrote meanwhile")
			}
			if mb := memory(); mb > 400 || mb < 20 {
				t.Errorf("%d MB of memory", mb)
			} else {
				t.Logf("%d MB", mb)
			}
			if r := p.Stop(20 * time.Second); r.Code != 130 {
				t.Error(r)
			}
		})
	}
}

// A table without a key has no other way to find a row than its values: there a large one ends the stream with the
// table's name and what to do, and nothing of its transaction arrives.
func TestFollow_AHugeValueWithoutAKey(t *testing.T) {
	source, target := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, source, `CREATE TABLE b (id int, v bytea); ALTER TABLE b ALTER v SET STORAGE EXTERNAL; ALTER TABLE b REPLICA IDENTITY FULL`)
	p := harness.Start(t, harness.Command{Args: []string{"copy", source, target, "--follow", "--data", t.TempDir()}})
	p.WaitForOutput(t, "phase=streaming", 60*time.Second)
	memory := harness.PeakMemory(t, p.PID())
	dev.MustExec(t, source, fmt.Sprintf(`INSERT INTO b VALUES (0, `+bigValue+`)`, 6<<20))
	sum := "SELECT count(*) || ' ' || sum(length(v)) || ' ' || (SELECT md5(v) FROM b WHERE id = 0) FROM b"
	want := dev.MustQuery(t, source, sum)
	harness.Eventually(t, 60*time.Second, func() error {
		if got := dev.MustQuery(t, target, sum); got != want {
			return fmt.Errorf("the target has %s, the source %s", got, want)
		}
		return nil
	})
	if mb := memory(); mb > 400 || mb < 20 {
		t.Errorf("%d MB of memory", mb)
	} else {
		t.Logf("%d MB", mb)
	}
	dev.MustExec(t, source, fmt.Sprintf(`BEGIN; INSERT INTO b VALUES (-2, 'z'); INSERT INTO b VALUES (-1, `+bigValue+`); COMMIT`, 7<<20))
	r := p.Wait()
	if r.Code == 0 || !strings.Contains(r.Stderr, "E3015") || !strings.Contains(r.Stderr, "table public.b") || !strings.Contains(r.Stderr, "PRIMARY KEY") {
		t.Error(r)
	}
	if got := dev.MustQuery(t, target, sum); got != want {
		t.Errorf("the target has %s, not %s", got, want)
	}
}
