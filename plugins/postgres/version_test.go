package postgres

import (
	"slices"
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
	wal, err := connectReplication(t.Context(), cfg, "test", "UTF8")
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

func TestForMajor_SaysTheSameInOlderWords(t *testing.T) {
	step := &connectorv1.SchemaStep{Kind: "table", Sql: []string{
		`CREATE TABLE "s"."heir" (CONSTRAINT "a, ""b""" NOT NULL "a", "d" integer NOT NULL, CONSTRAINT "last" NOT NULL "z") INHERITS ("s"."p")`,
		`ALTER SEQUENCE "s"."q" SET LOGGED`, `ALTER TABLE ONLY "s"."heir" ALTER COLUMN "a" SET NOT NULL`}}
	bare := &connectorv1.SchemaStep{Kind: "table", Sql: []string{`CREATE TABLE "s"."heir" (CONSTRAINT "x" NOT NULL "a") INHERITS ("s"."p")`}}
	const plain = `CREATE TABLE "s"."heir" ("d" integer NOT NULL) INHERITS ("s"."p")`
	for major, want := range map[int][]string{
		18: step.Sql,
		17: {plain, step.Sql[1], step.Sql[2]},
		14: {plain, step.Sql[2]},
	} {
		before := slices.Clone(step.Sql)
		got := forMajor(major, []*connectorv1.SchemaStep{step, bare})
		if !slices.Equal(got[0].Sql, want) {
			t.Errorf("for %d: %q", major, got[0].Sql)
		}
		if major < 18 && got[1].Sql[0] != `CREATE TABLE "s"."heir" () INHERITS ("s"."p")` {
			t.Errorf("for %d: %q", major, got[1].Sql)
		}
		if !slices.Equal(step.Sql, before) {
			t.Fatal("the steps themselves were changed")
		}
	}
}

func TestBeyond_TellsWhatAVersionHasNoWordsFor(t *testing.T) {
	for _, c := range []struct {
		kind, sql string
		major     int
		want      string
	}{
		{"table", `CREATE TABLE "t" ("a" integer GENERATED ALWAYS AS ((b * 2)) VIRTUAL)`, 17, "virtual generated columns exist since PostgreSQL 18, and the target is 17"},
		{"table", `CREATE TABLE "t" ("a" integer GENERATED ALWAYS AS ((b * 2)) VIRTUAL)`, 18, ""},
		{"table", `CREATE TABLE "t" ("x) VIRTUAL" text DEFAULT ') VIRTUAL')`, 15, ""},
		{"primary key", `ALTER TABLE ONLY "t" ADD CONSTRAINT "k" PRIMARY KEY (room, during WITHOUT OVERLAPS)`, 16, "keys WITHOUT OVERLAPS exist since PostgreSQL 18, and the target is 16"},
		{"function", `CREATE FUNCTION f() AS 'SELECT JSON_QUERY(x)'`, 15, ""},
		{"publication", `CREATE PUBLICATION p FOR TABLE ONLY public.a, ONLY public.b WITH (publish = 'insert')`, 14, ""},
		{"publication", `CREATE PUBLICATION p FOR TABLE ONLY public.a (x) WITH (publish = 'insert')`, 14, "publications of columns, rows or schemas exist since PostgreSQL 15, and the target is 14"},
	} {
		if got := beyond(&connectorv1.SchemaStep{Kind: c.kind, Sql: []string{c.sql}}, c.major); got != c.want {
			t.Errorf("%s for %d: %q, want %q", c.sql, c.major, got, c.want)
		}
	}
}
