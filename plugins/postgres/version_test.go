package postgres

import (
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

func TestMajorIn_ReadsWhatServersSay(t *testing.T) {
	for version, want := range map[string]int{"15.18 (Debian 15.18-0+deb12u1)": 15, "18beta1": 18, "9.6.24": 9, "13.23": 13, "": 0, "devel": 0} {
		if got := majorIn(version); got != want {
			t.Errorf("%q is version %d", version, got)
		}
	}
}

// deploy/dev/versions runs this with a server that is too old, too.
func TestOpen_RefusesAServerThatIsTooOld(t *testing.T) {
	url := dev.Postgres(t).URL("postgres")
	for _, c := range []sdk.Connector{NewSource(), NewSink()} {
		_, err := c.Open(t.Context(), &connectorv1.OpenRequest{Url: url, Pipeline: "p"})
		e := diag.Find(err)
		if old := dev.Major(t, url) < oldestMajor; old != (e != nil && e.Code.ID == diag.TooOld.ID) || !old && err != nil {
			t.Errorf("a server of version %d: %v", dev.Major(t, url), err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Sessions wait for each other, for chunks and for the stream: a server's limits must not end them.
func TestConnect_IsFreeOfTheServersTimeLimits(t *testing.T) {
	limits := []string{"idle_in_transaction_session_timeout=1s", "statement_timeout=1s"}
	switch major := dev.Major(t, dev.Database(t)); {
	case major >= 17:
		limits = append(limits, "transaction_timeout=1s", "idle_session_timeout=1s")
	case major >= 14:
		limits = append(limits, "idle_session_timeout=1s")
	}
	cfg := Config{URL: dev.Postgres(t, limits...).URL("postgres")}
	conn, err := connect(t.Context(), cfg, "test", connectorv1.Role_ROLE_SOURCE)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	wal, err := connectReplication(t.Context(), cfg, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer wal.Close(t.Context())
	time.Sleep(1500 * time.Millisecond) // idle
	if _, err := wal.Exec(t.Context(), "IDENTIFY_SYSTEM").ReadAll(); err != nil {
		t.Errorf("an idle walsender: %v", err)
	}
	for _, sql := range []string{"SELECT 1", "BEGIN", "SELECT pg_sleep(1.5)", "COMMIT"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}
