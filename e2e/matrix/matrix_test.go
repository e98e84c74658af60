package matrix_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// patience is for machines that are busy with other tests; on a free one nothing here takes a tenth of it.
const patience = 3 * time.Minute

// Without writers both lanes give the source, schema and values of sequences included. Under writers of every kind the
// target becomes equal, on both lanes and with chunks small enough that keys move between them.
func TestMatrix(t *testing.T) {
	source := dev.Database(t)
	fill(t, source)
	for _, lane := range []string{"native", "arrow"} {
		t.Run("copy "+lane, func(t *testing.T) {
			target := dev.TargetDatabase(t)
			harness.MustRun(t, "copy", source, target, "--data", t.TempDir(), "--lane", lane)
			t.Log(harness.RequireEqual(t, source, target, harness.CompareOptions{}))
		})
	}
	for _, lane := range []string{"native", "arrow"} {
		t.Run("follow "+lane, func(t *testing.T) { follow(t, dev.Clone(t, source), lane) })
	}
}

func follow(t *testing.T, source, lane string) {
	target, data := dev.TargetDatabase(t), t.TempDir()
	stop := write(t, source)
	p := start(t, data, "matrix_"+lane, source, target, "load: {chunk: {target: 32KiB}, lane: "+lane+"}")
	dev.MustExec(t, source, "BEGIN; TRUNCATE emptied; INSERT INTO emptied SELECT i, i, 'after' FROM generate_series(1, 50) i; UPDATE emptied SET n = -1 WHERE id = 7; COMMIT")
	time.Sleep(time.Second)
	stop()
	caughtUp(t, source, target)
	cutOver(t, "matrix_"+lane, data, target)
	if lane == "native" {
		sequencesFollow(t, source, target)
	}
	end(t, p)
	report := harness.RequireEqual(t, source, target, harness.CompareOptions{Sequences: harness.SequencesSkip})
	t.Log(report)
}

// start runs a pipeline and returns once it streams.
func start(t *testing.T, data, name, source, target, more string) *harness.Process {
	t.Helper()
	p := harness.Start(t, harness.Command{Args: []string{"up", "--data", data}})
	p.WaitForOutput(t, "drover is up", 20*time.Second)
	file := filepath.Join(data, "p.yaml")
	text := fmt.Sprintf("version: 1\nname: %s\nsource: %q\ntarget: %q\n%s\n", name, source, target, more)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.MustRun(t, "apply", "-f", file, "--data", data)
	streaming(t, name, data)
	return p
}

func end(t *testing.T, p *harness.Process) {
	t.Helper()
	p.Signal(t, syscall.SIGTERM)
	if r := p.Wait(); r.Code != 0 {
		t.Errorf("stopped with %d: %s", r.Code, r.Stderr)
	}
}

// write starts a writer on every table, and one that does the transactions of writes.sql. What it returns ends them.
func write(t *testing.T, url string) (stop func()) {
	t.Helper()
	writers := map[string]*harness.Writer{}
	one := func(table string, values map[string]string) {
		o := harness.WriterOptions{Rate: 4, MaxChanges: 8, Seed: uint64(len(writers)), Values: values}
		writers[table] = harness.StartWriter(t, url, table, o)
	}
	for _, k := range keyTables {
		k = k.on(dev.Major(t, url))
		one(k.table(), map[string]string{"k": "(SELECT " + k.value + " FROM (SELECT (1 + random() * 4998)::int::bigint) x(i))"})
	}
	for table, values := range written {
		one(table, values)
	}
	s := startScript(t, url, writes()...)
	return func() {
		t.Helper()
		for table, w := range writers {
			// On a slow machine a writer comes to few transactions, and which of them the foreign keys refuse is chance.
			const enough = 100
			st := w.Stop()
			if st.Commits == 0 || st.Refused > st.Commits && st.Refused+st.Commits > enough {
				t.Errorf("%s: %s", table, st)
			}
		}
		s.stop(t)
	}
}

func streaming(t *testing.T, name, data string) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		r := harness.Run(t, "status", name, "--data", data, "-o", "json")
		var s struct{ Phase, Health string }
		if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
			return fmt.Errorf("status: %s", r)
		}
		if s.Health == "failed" {
			t.Fatalf("it failed: %s", r)
		}
		if s.Phase != "streaming" {
			return fmt.Errorf("phase is %s: %s", s.Phase, r.Stdout)
		}
		return nil
	})
}

// sequencesFollow waits until sequences, which are in no log, have the source's values.
func sequencesFollow(t *testing.T, source, target string) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		r, err := harness.Compare(t.Context(), source, target, harness.CompareOptions{Tables: []string{"public.always"}, SkipSchema: true})
		if err == nil && !r.Equal() {
			err = fmt.Errorf("%s", r)
		}
		return err
	})
}

// cutOver does what the status says waits for the cutover.
func cutOver(t *testing.T, name, data, target string) {
	t.Helper()
	r := harness.MustRun(t, "status", name, "--data", data, "-o", "json")
	var s struct {
		Left []struct{ Kind, Object, Reason, Todo string } `json:"not_carried"`
	}
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
		t.Fatal(err)
	}
	var done []string
	for _, l := range s.Left {
		if strings.Contains(l.Reason, "cutover") {
			dev.MustExec(t, target, l.Todo)
			done = append(done, l.Kind+" "+l.Object)
		}
	}
	if slices.Sort(done); !slices.Equal(done, []string{"event trigger nosy", "owner postgres", "trigger mode public.orders.louder"}) {
		t.Errorf("left for the cutover: %v", done)
	}
}

// caughtUp waits until a mark that was written last is at the target.
func caughtUp(t *testing.T, source, target string) {
	t.Helper()
	dev.MustExec(t, source, "INSERT INTO customer VALUES (-1, 'the last', 0)")
	harness.Eventually(t, patience, func() error {
		if n := dev.MustQuery(t, target, "SELECT count(*) FROM customer WHERE id = -1"); n != "1" {
			return fmt.Errorf("the last change is not there")
		}
		return nil
	})
}
