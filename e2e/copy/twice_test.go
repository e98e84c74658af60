package copy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// twice is a pair that two coordinators copy, which know nothing of each other.
type twice struct {
	t              *testing.T
	source, target string
	more           []string
	once           string
}

// Tables with and without keys: doubled rows of the latter meet no constraint at all.
const twiceSQL = `CREATE TABLE a (id bigint PRIMARY KEY, v text); INSERT INTO a SELECT i, repeat('v', i % 60) FROM generate_series(1, 60000) i;
CREATE TABLE b (n int, v text); ALTER TABLE b REPLICA IDENTITY FULL; INSERT INTO b SELECT i, 'v' || i FROM generate_series(1, 3000) i;
CREATE INDEX ON a (v); ANALYZE;`

func newTwice(t *testing.T, more ...string) *twice {
	w := &twice{t: t, more: more}
	w.source, w.target = dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, w.source, twiceSQL)
	return w
}

func (w *twice) start(data, faults string) *harness.Process {
	w.once = w.t.TempDir()
	args := append([]string{"copy", w.source, w.target, "--data", data, "--progress", "plain"}, w.more...)
	return harness.Start(w.t, harness.Command{Args: args, Env: []string{"DROVER_FAULT=" + faults, "DROVER_FAULT_ONCE=" + w.once}})
}

// reached waits until the point has fired, in whichever process.
func (w *twice) reached(point string) {
	w.t.Helper()
	harness.Eventually(w.t, 60*time.Second, func() error {
		_, err := os.Stat(filepath.Join(w.once, point))
		return err
	})
}

func (w *twice) follows() bool { return len(w.more) > 0 }

// finished waits for a copy that ended well, or that streams, and ends that; both sides are equal.
func (w *twice) finished(p *harness.Process) {
	w.t.Helper()
	if w.follows() {
		p.WaitForOutput(w.t, "phase=streaming", 60*time.Second)
		awaitSame(w.t, w.source, w.target)
		if r := p.Stop(20 * time.Second); r.Code != 130 {
			w.t.Fatalf("it did not end as asked: %s", r)
		}
		return
	}
	if r := p.Wait(); r.Code != 0 {
		w.t.Fatalf("the copy failed: %s", r)
	}
	harness.RequireEqual(w.t, w.source, w.target, harness.CompareOptions{})
}

// cont lets the process and all that it has started go on.
func (w *twice) cont(p *harness.Process) {
	w.t.Helper()
	for _, pid := range append(dev.ChildrenOf(p.PID()), p.PID()) {
		_ = syscall.Kill(pid, syscall.SIGCONT) // it may have ended
	}
}

// moments of a copy: before anything is planned, while rows are written, while keys are built, and before tokens are dropped.
var moments = []string{"recover.after-fence", "coordinator.after-grant", "write.before-commit", "schema.before-commit@2", "tokens.before-drop"}

// While the first copy of a pair is alive, however slow, a second one under another directory is refused before it has
// written anything, and told who is at work; the first one ends as if nothing had been.
func TestTwice_TheSecondIsRefusedWhileTheFirstLives(t *testing.T) {
	for _, moment := range moments {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			w := newTwice(t)
			point, _, _ := strings.Cut(moment, "@")
			first := w.start(t.TempDir(), strings.Replace(moment, point, point+"=pause", 1))
			w.reached(point)
			r := w.start(t.TempDir(), "").Wait()
			if r.Code != 4 || !strings.Contains(r.Stderr, "E6016") || !strings.Contains(r.Stderr, "/owner)") || !strings.Contains(r.Stderr, "  fix ") {
				t.Errorf("a second copy: %s", r)
			}
			w.cont(first)
			w.finished(first)
		})
	}
}

// After a crash of the first, the second takes over at once. The first, started again, overwrites nothing.
func TestTwice_TheSecondTakesOverAfterACrash(t *testing.T) {
	for _, moment := range moments[:4] {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			w := newTwice(t)
			point, _, _ := strings.Cut(moment, "@")
			data := t.TempDir()
			first := w.start(data, strings.Replace(moment, point, point+"=sleep:10m", 1))
			w.reached(point)
			first.Kill()
			w.finished(w.start(t.TempDir(), ""))
			if r := w.start(data, "").Wait(); r.Code != 4 || !strings.Contains(r.Stderr, "E5001") {
				t.Errorf("the first again: %s", r)
			}
			harness.RequireEqual(t, w.source, w.target, harness.CompareOptions{})
		})
	}
}

// The target takes the first one for dead although it only sleeps: its session is gone. When it wakes up, everything that it
// still tries to write is refused.
func TestTwice_WhoWakesUpWritesNothing(t *testing.T) {
	for _, follow := range [][]string{nil, {"--follow"}} {
		for _, moment := range []string{"coordinator.after-grant", "write.before-commit", "schema.before-commit@2", "coordinator.before-loaded"} {
			t.Run(fmt.Sprint(moment, follow), func(t *testing.T) {
				t.Parallel()
				w := newTwice(t, follow...)
				point, _, _ := strings.Cut(moment, "@")
				first := w.start(t.TempDir(), strings.Replace(moment, point, point+"=pause", 1))
				w.reached(point)
				dev.MustExec(t, w.target, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'drover/%/owner'")
				second := w.start(t.TempDir(), "")
				if follow != nil { // the first wakes up beside it
					second.WaitForOutput(t, "phase=streaming", 60*time.Second)
				} else {
					w.finished(second)
				}
				w.cont(first)
				if r := first.Wait(); r.Code != 4 {
					t.Errorf("the first: %s", r)
				}
				if follow != nil {
					dev.MustExec(t, w.source, "INSERT INTO a VALUES (-1, 'new'); UPDATE b SET v = 'changed' WHERE n < 100; DELETE FROM b WHERE n > 2900")
					w.finished(second)
				}
				harness.RequireEqual(t, w.source, w.target, harness.CompareOptions{})
			})
		}
	}
}

// awaitSame waits until all rows are equal.
func awaitSame(t *testing.T, source, target string) {
	t.Helper()
	harness.Eventually(t, 60*time.Second, func() error {
		report, err := harness.Compare(t.Context(), source, target, harness.CompareOptions{Sequences: harness.SequencesSkip, SkipSchema: true})
		if err == nil && !report.Equal() {
			err = fmt.Errorf("%s", report)
		}
		return err
	})
}

// The same for pipelines of one name that two coordinators were given: the second waits for a person, takes over when it is told
// to and the first is gone, and keeps the first from going on with what it knows.
func TestTwice_TwoCoordinatorsWithOneName(t *testing.T) {
	t.Parallel()
	source, target := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, source, twiceSQL)
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte(fmt.Sprintf("version: 1\nname: shared\nsource: %q\ntarget: %q\n", source, target)), 0o600); err != nil {
		t.Fatal(err)
	}
	one, two := t.TempDir(), t.TempDir()
	up := func(data string) *harness.Process {
		p := harness.Start(t, harness.Command{Args: []string{"up", "--data", data}})
		p.WaitForOutput(t, "drover is up", 20*time.Second)
		return p
	}
	says := func(data, code string) {
		t.Helper()
		harness.Eventually(t, 60*time.Second, func() error {
			if r := harness.Run(t, "status", "shared", "--data", data); !strings.Contains(r.Stdout, "health=failed") || !strings.Contains(r.Stdout+r.Stderr, code) {
				return fmt.Errorf("no %s: %s", code, r)
			}
			return nil
		})
	}
	first := up(one)
	harness.MustRun(t, "apply", "-f", file, "--data", one)
	awaitPhase(t, "shared", one, "streaming")
	second := up(two)
	harness.MustRun(t, "apply", "-f", file, "--data", two)
	says(two, "E6016")
	first.Kill()
	harness.Eventually(t, 60*time.Second, func() error {
		r := harness.Run(t, "status", "shared", "--data", two)
		if strings.Contains(r.Stdout, "phase=streaming") {
			return nil
		}
		if strings.Contains(r.Stdout, "health=failed") { // the server may take a moment to see that the first is gone
			harness.MustRun(t, "resume", "shared", "--data", two)
		}
		return fmt.Errorf("it does not take over: %s", r)
	})
	up(one)
	says(one, "E6017")
	harness.MustRun(t, "delete", "shared", "--data", one, "--yes", "--confirm", "shared") // leaves slot and tokens to the second
	dev.MustExec(t, source, "INSERT INTO a VALUES (-1, 'new'); UPDATE b SET v = 'changed' WHERE n < 100")
	awaitSame(t, source, target)
	awaitPhase(t, "shared", two, "streaming")
	second.Stop(20 * time.Second)
}
