package copy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// A table of one chunk, into a target that takes its time: the display moves on, tells which side is slow, and calls
// nothing acknowledged before the target has committed it.
func TestCopy_ShowsHowFarASingleChunkIs(t *testing.T) {
	source, target := dev.Database(t), dev.TargetDatabase(t)
	const table = "CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL;"
	dev.MustExec(t, source, table+"INSERT INTO t SELECT i, repeat('v', 1000) FROM generate_series(1, 24000) i; ANALYZE t")
	dev.MustExec(t, target, table+`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id % 300 = 0 THEN PERFORM pg_sleep(0.1); END IF; RETURN NEW; END $$;
		CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION slow(); ALTER TABLE t ENABLE ALWAYS TRIGGER slow`)
	r := harness.MustRun(t, "copy", source, target, "--no-schema", "--progress", "json", "--every", "300ms", "--data", t.TempDir())
	var between int
	var slower string
	last := -1.0
	for _, line := range strings.Split(strings.TrimSpace(r.Stderr), "\n") {
		var s struct {
			Phase, Bottleneck string
			Load              struct {
				Bytes, Chunks int64
				InFlight      int64 `json:"bytes_in_flight"`
				Progress      float64
			}
		}
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if s.Load.Progress < last || s.Load.Chunks == 0 && (s.Load.Bytes > 0 || s.Load.Progress == 1) {
			t.Errorf("after %v: %s", last, line)
		}
		last = s.Load.Progress
		if s.Load.Chunks == 0 && s.Load.InFlight > 0 && s.Load.Progress > 0 {
			between++
		}
		if s.Bottleneck != "" {
			slower = s.Bottleneck
		}
	}
	if between < 3 || last != 1 || slower != "target write" {
		t.Errorf("%d looks at a chunk in flight, progress %v at the end, bottleneck %q: %s", between, last, slower, r)
	}
}

// After a start nobody is told that there is no lag while log waits to be read and applied; and when the target lets nothing in, it is the
// target that is named. A position behind the end of the source's log says that all has arrived.
func TestProgress_NoLagIsToldThatIsNotKnown(t *testing.T) {
	v, p := follows(t, "lagging")
	p.Stop(20 * time.Second)
	// The server has to read all this before it has anything to send.
	dev.MustExec(t, v.source, "CREATE TABLE noise AS SELECT i FROM generate_series(1, 1000000) i", "DROP TABLE noise", "UPDATE a SET n = n + 1")
	conn, err := pgx.Connect(t.Context(), v.target)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // the lock ends with it
	if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE a IN EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	p = harness.Start(t, harness.Command{Args: []string{"up", "--data", v.data}})
	p.WaitForOutput(t, "drover is up", 20*time.Second)
	type shown struct {
		Bottleneck string
		Stream     *struct {
			Position   string
			LagSeconds *float64 `json:"lag_seconds"`
		}
	}
	look := func() (s shown, text string) {
		r := harness.MustRun(t, "status", v.name, "--data", v.data, "-o", "json")
		if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
			t.Fatal(err)
		}
		return s, r.Stdout
	}
	harness.Eventually(t, 60*time.Second, func() error {
		s, text := look()
		if s.Stream != nil && s.Stream.LagSeconds != nil && *s.Stream.LagSeconds == 0 {
			t.Fatalf("no lag is told: %s", text)
		}
		if s.Bottleneck != "target apply" {
			return fmt.Errorf("not the target is named: %s", text)
		}
		return nil
	})
	if _, err := conn.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	end := one(t, v.source, "SELECT pg_current_wal_lsn()")
	harness.Eventually(t, 60*time.Second, func() error {
		s, text := look()
		if s.Stream == nil || s.Stream.LagSeconds == nil || one(t, v.source, "SELECT '"+s.Stream.Position+"'::pg_lsn >= '"+end+"'") != "t" {
			return fmt.Errorf("not all has arrived: %s", text)
		}
		return nil
	})
	v.equal(t)
	p.Stop(10 * time.Second)
}
