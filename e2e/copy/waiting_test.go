package copy_test

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

// A slot can be made only when the transactions that run have ended. Who has them open is shown, without what they run;
// once they end it goes on by itself.
func TestFollow_NamesTheTransactionThatItWaitsFor(t *testing.T) {
	source, target := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, source, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)")
	conn, err := pgx.Connect(t.Context(), source+"&application_name=forgotten")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "BEGIN; INSERT INTO t VALUES (4711) /* nobody's business */"); err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	p := harness.Start(t, harness.Command{Args: []string{"copy", source, target, "--follow", "--name", "waits", "--data", data}})
	want := fmt.Sprintf("the transaction of pid %d at the source (user %s, application forgotten, open for ", conn.PgConn().PID(), conn.Config().User)
	p.WaitForOutput(t, "health=waiting", 20*time.Second) // printed at once, not after the next interval
	harness.Eventually(t, 10*time.Second, func() error {
		r := harness.Run(t, "status", "waits", "--data", data, "-o", "json")
		var s struct{ Phase, Health, Waiting string }
		if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil || s.Health != "waiting" || !strings.HasPrefix(s.Waiting, want) {
			return fmt.Errorf("%v, want %q: %s", err, want, r)
		}
		return nil
	})
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	p.WaitForOutput(t, "phase=streaming", 30*time.Second)
	if r := harness.MustRun(t, "logs", "waits", "--data", data); !strings.Contains(r.Stdout, "waiting for "+want) {
		t.Error(r)
	}
	if !strings.Contains(p.Stderr(), "pid") || strings.Contains(p.Stderr(), "business") {
		t.Errorf("output: %s", p.Stderr())
	}
	if n := dev.MustQuery(t, target, "SELECT count(*) FROM t"); n != "101" {
		t.Errorf("%s rows", n)
	}
}
