package copy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// readOnly is what whoever switches over does at the source.
const readOnly = `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$`

// copying starts a copy that follows, and returns when it streams.
func (v *verbs) copying(t *testing.T, flags ...string) *harness.Process {
	t.Helper()
	args := append([]string{"copy", v.source, v.target, "--follow", "--name", v.name, "--data", v.data}, flags...)
	p := harness.Start(t, harness.Command{Args: args})
	awaitPhase(t, v.name, v.data, "streaming")
	return p
}

// interrupt ends a copy as Ctrl-C does.
func interrupt(t *testing.T, p *harness.Process) {
	t.Helper()
	p.Signal(t, syscall.SIGINT)
	if r := p.Wait(); r.Code != 130 {
		t.Fatal(r)
	}
}

// nothingLeft: neither end holds anything of the pipeline, nor does the data directory.
func (v *verbs) nothingLeft(t *testing.T) {
	t.Helper()
	for url, sql := range map[string]string{
		v.source: "SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()) + (SELECT count(*) FROM pg_publication)",
		v.target: "SELECT count(*) FROM pg_namespace WHERE nspname = 'drover'",
	} {
		if n := one(t, url, sql); n != "0" {
			t.Errorf("after delete %s are left: %s", n, sql)
		}
	}
	if _, err := os.Stat(filepath.Join(v.data, "copy", v.name)); !os.IsNotExist(err) {
		t.Errorf("its state is left: %v", err)
	}
}

// runFix runs a command that an error has printed, as it was printed; a confirmation comes on top, as off a terminal.
func runFix(t *testing.T, stderr, verb, name string) harness.Result {
	t.Helper()
	command := regexp.MustCompile("drover (" + verb + " " + name + "[^`#\n]*)").FindStringSubmatch(stderr)
	if command == nil {
		t.Fatalf("no fix says drover %s %s: %s", verb, name, stderr)
	}
	script := fmt.Sprintf("exec '%s' %s --yes --confirm %s", harness.Binary(t), command[1], name)
	r := harness.Start(t, harness.Command{Path: "/bin/sh", Args: []string{"-c", script}}).Wait()
	if r.Code != 0 {
		t.Fatalf("%s: %s", script, r)
	}
	return r
}

// The way of docs/how-to/follow.md to its end, at a source that takes no writes by default: a copy that does not run is named,
// and is deleted without a coordinator by the command that the error prints.
func TestEnds_ACopyThatDoesNotRunIsDeleted(t *testing.T) {
	source, target := pair(t)
	v := &verbs{data: t.TempDir(), name: "sw-1", source: source, target: target}
	dev.MustExec(t, source, readOnly)
	dev.MustExec(t, target, readOnly)
	interrupt(t, v.copying(t))
	r := v.run(t, 3, "list")
	for _, want := range []string{"E1005", "sw-1", "drover delete sw-1 --data '" + v.data + "'"} {
		if !strings.Contains(r.Stderr, "drover delete "+v.name) || !strings.Contains(r.Stderr, want) {
			t.Errorf("the list of what does not run names no %q: %s", want, r)
		}
	}
	if again := v.run(t, 3, "status", v.name); !strings.Contains(again.Stderr, "not running: sw-1") {
		t.Errorf("%s", again)
	}
	gone := runFix(t, r.Stderr, "delete", v.name)
	for _, want := range []string{"removed slot drover_sw_1_", "removed publication drover_sw_1_", "removed tokens of pipeline sw-1"} {
		if !strings.Contains(gone.Stdout, want) {
			t.Errorf("it does not say %q: %s", want, gone)
		}
	}
	v.nothingLeft(t)
	harness.RequireRowsEqual(t, source, target)
}

// A copy that is deleted while it runs says so, and leaves nothing; one beside it that rests is named by the list.
func TestEnds_ACopyThatRunsIsDeleted(t *testing.T) {
	source, target := pair(t)
	v := &verbs{data: t.TempDir(), name: "runs", source: source, target: target}
	p := v.copying(t)
	v.run(t, 0, "delete", v.name, "--yes", "--confirm", v.name)
	if r := p.Wait(); r.Code != 0 || !strings.Contains(r.Stderr, "runs was deleted while it ran") || strings.Contains(r.Stderr, "E1004") {
		t.Errorf("the copy ended with %s", r)
	}
	v.nothingLeft(t)
}

// A target that cannot be written for a while, by a setting or as a standby that is promoted later, is waited for; at first
// contact a standby is refused with its fix.
func TestEnds_ATargetThatIsReadOnlyForAWhile(t *testing.T) {
	dst := dev.TargetPostgres(t)
	v := &verbs{data: t.TempDir(), name: "failover", source: dev.Database(t), target: dst.URL("postgres")}
	dev.MustExec(t, v.source, three)
	p := v.copying(t)
	dev.MustExec(t, v.target, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
	v.others(t, 920001)
	signal := filepath.Join(one(t, v.target, "SHOW data_directory"), "standby.signal")
	if err := dst.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(signal, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := dst.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	dev.MustExec(t, v.source, "INSERT INTO a VALUES (920002, 'meanwhile', 0)")
	harness.Eventually(t, 60*time.Second, func() error {
		if r := v.run(t, 0, "status", v.name); !strings.Contains(r.Stdout, "health=waiting") || !strings.Contains(r.Stdout, "E5002") {
			return fmt.Errorf("it does not wait for a target that is read-only: %s", r)
		}
		return nil
	})
	refused(t, 4, []string{"copy", v.source, v.target, "--data", t.TempDir()}, "E5002", "it is in recovery", "primary")
	dev.MustExec(t, v.target, "SELECT pg_promote()")
	v.others(t, 920003)
	v.equal(t)
	interrupt(t, p)
	v.run(t, 0, "delete", v.name, "--yes", "--confirm", v.name)
	v.nothingLeft(t)
}

// What cannot be reached keeps nothing from being removed elsewhere: the flag that the error names tells what is left, with
// SQL that works. Without the flag nothing has changed.
func TestEnds_ASideThatIsGoneIsForgotten(t *testing.T) {
	for _, side := range []string{"source", "target"} {
		t.Run(side, func(t *testing.T) {
			src, dst := dev.Postgres(t), dev.TargetPostgres(t)
			server := map[string]*dev.Server{"source": src, "target": dst}[side]
			v := &verbs{data: t.TempDir(), file: filepath.Join(t.TempDir(), "p.yaml"), name: "gone-" + side, source: src.URL("postgres"), target: dst.URL("postgres")}
			dev.MustExec(t, v.source, three)
			v.write(t, "")
			p := v.begin(t, func() *harness.Process {
				p := harness.Start(t, harness.Command{Args: []string{"up", "--data", v.data}})
				p.WaitForOutput(t, "drover is up", 20*time.Second)
				return p
			})
			if err := server.Stop(); err != nil {
				t.Fatal(err)
			}
			want := " --forget " + side
			r := v.run(t, 3, "delete", v.name, "--yes", "--confirm", v.name)
			if !strings.Contains(r.Stderr, "E2001") || !strings.Contains(r.Stderr, "drover delete "+v.name) || !strings.Contains(r.Stderr, want) {
				t.Errorf("it does not name the way out: %s", r)
			}
			if s := v.run(t, 0, "status", v.name, "-o", "json"); strings.Contains(r.Stderr, "stopped from now on") != strings.Contains(s.Stdout, `"desired": "stopped"`) {
				t.Errorf("what became of the pipeline is not what was said: %s, %s", r, s)
			}
			left := runFix(t, r.Stderr, "delete", v.name)
			if !strings.Contains(left.Stdout, "left at the "+side+" 127.0.0.1:") {
				t.Errorf("it does not say what is left: %s", left)
			}
			if err := server.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, sql, _ := strings.Cut(left.Stdout, "run there:\n")
			for _, line := range strings.Split(strings.TrimSpace(sql), "\n") {
				dev.MustExec(t, server.URL("postgres"), line)
			}
			v.nothingLeft(t)
			p.Stop(10 * time.Second)
		})
	}
}
