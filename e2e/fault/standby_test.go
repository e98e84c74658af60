package fault_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
)

const waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"

// hang commits a transaction that waits for a standby nobody has: it is in the log, and no snapshot sees it.
func (r *rig) hang(sql string) {
	r.t.Helper()
	ended := make(chan error, 1)
	ctx := r.t.Context()
	go func() { ended <- dev.Exec(ctx, r.source, "SET synchronous_commit = on; BEGIN; "+sql+"; COMMIT") }()
	r.t.Cleanup(func() { <-ended }) // its session ends with the test's context at the latest
	r.eventually(20*time.Second, func() error {
		n, err := dev.Query(ctx, r.source, waiting)
		if err == nil && n == "0" {
			err = fmt.Errorf("no commit waits for the standby")
		}
		return err
	})
}

// release makes the hanging commit visible, as a standby that comes back would.
func (r *rig) release() {
	r.t.Helper()
	dev.MustExec(r.t, r.source, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
}

// loaded is how many chunks the target has.
func (r *rig) loaded() string {
	r.t.Helper()
	return dev.MustQuery(r.t, r.target, "SELECT count(*) FROM drover.chunk WHERE written")
}

// A commit is received before it is visible; chunks are read meanwhile, and everything is killed once. Its changes are
// in no snapshot, and the gate drops them for chunks without a floor: they must be neither lost nor doubled.
func TestStandby_ACommitThatNobodySeesIsNotLost(t *testing.T) {
	t.Parallel()
	src := dev.Postgres(t, "synchronous_standby_names=nobody", "synchronous_commit=local")
	r := newRigOn(t, src.URL("postgres"), dev.Database(t), "standby", "")
	// The commit comes after the slot and before the first floor.
	r.env = []string{"DROVER_FAULT=slot.after-create=sleep:1s,gate.before-reserve=sleep:1s@1"}
	r.tree()
	r.write()
	r.apply("")
	r.eventually(30*time.Second, func() error {
		n, err := dev.Query(t.Context(), r.source, "SELECT count(*) FROM pg_replication_slots")
		if err == nil && n != "1" {
			err = fmt.Errorf("no slot yet")
		}
		return err
	})
	r.hang(`INSERT INTO a VALUES (-7, 'hung', 1); UPDATE a SET n = -7, v = 'hung' WHERE id = 5; DELETE FROM a WHERE id = 6;
		UPDATE a SET id = -8 WHERE id = 14000; INSERT INTO w VALUES ('hung', 1); DELETE FROM h WHERE n = 3; INSERT INTO h VALUES (-1, 'hung')`)
	for range 2 {
		r.await("load")
		time.Sleep(2 * time.Second)
		if n := r.loaded(); n != "0" {
			t.Errorf("%s chunks were read although a transaction of their floor is not visible", n)
		}
		r.eventually(20*time.Second, func() error {
			s, err := r.status()
			if err == nil && !strings.Contains(s.Waiting, "to be confirmed by a synchronous standby") {
				err = fmt.Errorf("it does not say what it waits for: %+v", s)
			}
			return err
		})
		r.processes[0].Kill() // the gate that comes next has never heard of it
	}
	r.await("load")
	r.release()
	r.await("streaming")
	r.hang("INSERT INTO a VALUES (-9, 'hung while streaming', 1)")
	r.flowing()
	r.release()
	r.stopWriting()
	r.equal()
	r.remove()
}
