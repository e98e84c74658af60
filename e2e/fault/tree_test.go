package fault_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// copying runs one drover copy, which is everything in one process tree.
func (r *rig) copying(more ...string) {
	r.commands = [][]string{append([]string{"copy", r.source, r.target, "--name", r.name, "--data", r.data}, more...)}
}

// The same command, killed again and again at any moment: each call goes on where the last one was.
func TestTree_KilledAtRandomMomentsUnderWrites(t *testing.T) {
	t.Parallel()
	r := newRig(t, "random", "")
	r.copying("--follow")
	r.write()
	const kills = 8
	for range kills {
		r.alive()
		time.Sleep(time.Duration(100+rand.IntN(1900)) * time.Millisecond)
		r.processes[0].Kill()
	}
	r.await("streaming")
	r.processes[0].Kill()
	r.await("streaming")
	r.flowing()
	r.stopWriting()
	r.equal()
	r.remove()
	if r.deaths != kills+1 {
		t.Errorf("it died %d times, and was killed %d times", r.deaths, kills+1)
	}
}

// A copy without --follow, killed wherever it can be: the same command ends it, and nothing is left behind.
func TestTree_ACopyKilledEverywhereIsEndedByTheSameCommand(t *testing.T) {
	t.Parallel()
	points := []string{"coordinator.before-grant", "coordinator.after-grant", "coordinator.after-finish", "coordinator.before-loaded",
		"coordinator.after-loaded", "coordinator.before-forget", "snapshot.after-export", "read.after-copy", "write.before-commit",
		"write.after-commit", "load.after-write", "schema.after-commit", "tokens.before-drop", "tokens.after-drop"}
	r := newRig(t, "once", strings.Join(points, "=kill,")+"=kill")
	args := []string{"copy", r.source, r.target, "--name", r.name, "--data", r.data}
	for n := 0; ; n++ {
		res := harness.Start(t, harness.Command{Args: args, Env: r.env}).Wait()
		if res.Code == 0 {
			break
		}
		if n == len(points) {
			t.Fatalf("call %d: %s", n, res)
		}
	}
	r.fired(points...)
	harness.RequireEqual(t, r.source, r.target, harness.CompareOptions{})
	if n := r.number(r.target, "SELECT count(*) FROM pg_namespace WHERE nspname = 'drover'"); n != 0 {
		t.Error("the schema drover stayed at the target")
	}
}

// What the target has is not read again after a kill: the source counts the rows it hands out.
func TestTree_FinishedChunksAreNotReadAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, "again", "")
	dev.MustExec(t, r.source, "DROP TABLE w, h; INSERT INTO a SELECT i, repeat('w', 250), i FROM generate_series(15001, 60000) i", "VACUUM ANALYZE a")
	r.env = []string{"DROVER_FAULT=read.after-copy=sleep:3s"} // loads end in waves, far enough apart to kill between two
	r.tree()
	r.apply("load: {chunk: {target: 32KiB}}\nverify: {after_load: none}\n") // a comparison would read every row once more
	const finished = "SELECT coalesce(sum(rows), 0) FROM drover.chunk WHERE written"
	r.eventually(60*time.Second, func() error {
		n, err := dev.Query(t.Context(), r.target, finished)
		if err == nil && n == "0" {
			err = fmt.Errorf("no chunk is finished")
		}
		return err
	})
	r.killed()
	epochs := "SELECT string_agg(chunk || ':' || epoch, ' ' ORDER BY chunk) FROM drover.chunk WHERE written AND epoch <= "
	last := dev.MustQuery(t, r.target, "SELECT max(epoch) FROM drover.chunk WHERE written")
	done, before, ledger := r.number(r.target, finished), r.handedOut(), dev.MustQuery(t, r.target, epochs+last)
	if done == 0 || done == 60000 {
		t.Fatalf("killed with %d rows finished: there is nothing to see", done)
	}
	r.env = nil
	r.await("streaming")
	r.killed()
	if again := r.handedOut() - before; again != 60000-done {
		t.Errorf("of 60000 rows %d were finished, and %d were read after the kill", done, again)
	}
	if now := dev.MustQuery(t, r.target, epochs+last); now != ledger {
		t.Errorf("finished chunks were written again:\n%s\n%s", ledger, now)
	}
	r.equal()
}

// killed kills the tree and waits until its sessions at the source have ended: a session reports its counts then.
func (r *rig) killed() {
	r.t.Helper()
	r.processes[0].Kill()
	harness.Eventually(r.t, 30*time.Second, func() error {
		n, err := dev.Query(r.t.Context(), r.source, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		if err == nil && n != "0" {
			err = fmt.Errorf("%s sessions are left", n)
		}
		return err
	})
}

// handedOut is how many rows of table a the source has read for anybody.
func (r *rig) handedOut() int64 {
	r.t.Helper()
	return r.number(r.source, "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'a'")
}

func (r *rig) number(url, sql string) int64 {
	r.t.Helper()
	n, err := strconv.ParseInt(dev.MustQuery(r.t, url, sql), 10, 64)
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}
