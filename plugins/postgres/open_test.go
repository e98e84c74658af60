package postgres

import (
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

func TestOpen_IdentifiesTheServerAndRepeats(t *testing.T) {
	url := dev.Database(t)
	s := &Source{}
	req := &connectorv1.OpenRequest{Role: connectorv1.Role_ROLE_SOURCE, Url: url, Pipeline: "p"}
	first, err := s.Open(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Open(t.Context(), req)
	if err != nil || again.Identity != first.Identity {
		t.Fatalf("second open: %v, %v", again, err)
	}
	if first.ServerVersion == "" || !strings.Contains(first.Identity, "/") || strings.Contains(first.Display, "@") {
		t.Errorf("got %v", first)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestConnect_PinsTheSession(t *testing.T) {
	url := dev.Database(t)
	name := dev.MustQuery(t, url, "SELECT current_database()")
	dev.MustExec(t, url, "ALTER DATABASE "+ident(name)+" SET intervalstyle = 'sql_standard'",
		"ALTER DATABASE "+ident(name)+" SET datestyle = 'German'", "ALTER DATABASE "+ident(name)+" SET idle_in_transaction_session_timeout = '1s'")
	conn, err := connect(t.Context(), Config{URL: url, Pipeline: strings.Repeat("long", 30)}, "read", connectorv1.Role_ROLE_SINK)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var got string
	err = conn.QueryRow(t.Context(), `SELECT concat_ws('|', current_setting('intervalstyle'), current_setting('datestyle'),
		current_setting('session_replication_role'), current_setting('idle_in_transaction_session_timeout'), right(current_setting('application_name'), 5))`).Scan(&got)
	if err != nil || got != "postgres|ISO, YMD|replica|1min|/read" {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestMapError_NamesCauseAndHidesValues(t *testing.T) {
	url := dev.Database(t)
	dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (7)", "CREATE ROLE drover_plain LOGIN")
	defer dev.MustExec(t, url, "DROP ROLE drover_plain")
	conn, err := connect(t.Context(), Config{URL: url}, "test", connectorv1.Role_ROLE_UNSPECIFIED)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range []string{"INSERT INTO t VALUES (7)", "SELECT 'secret-value'::int"} {
		_, err := conn.Exec(t.Context(), sql)
		e := diag.Find(mapError(err, "target"))
		if e == nil || e.Code.ID != diag.RowRefused.ID || strings.Contains(e.Error(), "secret-value") || strings.Contains(e.Error(), "(7)") {
			t.Errorf("%s: %v", sql, e)
		}
	}
	plain := strings.Replace(url, "postgres@", "drover_plain@", 1)
	for target, want := range map[string]diag.Code{
		"postgres://x@127.0.0.1:1/db":                               diag.Unreachable,
		"postgres://x@no-such-host.invalid/db":                      diag.Unreachable,
		url[:strings.LastIndex(url, "/")] + "/nodb?sslmode=disable": diag.NoDatabase,
		"postgres://x:pa ss@:::":                                    diag.SpecInvalid,
		plain:                                                       diag.ReplicaRole,
	} {
		_, err := connect(t.Context(), Config{URL: target, Password: "hunter2"}, "test", connectorv1.Role_ROLE_SINK)
		e := diag.Find(err)
		if e == nil || e.Code.ID != want.ID || strings.Contains(e.Error(), "hunter2") || strings.Contains(e.Error(), "pa ss") {
			t.Errorf("%s: %v, want %s", want.ID, err, want.ID)
		}
	}
}
