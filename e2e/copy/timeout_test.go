package copy_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// timedOut demands exit code 6 and words on stderr.
func timedOut(t *testing.T, r harness.Result, words ...string) {
	t.Helper()
	if r.Code != 6 {
		t.Errorf("exit code %d: %s", r.Code, r)
	}
	for _, w := range append(words, "E1007") {
		if !strings.Contains(r.Stderr, w) {
			t.Errorf("no %q: %s", w, r)
		}
	}
}

// A copy whose time has passed says who was in its way, and the same command goes on; one that streams stops in good order.
func TestTimeout_ACopyGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	source, target := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, source, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)")
	conn, err := pgx.Connect(t.Context(), source+"&application_name=forgotten")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "BEGIN; INSERT INTO t VALUES (-1)"); err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	timedOut(t, harness.Run(t, "copy", source, target, "--follow", "--name", "late", "--data", data, "--timeout", "8s"), "pipeline late", "it waited for the end of phase", "application forgotten", "The same command goes on where it stopped.")
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	p := harness.Start(t, harness.Command{Args: []string{"copy", source, target, "--follow", "--name", "late", "--data", data, "--timeout", "30s"}})
	p.WaitForOutput(t, "phase=streaming", 25*time.Second)
	dev.MustExec(t, source, "DELETE FROM t WHERE id = 1")
	timedOut(t, p.Wait(), "an end: it streams, in sync", "1 of 1 table")
	harness.RequireRowsEqual(t, source, target)
}

// Whoever only watches lets the pipeline run on.
func TestTimeout_AWatchLeavesThePipelineRunning(t *testing.T) {
	v := &verbs{data: t.TempDir(), file: filepath.Join(t.TempDir(), "p.yaml"), name: "watched", source: dev.Database(t), target: dev.Database(t)}
	dev.MustExec(t, v.source, "CREATE TABLE c (n int PRIMARY KEY)")
	harness.Start(t, harness.Command{Args: []string{"up", "--data", v.data}}).WaitForOutput(t, "drover is up", 20*time.Second)
	v.write(t, "")
	v.run(t, 0, "apply", "-f", v.file)
	timedOut(t, v.run(t, 6, "status", v.name, "-w", "--timeout", "3s"), "pipeline watched", "It keeps running: drover status watched -w")
	dev.MustExec(t, v.source, "INSERT INTO c VALUES (7)")
	v.arrives(t, 7)
	v.run(t, 0, "delete", v.name, "--yes", "--confirm", v.name, "--timeout", "1m")
}

// A database that does not answer keeps doctor no longer than it is told to wait.
func TestTimeout_ADoctorDoesNotWaitForEver(t *testing.T) {
	s := dev.Postgres(t)
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	r := harness.Run(t, "doctor", s.URL("postgres"), dev.Database(t), "--timeout", "2s")
	timedOut(t, r, "the checks of both databases", "Nothing was changed")
	if r.Took > 12*time.Second {
		t.Error(r)
	}
}
