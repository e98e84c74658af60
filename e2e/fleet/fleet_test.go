// Package fleet_test runs coordinator, source agent and sink agent as processes of their own.
package fleet_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const heartbeat = "cdc: {heartbeat: 1s}"

const shop = `CREATE TABLE a (id bigint PRIMARY KEY, v text, n int); INSERT INTO a SELECT i, repeat('v', i % 60), i FROM generate_series(1, 60000) i;
CREATE TABLE w (k text COLLATE "en-x-icu" PRIMARY KEY, n int); INSERT INTO w SELECT md5(i::text), i FROM generate_series(1, 20000) i; ANALYZE;`

// Every party is killed in turn while a writer is busy; nothing is lost, and delete leaves nothing behind.
func TestFleet_SurvivesTheDeathOfEveryParty(t *testing.T) {
	source, target := dev.Database(t), dev.Database(t)
	dev.MustExec(t, source, shop)
	f := harness.StartFleet(t, harness.FleetOptions{})
	writers := []*harness.Writer{
		harness.StartWriter(t, source, "public.a", harness.WriterOptions{}),
		harness.StartWriter(t, source, "public.w", harness.WriterOptions{}),
	}
	f.Apply(t, "ship", source, target, heartbeat)
	time.Sleep(700 * time.Millisecond)
	f.Source.Kill()
	f.StartSource(t)
	f.Await(t, "ship", "phase=streaming")
	f.Sink.Kill()
	f.StartSink(t)
	time.Sleep(500 * time.Millisecond)
	f.Coordinator.Kill()
	f.StartCoordinator(t)
	f.Await(t, "ship", "phase=streaming")
	f.Source.Kill()
	f.StartSource(t)
	time.Sleep(time.Second)
	for _, w := range writers {
		w.Stop()
	}
	harness.RequireRowsEqual(t, source, target)
	if r := f.Run(t, "delete", "ship", "--yes", "--confirm", "ship"); r.Code != 0 {
		t.Fatal(r)
	}
	left := dev.MustQuery(t, source, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")
	if strings.TrimSpace(left) != "0" {
		t.Errorf("%s slots are left at the source", left)
	}
}

// An agent that is frozen beyond its lease is replaced; when it wakes, the target refuses it.
func TestFleet_AFrozenAgentIsReplacedAndRefused(t *testing.T) {
	source, target := dev.Database(t), dev.Database(t)
	dev.MustExec(t, source, shop)
	f := harness.StartFleet(t, harness.FleetOptions{})
	f.Apply(t, "ice", source, target, heartbeat)
	f.Await(t, "ice", "phase=streaming")
	f.Source.Signal(t, syscall.SIGSTOP)
	second := f.StartReader(t, "src2")
	dev.MustExec(t, source, "UPDATE a SET n = -1 WHERE id % 7 = 0")
	harness.RequireRowsEqual(t, source, target)
	f.Source.Signal(t, syscall.SIGCONT)
	dev.MustExec(t, source, "UPDATE a SET n = -2 WHERE id % 5 = 0")
	harness.RequireRowsEqual(t, source, target)
	second.Stop(10 * time.Second)
}

// Large rows pass from agent to agent in pieces: no process holds one.
func TestFleet_LargeRowsPassInPieces(t *testing.T) {
	source, target := dev.Database(t), dev.Database(t)
	dev.MustExec(t, source, `CREATE TABLE l (v bytea, id int PRIMARY KEY, n int); ALTER TABLE l ALTER v SET STORAGE EXTERNAL`)
	f := harness.StartFleet(t, harness.FleetOptions{})
	f.Apply(t, "heavy", source, target, heartbeat)
	f.Await(t, "heavy", "phase=streaming")
	memory := harness.PeakMemory(t, f.Coordinator.PID(), f.Source.PID(), f.Sink.PID())
	dev.MustExec(t, source, `INSERT INTO l SELECT decode(repeat('00ff10e' || i, 25000000), 'hex'), i, i FROM generate_series(1, 3) i`,
		`UPDATE l SET n = -n WHERE id = 1`, `UPDATE l SET id = 9 WHERE id = 2`, `DELETE FROM l WHERE id = 3`)
	rows := "SELECT string_agg(id || ' ' || n || ' ' || md5(v), ', ' ORDER BY id) FROM l"
	want := dev.MustQuery(t, source, rows)
	harness.Eventually(t, 120*time.Second, func() error {
		if got := dev.MustQuery(t, target, rows); got != want {
			return fmt.Errorf("the target has %s, the source %s", got, want)
		}
		return nil
	})
	if mb := memory(); mb > 400 || mb < 20 {
		t.Errorf("%d MB of memory", mb)
	} else {
		t.Logf("%d MB", mb)
	}
}
