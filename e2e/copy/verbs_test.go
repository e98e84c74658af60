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

// verbs drives one pipeline of a running `drover up` through its commands.
type verbs struct{ data, file, name, source, target string }

func (v *verbs) run(t *testing.T, want int, args ...string) harness.Result {
	t.Helper()
	r := harness.Run(t, append(args, "--data", v.data)...)
	if r.Code != want {
		t.Fatalf("drover %s: want exit code %d: %s", strings.Join(args, " "), want, r)
	}
	return r
}

func (v *verbs) write(t *testing.T, options string) {
	t.Helper()
	text := fmt.Sprintf("version: 1\nname: %s\nsource: %q\ntarget: %q\n%s\n", v.name, v.source, v.target, options)
	if err := os.WriteFile(v.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func one(t *testing.T, url, sql string) string {
	t.Helper()
	return strings.TrimSpace(dev.MustQuery(t, url, sql))
}

// idle waits until nobody reads the slot, and nobody writes to the target.
func (v *verbs) idle(t *testing.T) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error {
		if n := one(t, v.source, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'drover_"+v.name+"' AND NOT active"); n != "1" {
			return fmt.Errorf("%s idle slots", n)
		}
		if n := one(t, v.target, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'drover/%' AND state <> 'idle'"); n != "0" {
			return fmt.Errorf("%s sessions write", n)
		}
		return nil
	})
}

// arrives waits for a marker written at the source; pending says that it must not have come yet.
func (v *verbs) arrives(t *testing.T, mark int) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error {
		if n := one(t, v.target, fmt.Sprintf("SELECT count(*) FROM c WHERE n = %d", mark)); n != "1" {
			return fmt.Errorf("the change has not arrived")
		}
		return nil
	})
}

// A pipeline is paused while it loads and while it streams, resumed, stopped, started, changed and deleted under writers.
func TestVerbs_PauseResumeStopStartChangeDelete(t *testing.T) {
	source, target := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, source, cut)
	v := &verbs{data: t.TempDir(), file: filepath.Join(t.TempDir(), "p.yaml"), name: "verbs", source: source, target: target}
	up := harness.Start(t, harness.Command{Args: []string{"up", "--data", v.data}, Env: []string{"DROVER_FAULT=load.before-read=sleep:150ms"}})
	up.WaitForOutput(t, "drover is up", 20*time.Second)
	writers := []*harness.Writer{harness.StartWriter(t, source, "public.a", harness.WriterOptions{}), harness.StartWriter(t, source, "public.w", harness.WriterOptions{})}
	v.write(t, "load: {chunk: {target: 256KiB}, parallel: 2}")
	v.run(t, 0, "apply", "-f", v.file)
	harness.Eventually(t, 60*time.Second, func() error {
		if n := len(writtenChunks(t, target, true)); n < 3 {
			return fmt.Errorf("%d chunks are written", n)
		}
		return nil
	})
	v.run(t, 0, "pause", v.name)
	v.idle(t)
	half := writtenChunks(t, target, false)
	time.Sleep(400 * time.Millisecond)
	if now := writtenChunks(t, target, false); len(now) != len(half) {
		t.Errorf("a paused load went on: %d chunks, then %d", len(half), len(now))
	}
	v.run(t, 0, "resume", v.name)
	awaitPhase(t, v.name, v.data, "streaming")
	unchanged(t, target, half)

	for i, pair := range [][2]string{{"pause", "resume"}, {"stop", "start"}} {
		v.run(t, 0, pair[0], v.name)
		v.idle(t)
		if r := v.run(t, 0, "list"); !strings.Contains(r.Stdout, "  "+[]string{"paused", "stopped"}[i]+"  ") || strings.Contains(r.Stdout, "  ok  ") {
			t.Errorf("after %s the list does not say so: %s", pair[0], r)
		}
		dev.MustExec(t, source, fmt.Sprintf("UPDATE c SET n = %d WHERE id = %d", -1-i, 1+i))
		time.Sleep(300 * time.Millisecond)
		if n := one(t, target, fmt.Sprintf("SELECT count(*) FROM c WHERE n = %d", -1-i)); n != "0" {
			t.Errorf("after %s changes still arrive", pair[0])
		}
		v.run(t, 0, pair[1], v.name)
		v.arrives(t, -1-i)
	}
	v.looks(t)
	v.changes(t)
	for _, w := range writers {
		w.Stop()
	}
	harness.RequireRowsEqual(t, source, target)
	v.ends(t)
	up.Stop(10 * time.Second)
}

// looks calls what shows a pipeline; a watch only detaches.
func (v *verbs) looks(t *testing.T) {
	t.Helper()
	for want, args := range map[string][]string{
		"streaming":              {"list"},
		"public.a":               {"tables", v.name},
		"all rows are loaded":    {"logs", v.name},
		"TABLE":                  {"chunks", v.name},
		`"phase":"streaming"`:    {"status", v.name, "-o", "json"},
		"phase=streaming health": {"status", v.name},
	} {
		if r := v.run(t, 0, args...); !strings.Contains(strings.ReplaceAll(r.Stdout, `": "`, `":"`), want) {
			t.Errorf("drover %s shows no %q: %s", strings.Join(args, " "), want, r)
		}
	}
	watch := harness.Start(t, harness.Command{Args: []string{"status", v.name, "-w", "--data", v.data}})
	watch.WaitForOutput(t, "phase=streaming", 20*time.Second)
	watch.Signal(t, syscall.SIGINT)
	if r := watch.Wait(); r.Code != 0 || !strings.Contains(r.Stderr, "keeps running") {
		t.Errorf("a watch that is left: %s", r)
	}
}

// changes: what may change in place is changed and the stream goes on; what may not is refused.
func (v *verbs) changes(t *testing.T) {
	t.Helper()
	v.write(t, "load: {chunk: {target: 1MiB}, parallel: 3}\nlabels: {team: a}")
	if r := v.run(t, 0, "apply", "-f", v.file); !strings.Contains(r.Stdout, "changed") {
		t.Errorf("%s", r)
	}
	if r := v.run(t, 0, "apply", "-f", v.file); !strings.Contains(r.Stdout, "unchanged") {
		t.Errorf("%s", r)
	}
	for _, refused := range []string{"tables: [public.a]", "mode: full-load", "load: {lane: arrow}", "schema: {create: false}"} {
		v.write(t, refused)
		if r := v.run(t, 2, "apply", "-f", v.file); !strings.Contains(r.Stderr, "E1002") || !strings.Contains(r.Stderr, "drover delete") {
			t.Errorf("%s: %s", refused, r)
		}
	}
	dev.MustExec(t, v.source, "UPDATE c SET n = -9 WHERE id = 9")
	v.arrives(t, -9)
}

// ends: delete asks for the name, and leaves nothing but the rows.
func (v *verbs) ends(t *testing.T) {
	t.Helper()
	v.run(t, 2, "delete", v.name)
	v.run(t, 0, "delete", v.name, "--yes", "--confirm", v.name)
	for url, sql := range map[string]string{
		v.source: "SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'drover_verbs') + (SELECT count(*) FROM pg_publication)",
		v.target: "SELECT count(*) FROM pg_namespace WHERE nspname = 'drover'",
	} {
		if n := one(t, url, sql); n != "0" {
			t.Errorf("after delete %s are left: %s", n, sql)
		}
	}
	v.run(t, 2, "status", v.name)
	if r := v.run(t, 0, "list", "-o", "json"); strings.Contains(r.Stdout, v.name) {
		t.Errorf("%s", r)
	}
}
