// Package fault_test kills, freezes and starves every party of a migration, and demands that not one row is lost.
package fault_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
	"github.com/droverdb/drover/internal/fault"
)

// A test here waits for timeouts most of the time: more of them fit side by side than there are cores.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(harness.Main(m))
}

// shop has a table of several chunks and load tasks, a unit table (its keys are not byte-ordered), one without a key, and
// one for large rows.
const shop = `
CREATE TABLE a (id bigint PRIMARY KEY, v text, n int);
INSERT INTO a SELECT i, repeat('v', 200 + i % 100), i FROM generate_series(1, 15000) i;
CREATE TABLE w (k text COLLATE "en-x-icu" PRIMARY KEY, n int);
INSERT INTO w SELECT md5(i::text), i FROM generate_series(1, 5000) i;
CREATE TABLE h (n int, t text); ALTER TABLE h REPLICA IDENTITY FULL;
INSERT INTO h SELECT i % 50, 'h' || i % 7 FROM generate_series(1, 1000) i;
CREATE TABLE l (id int PRIMARY KEY, n int, v bytea); ALTER TABLE l ALTER v SET STORAGE EXTERNAL;
CREATE INDEX a_n ON a (n); ANALYZE;`

// large is a value beyond what the log's reader holds.
const large = `decode(md5(random()::text) || repeat('00ff10e1', 2300000), 'hex')`

// rig is one pipeline with the processes that run it. Processes that died are started again by alive, as an init
// system would; the test's own goroutine does it.
type rig struct {
	t              *testing.T
	name           string
	source, target string
	data, marks    string
	env            []string
	commands       [][]string
	processes      []*harness.Process
	writers        []*harness.Writer
	deaths, marker int
	large          bool   // large rows are written, too
	forget         bool   // whoever starts again finds an empty data directory
	file           string // of the pipeline, once applied
}

// newRig makes the databases. spec is what DROVER_FAULT is to say; each point fires once.
func newRig(t *testing.T, name, spec string) *rig {
	t.Helper()
	return newRigOn(t, dev.Database(t), dev.Database(t), name, spec)
}

// newRigOn is newRig on databases that are there.
func newRigOn(t *testing.T, source, target, name, spec string) *rig {
	t.Helper()
	r := &rig{t: t, name: name, source: source, target: target, data: t.TempDir(), marks: t.TempDir()}
	if spec != "" {
		r.env = []string{fault.EnvVar + "=" + spec, fault.OnceVar + "=" + r.marks}
	}
	dev.MustExec(t, r.source, shop)
	return r
}

// tree runs everything in one process tree: whoever dies takes all others along, except a connector.
func (r *rig) tree() { r.commands = [][]string{{"up", "--data", r.data}} }

// fleet runs coordinator, source agent and sink agent as processes of their own.
func (r *rig) fleet() {
	address, transfer := freeAddress(r.t), freeAddress(r.t)
	r.commands = [][]string{
		{"coordinator", "run", "--data", r.data, "--listen", address},
		{"agent", "run", "--coordinator", address, "--name", "src", "--no-sink"},
		{"agent", "run", "--coordinator", address, "--name", "dst", "--no-source", "--transfer", transfer},
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// alive starts what does not run.
func (r *rig) alive() {
	r.t.Helper()
	if r.processes == nil {
		r.processes = make([]*harness.Process, len(r.commands))
	}
	lost := false
	for i, args := range r.commands {
		if p := r.processes[i]; p != nil {
			select {
			case <-p.Done():
				r.deaths++
				if r.forget {
					lost = os.RemoveAll(r.data) == nil
				}
			default:
				continue
			}
		}
		r.processes[i] = harness.Start(r.t, harness.Command{Args: args, Env: r.env})
	}
	if lost && r.file != "" {
		r.applyAgain()
	}
}

// applyAgain tells a coordinator that has forgotten everything; if it dies of that, the next look starts anew.
func (r *rig) applyAgain() {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		select {
		case <-r.processes[0].Done():
			return
		default:
			if r.run("apply", "-f", r.file) == nil {
				return
			}
		}
	}
}

// write keeps every table busy until stopWriting.
func (r *rig) write() {
	for _, table := range []string{"public.a", "public.w", "public.h"} {
		r.writers = append(r.writers, harness.StartWriter(r.t, r.source, table, harness.WriterOptions{Rate: 60}))
	}
	if r.large {
		r.writers = append(r.writers, harness.StartWriter(r.t, r.source, "public.l", harness.WriterOptions{Rate: 1, MaxChanges: 1,
			Values: map[string]string{"v": large}}))
	}
}

func (r *rig) stopWriting() {
	for _, w := range r.writers {
		if s := w.Stop(); s.Commits == 0 {
			r.t.Errorf("a writer wrote nothing: %s", s)
		}
	}
}

// apply creates and starts the pipeline; load, if any, replaces that part of its file.
func (r *rig) apply(load string) {
	r.t.Helper()
	if load == "" {
		load = "load: {chunk: {target: 128KiB}}\n"
	}
	file := filepath.Join(r.t.TempDir(), "p.yaml")
	text := fmt.Sprintf("version: 1\nname: %s\nsource: %q\ntarget: %q\ncdc: {heartbeat: 1s}\n%s",
		r.name, r.source, r.target, load)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.eventually(30*time.Second, func() error { return r.run("apply", "-f", file) })
	r.file = file
}

// run calls drover beside the processes.
func (r *rig) run(args ...string) error {
	if res := harness.Run(r.t, append(args, "--data", r.data)...); res.Code != 0 {
		return fmt.Errorf("drover %s: %s", strings.Join(args, " "), res)
	}
	return nil
}

// eventually is harness.Eventually with the processes kept alive.
func (r *rig) eventually(timeout time.Duration, check func() error) {
	r.t.Helper()
	pause := 200 * time.Millisecond // each look costs a process
	for deadline := time.Now().Add(timeout); ; pause = min(pause*5/4, time.Second) {
		r.alive()
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("after %s: %v", timeout, err)
		}
		time.Sleep(pause)
	}
}

// status is what scripts see of a pipeline.
type status struct {
	Phase, Health, Waiting string
	Load                   struct{ Rows, Chunks, ChunksTotal int64 }
	Failures               []struct{ Code, Why string }
}

func (r *rig) status() (s status, err error) {
	res := harness.Run(r.t, "status", r.name, "--data", r.data, "-o", "json")
	if err := json.Unmarshal([]byte(res.Stdout), &s); err != nil {
		return s, fmt.Errorf("status: %s", res)
	}
	return s, nil
}

func (r *rig) await(phase string) {
	r.t.Helper()
	r.eventually(120*time.Second, func() error {
		s, err := r.status()
		if err == nil && s.Phase != phase {
			err = fmt.Errorf("phase is not %s: %+v", phase, s)
		}
		return err
	})
}

// fired waits until every point has fired.
func (r *rig) fired(points ...string) {
	r.t.Helper()
	r.eventually(90*time.Second, func() error {
		for _, point := range points {
			if _, err := os.Stat(filepath.Join(r.marks, point)); err != nil {
				return fmt.Errorf("%s has not fired", point)
			}
		}
		return nil
	})
}

// equal waits until both databases hold the same rows. Nobody may write.
func (r *rig) equal() {
	r.t.Helper()
	r.eventually(90*time.Second, func() error {
		report, err := harness.Compare(r.t.Context(), r.source, r.target, harness.CompareOptions{SkipSchema: true})
		if err == nil && !report.Equal() {
			err = fmt.Errorf("%s", report)
		}
		return err
	})
}

// remove deletes the pipeline and demands that nothing is left of it.
func (r *rig) remove() {
	r.t.Helper()
	r.eventually(90*time.Second, func() error {
		res := harness.Run(r.t, "delete", r.name, "--yes", "--confirm", r.name, "--data", r.data)
		if res.Code != 0 && !strings.Contains(res.Stderr, "E1004") {
			return fmt.Errorf("delete: %s", res)
		}
		return nil
	})
	for _, left := range []struct{ url, sql string }{
		{r.source, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"},
		{r.source, "SELECT count(*) FROM pg_publication"},
		{r.target, "SELECT count(*) FROM pg_namespace WHERE nspname = 'drover'"},
	} {
		if n := dev.MustQuery(r.t, left.url, left.sql); n != "0" {
			r.t.Errorf("delete left something behind: %s: %s", left.sql, n)
		}
	}
}
