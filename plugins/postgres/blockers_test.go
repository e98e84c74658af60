package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// secretSQL is what a blocker runs: nobody may read it anywhere else.
const secretSQL = "/* do not show me */ SELECT pg_current_xact_id()"

// opened is a session of somebody else, in a transaction that has an id.
func opened(t *testing.T, url string, first ...string) (conn *pgx.Conn, id uint64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url+"&application_name=nightly%20report")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hangUp(conn) })
	for _, sql := range append([]string{"BEGIN"}, first...) {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var text string
	if err := conn.QueryRow(t.Context(), secretSQL+"::text").Scan(&text); err != nil {
		t.Fatal(err)
	}
	if id, err = strconv.ParseUint(text, 10, 64); err != nil {
		t.Fatal(err)
	}
	return conn, id
}

// awaitBlocker asks until something blocks.
func awaitBlocker(t *testing.T, s sdk.Waiter, req *connectorv1.BlockersRequest) string {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		r, err := s.Blockers(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Blockers) > 0 {
			return strings.Join(r.Blockers, "; ")
		}
		if time.Now().After(end) {
			t.Fatal("nothing is in the way")
		}
	}
}

func wantBlocker(t *testing.T, got, side string, conn *pgx.Conn) {
	t.Helper()
	want := fmt.Sprintf("the transaction of pid %d at the %s (user %s, application nightly report, open for ", conn.PgConn().PID(), side, conn.Config().User)
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, " s) to end") || strings.Contains(got, "show me") {
		t.Errorf("%q, not %q", got, want)
	}
}

func TestBlockers_NameWhatASlotWaitsFor(t *testing.T) {
	r := newRig(t, sdk.LanePGValues, []*rowv1.Table{itemTable(0, "item")}, itemDDL)
	if got, err := r.src.Blockers(t.Context(), &connectorv1.BlockersRequest{}); err != nil || len(got.Blockers) > 0 {
		t.Errorf("nothing waits: %v, %v", got, err)
	}
	conn, _ := opened(t, r.url)
	done := make(chan error, 1)
	go func() {
		_, err := r.src.Prepare(t.Context(), &connectorv1.PrepareRequest{Pipeline: r.pipeline() + "_two", Tables: r.tables})
		done <- err
	}()
	wantBlocker(t, awaitBlocker(t, r.src, &connectorv1.BlockersRequest{}), "source", conn)
	if _, err := conn.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestBlockers_NameWhoHoldsALock(t *testing.T) {
	url := dev.Database(t)
	dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY)")
	conn, _ := opened(t, url, "LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
	s := openSource(t, url)
	table := describeTable(t, url, "t", rowv1.GateMode_GATE_MODE_KEYED, "id")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.OpenSnapshot(ctx, &connectorv1.OpenSnapshotRequest{Tables: []*rowv1.Table{table}}, func(*connectorv1.OpenSnapshotResponse) error { return nil })
	}()
	wantBlocker(t, awaitBlocker(t, s, &connectorv1.BlockersRequest{}), "source", conn)
	cancel()
	<-done
}

// A transaction of a floor is no lock that anybody waits for; it is known by its id.
func TestBlockers_NameWhoHasAPendingTransaction(t *testing.T) {
	url := dev.Database(t)
	conn, id := opened(t, url)
	s := openSource(t, url)
	wantBlocker(t, awaitBlocker(t, s, &connectorv1.BlockersRequest{Pending: []uint64{1<<40 | 3, id}}), "source", conn)
}

func TestBlockers_ManyAndPrepared(t *testing.T) {
	for _, c := range []struct {
		b    blocker
		want string
	}{
		{blocker{}, "a prepared transaction at the target to end (pg_prepared_xacts names it)"},
		{blocker{PID: 7, Seconds: -1}, "the transaction of pid 7 at the target to end"},
		{blocker{PID: 7, Kind: "autovacuum worker", Seconds: 3}, "the transaction of pid 7 at the target (autovacuum worker, open for 3 s) to end"},
		{blocker{PID: 7, User: "app", Seconds: -1, Standby: true}, "the transaction of pid 7 at the target (user app) to be confirmed by a synchronous standby"},
	} {
		if got := c.b.text("target"); got != c.want {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
	url := dev.Database(t)
	var ids []uint64
	for range mostBlockers + 2 {
		_, id := opened(t, url)
		ids = append(ids, id)
	}
	got := awaitBlocker(t, openSource(t, url), &connectorv1.BlockersRequest{Pending: ids})
	if strings.Count(got, "pid") != mostBlockers || !strings.HasSuffix(got, "2 more transactions at the source to end") {
		t.Error(got)
	}
}

// A prepared transaction has no session: a slot waits for it all the same.
func TestBlockers_NameAPreparedTransaction(t *testing.T) {
	url := dev.Postgres(t, "max_prepared_transactions=5").URL("postgres")
	dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY)", "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'left behind'")
	s := openSource(t, url)
	done := make(chan error, 1)
	go func() {
		_, err := s.Prepare(t.Context(), &connectorv1.PrepareRequest{Pipeline: "p", Tables: []*rowv1.Table{describeTable(t, url, "t", rowv1.GateMode_GATE_MODE_KEYED, "id")}})
		done <- err
	}()
	if got := awaitBlocker(t, s, &connectorv1.BlockersRequest{}); got != "a prepared transaction at the source to end (pg_prepared_xacts names it)" {
		t.Error(got)
	}
	dev.MustExec(t, url, "ROLLBACK PREPARED 'left behind'")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
