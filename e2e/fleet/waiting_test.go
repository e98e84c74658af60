package fleet_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// Who holds a lock at a target behind another agent is named, while a load waits for it and while changes do.
func TestFleet_NamesWhoHoldsALockAtTheOtherAgentsTarget(t *testing.T) {
	t.Parallel()
	source, target := dev.Database(t), dev.Database(t)
	const table = "CREATE TABLE t (id int PRIMARY KEY, v text)"
	dev.MustExec(t, source, table, "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 100) i")
	dev.MustExec(t, target, table)
	conn, err := pgx.Connect(t.Context(), target+"&application_name=forgotten")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	f := harness.StartFleet(t, harness.FleetOptions{})
	blocked := func() {
		t.Helper()
		want := fmt.Sprintf("the transaction of pid %d at the target (user %s, application forgotten, open for ", conn.PgConn().PID(), conn.Config().User)
		harness.Eventually(t, 30*time.Second, func() error {
			r := f.Run(t, "status", "locked", "-o", "json")
			var s struct{ Health, Waiting string }
			if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil || !strings.Contains(s.Waiting, want) || strings.Contains(s.Waiting, "business") {
				return fmt.Errorf("%v, want %q: %s", err, want, r)
			}
			return nil
		})
	}
	exec("BEGIN; LOCK TABLE t IN EXCLUSIVE MODE /* nobody's business */")
	f.Apply(t, "locked", source, target, heartbeat, "schema: {create: false}")
	blocked()
	exec("COMMIT")
	f.Await(t, "locked", "phase=streaming")
	exec("BEGIN; LOCK TABLE t IN EXCLUSIVE MODE /* nobody's business */")
	dev.MustExec(t, source, "UPDATE t SET v = 'w'")
	blocked()
	exec("COMMIT")
	harness.RequireRowsEqual(t, source, target)
	if r := f.Run(t, "delete", "locked", "--yes", "--confirm", "locked"); r.Code != 0 {
		t.Fatal(r)
	}
}
