// Package fleet_test runs coordinator, source agent and sink agent as processes of their own.
package fleet_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// fleet is a coordinator with one agent that only reads and one that only writes.
type fleet struct {
	data, address, transfer string
	coordinator, src, dst   *harness.Process
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

func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{data: t.TempDir(), address: freeAddress(t), transfer: freeAddress(t)}
	f.startCoordinator(t)
	f.startSource(t)
	f.startSink(t)
	return f
}

func (f *fleet) startCoordinator(t *testing.T) {
	t.Helper()
	f.coordinator = harness.Start(t, harness.Command{Args: []string{"coordinator", "run", "--data", f.data, "--listen", f.address}})
	f.coordinator.WaitForOutput(t, "drover is up", 20*time.Second)
}

func (f *fleet) startSource(t *testing.T) {
	t.Helper()
	f.src = harness.Start(t, harness.Command{Args: []string{"agent", "run", "--coordinator", f.address, "--name", "src", "--no-sink"}})
}

func (f *fleet) startSink(t *testing.T) {
	t.Helper()
	f.dst = harness.Start(t, harness.Command{Args: []string{"agent", "run", "--coordinator", f.address, "--name", "dst", "--no-source",
		"--transfer", f.transfer}})
}

func (f *fleet) apply(t *testing.T, name, source, target string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "p.yaml")
	text := fmt.Sprintf("version: 1\nname: %s\nsource: %q\ntarget: %q\ncdc: {heartbeat: 1s}\n", name, source, target)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.MustRun(t, "apply", "-f", file, "--data", f.data)
}

func (f *fleet) await(t *testing.T, name, word string) {
	t.Helper()
	harness.Eventually(t, 60*time.Second, func() error {
		r := harness.Run(t, "status", name, "--data", f.data)
		if !strings.Contains(r.Stdout, word) {
			return fmt.Errorf("no %q: %s", word, r)
		}
		return nil
	})
}

func equal(t *testing.T, source, target string) {
	t.Helper()
	harness.Eventually(t, 40*time.Second, func() error {
		report, err := harness.Compare(t.Context(), source, target, harness.CompareOptions{Sequences: harness.SequencesSkip, SkipSchema: true})
		if err == nil && !report.Equal() {
			err = fmt.Errorf("%s", report)
		}
		return err
	})
}

const shop = `CREATE TABLE a (id bigint PRIMARY KEY, v text, n int); INSERT INTO a SELECT i, repeat('v', i % 60), i FROM generate_series(1, 60000) i;
CREATE TABLE w (k text COLLATE "en-x-icu" PRIMARY KEY, n int); INSERT INTO w SELECT md5(i::text), i FROM generate_series(1, 20000) i; ANALYZE;`

// Every party is killed in turn while a writer is busy; nothing is lost, and delete leaves nothing behind.
func TestFleet_SurvivesTheDeathOfEveryParty(t *testing.T) {
	source, target := dev.Database(t), dev.Database(t)
	dev.MustExec(t, source, shop)
	f := startFleet(t)
	writers := []*harness.Writer{
		harness.StartWriter(t, source, "public.a", harness.WriterOptions{}),
		harness.StartWriter(t, source, "public.w", harness.WriterOptions{}),
	}
	f.apply(t, "ship", source, target)
	time.Sleep(700 * time.Millisecond)
	f.src.Kill()
	f.startSource(t)
	f.await(t, "ship", "phase=streaming")
	f.dst.Kill()
	f.startSink(t)
	time.Sleep(500 * time.Millisecond)
	f.coordinator.Kill()
	f.startCoordinator(t)
	f.await(t, "ship", "phase=streaming")
	f.src.Kill()
	f.startSource(t)
	time.Sleep(time.Second)
	for _, w := range writers {
		w.Stop()
	}
	equal(t, source, target)
	harness.MustRun(t, "delete", "ship", "--yes", "--confirm", "ship", "--data", f.data)
	left := dev.MustQuery(t, source, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")
	if strings.TrimSpace(left) != "0" {
		t.Errorf("%s slots are left at the source", left)
	}
}

// An agent that is frozen beyond its lease is replaced; when it wakes, the target refuses it.
func TestFleet_AFrozenAgentIsReplacedAndRefused(t *testing.T) {
	source, target := dev.Database(t), dev.Database(t)
	dev.MustExec(t, source, shop)
	f := startFleet(t)
	f.apply(t, "ice", source, target)
	f.await(t, "ice", "phase=streaming")
	frozen := f.src
	frozen.Signal(t, syscall.SIGSTOP)
	second := harness.Start(t, harness.Command{Args: []string{"agent", "run", "--coordinator", f.address, "--name", "src2", "--no-sink"}})
	dev.MustExec(t, source, "UPDATE a SET n = -1 WHERE id % 7 = 0")
	equal(t, source, target)
	frozen.Signal(t, syscall.SIGCONT)
	dev.MustExec(t, source, "UPDATE a SET n = -2 WHERE id % 5 = 0")
	equal(t, source, target)
	second.Stop(10 * time.Second)
}
