package copy_test

import (
	"encoding/json"
	"strings"
	"testing"

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
