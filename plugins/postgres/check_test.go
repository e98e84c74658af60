package postgres

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// checked returns the problems of one side as "code object", mapped to the fix.
func checked(t testing.TB, c sdk.Connector, target string, req *connectorv1.CheckRequest) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, p := range checks(t, c, target, req) {
		out[p.Code+" "+p.Object] = strings.Join(p.Fix, "\n")
	}
	return out
}

// checks returns the problems of one side.
func checks(t testing.TB, c sdk.Connector, target string, req *connectorv1.CheckRequest) []*connectorv1.Problem {
	t.Helper()
	if _, err := c.Open(t.Context(), &connectorv1.OpenRequest{Url: target, Pipeline: "p"}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	req.Pipeline = "p"
	resp, err := c.Check(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range resp.Problems {
		if p.Reason == "" || len(p.Fix) == 0 || p.Side == "" || p.Warning != strings.HasPrefix(p.Code, "W") {
			t.Errorf("a finding lacks a part: %v", p)
		}
	}
	if int(resp.Checks) < len(resp.Problems) {
		t.Errorf("%d checks for %d problems", resp.Checks, len(resp.Problems))
	}
	return resp.Problems
}

// asRole changes the user of a URL.
func asRole(t testing.TB, db, role string) string {
	t.Helper()
	u, err := url.Parse(db)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	return u.String()
}

// newRole makes a role without any right, dropped with what it got when the test ends.
func newRole(t testing.TB, db, name string) {
	t.Helper()
	dev.MustExec(t, db, "DROP ROLE IF EXISTS "+name, "CREATE ROLE "+name+" LOGIN")
}

func wants(t testing.TB, got map[string]string, want map[string]string) {
	t.Helper()
	for key, fix := range want {
		if have, ok := got[key]; !ok || !strings.Contains(have, fix) {
			t.Errorf("%s with fix %q is missing; have %q of %v", key, fix, have, got)
		}
	}
}

func TestCheckSource_FindsNothingInAGoodOne(t *testing.T) {
	db := dev.Database(t)
	dev.MustExec(t, db, "CREATE TABLE good (id int PRIMARY KEY)")
	if got := checked(t, NewSource(), db, &connectorv1.CheckRequest{Follow: true}); len(got) > 0 {
		t.Errorf("problems: %v", got)
	}
}

func TestCheckSource_TellsAllProblemsAtOnce(t *testing.T) {
	s := dev.Postgres(t, "wal_level=replica", "max_replication_slots=1", "max_wal_senders=1", "max_slot_wal_keep_size=1GB")
	db := s.URL("postgres")
	dev.MustExec(t, db, `SELECT pg_create_physical_replication_slot('taken'); CREATE ROLE poor LOGIN; CREATE SCHEMA shut; REVOKE CREATE ON DATABASE postgres FROM PUBLIC;
		CREATE TABLE nokey (a int); CREATE UNLOGGED TABLE ul (a int PRIMARY KEY); CREATE TABLE rls (a int PRIMARY KEY); GRANT SELECT ON rls TO poor;
		ALTER TABLE rls ENABLE ROW LEVEL SECURITY; CREATE TABLE shut.t (a int PRIMARY KEY); CREATE TABLE fullrow (a int); ALTER TABLE fullrow REPLICA IDENTITY FULL;
		CREATE TABLE uniq (a int NOT NULL UNIQUE)`)
	got := checked(t, NewSource(), asRole(t, db, "poor"), &connectorv1.CheckRequest{Follow: true, Include: []string{"*.*", "typo.*"}})
	wants(t, got, map[string]string{
		"E3001 wal_level": "ALTER SYSTEM SET wal_level", "E3002 role poor": `ALTER ROLE "poor" REPLICATION`,
		"E3003 max_replication_slots": "max_replication_slots = 5", "W3012 max_slot_wal_keep_size": "= -1",
		"E3009 database postgres": `GRANT CREATE ON DATABASE "postgres" TO "poor"`, "E3006 table public.nokey": `"public"."nokey" REPLICA IDENTITY FULL`,
		"E3006 table public.uniq": "REPLICA IDENTITY FULL", "W3010 table public.ul": "SET LOGGED", "E3007 table public.rls": "BYPASSRLS",
		"E2004 table shut.t": `GRANT USAGE ON SCHEMA "shut"`, "W4005 table public.fullrow": "PRIMARY KEY", "E3009 table public.rls": `GRANT "postgres" TO "poor"`,
		"E4003 tables › typo.*": "",
	})
	// Without following, the log does not matter.
	for key := range checked(t, NewSource(), db, &connectorv1.CheckRequest{}) {
		t.Errorf("a plain copy is warned of %s", key)
	}
}

func TestCheckSink_TellsAllProblemsAtOnce(t *testing.T) {
	src, dst := dev.Database(t), dev.TargetDatabase(t)
	name := dev.MustQuery(t, dst, "SELECT current_database()")
	role := "sink_" + name
	newRole(t, dst, role)
	defer dev.MustExec(t, dst, "DROP OWNED BY "+role+"; DROP ROLE "+role)
	dev.MustExec(t, src, `CREATE SCHEMA app; CREATE TABLE app.new (a int PRIMARY KEY); CREATE TABLE app.held (a int PRIMARY KEY); CREATE TABLE app.full_ (a int PRIMARY KEY);
		CREATE TABLE app.vw (a int PRIMARY KEY)`)
	dev.MustExec(t, dst, fmt.Sprintf(`CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO %[1]s; REVOKE CREATE ON DATABASE %[2]s FROM PUBLIC; CREATE TABLE app.held (a int);
		CREATE TABLE app.full_ (a int); GRANT ALL ON app.full_ TO %[1]s; INSERT INTO app.full_ VALUES (1); CREATE VIEW app.vw AS SELECT 1 AS a; GRANT ALL ON app.vw TO %[1]s`, role, name))
	tables := found(t, src, nil).Tables
	got := checked(t, NewSink(), asRole(t, dst, role), &connectorv1.CheckRequest{Tables: tables})
	wants(t, got, map[string]string{
		"E5003 database " + name: "GRANT CREATE ON DATABASE",
		"E5008 role " + role:     letSilence(dev.Major(t, dst), role), "E5003 schema app": `GRANT CREATE, USAGE ON SCHEMA "app"`,
		"E5003 table app.held": "GRANT ALL", "E5001 table app.full_": `TRUNCATE "app"."full_"`, "E4007 table app.vw": "DROP",
	})
	dev.MustExec(t, dst, "SET default_transaction_read_only = off; SET transaction_read_only = off; "+bookkeepingDDL+`; INSERT INTO drover.pipeline (name, version, memo) VALUES ('p', 1, 'own'), ('other', 1, 'memo'), ('new', 1, NULL)`)
	neighbours := func(url string) (names []string) {
		s := &Sink{cfg: Config{URL: url}}
		r, err := s.Check(t.Context(), &connectorv1.CheckRequest{Pipeline: "p", Tables: tables})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range r.Neighbours {
			names = append(names, n.Pipeline+"="+string(n.Memo))
		}
		return names
	}
	if got := neighbours(dst); len(got) != 1 || got[0] != "other=memo" {
		t.Errorf("other pipelines here are %v", got)
	}
	if got := neighbours(asRole(t, dst, role)); len(got) > 0 {
		t.Errorf("a role that may not look sees %v", got)
	}
	again := checked(t, NewSink(), asRole(t, dst, role), &connectorv1.CheckRequest{Tables: tables, Resuming: true})
	if _, there := again[diag.NotEmpty.ID+" table app.full_"]; there {
		t.Error("a resumed pipeline's own rows are called a problem")
	}
}

// The statements that are offered empty the pipeline's tables, in the order in which they stand, and reach no other.
func TestCheckSink_OffersToEmptyOnlyItsOwnTables(t *testing.T) {
	src, dst := dev.Database(t), dev.TargetDatabase(t)
	const schema = `CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY REFERENCES parent); CREATE TABLE "Shared" (id int PRIMARY KEY);
		CREATE TABLE leaf (id int PRIMARY KEY REFERENCES "Shared"); CREATE TABLE owned (id int PRIMARY KEY); CREATE TABLE vacant (id int PRIMARY KEY REFERENCES parent);
		CREATE TABLE ranges (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE ranges_1 PARTITION OF ranges FOR VALUES FROM (0) TO (10);
		CREATE TABLE ranger (id int PRIMARY KEY REFERENCES ranges);`
	dev.MustExec(t, src, schema)
	dev.MustExec(t, dst, schema+`CREATE TABLE alien (id int PRIMARY KEY REFERENCES leaf); CREATE TABLE heir () INHERITS (parent);
		CREATE TABLE other (id int REFERENCES owned ON DELETE CASCADE);
		INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1); INSERT INTO heir VALUES (7); INSERT INTO "Shared" VALUES (1), (2); INSERT INTO leaf VALUES (2);
		INSERT INTO owned VALUES (1); INSERT INTO other VALUES (1); INSERT INTO ranges VALUES (1); INSERT INTO ranger VALUES (1)`)
	c := NewSink()
	if _, err := c.Open(t.Context(), &connectorv1.OpenRequest{Url: dst, Pipeline: "p"}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := c.Check(t.Context(), &connectorv1.CheckRequest{Pipeline: "p", Tables: found(t, src, nil).Tables})
	if err != nil {
		t.Fatal(err)
	}
	const together = "-- emptied by the statement for table public.child"
	var got []string
	for _, p := range r.Problems {
		got = append(got, p.Object+": "+p.Reason+"\n  "+p.Fix[0])
	}
	want := []string{
		"table public.child: it holds rows\n  " + `TRUNCATE "public"."child", ONLY "public"."parent", "public"."vacant", "public"."ranger", "public"."ranges_1";`,
		"table public.parent: it holds rows\n  " + together, "table public.ranger: it holds rows\n  " + together, "table public.ranges_1: it holds rows\n  " + together,
		"table public.leaf: it holds rows, and public.alien, which is not part of this pipeline, refers to public.leaf\n  " +
			`DELETE FROM "public"."leaf";  -- refused while rows of public.alien refer to it`,
		"table public.owned: it holds rows, and public.other, which is not part of this pipeline, refers to public.owned\n  " +
			`-- decide about the rows of public.other first: ON DELETE CASCADE would change them with DELETE FROM "public"."owned";`,
		"table public.Shared: it holds rows, and public.alien, which is not part of this pipeline, refers to public.leaf\n  " +
			`DELETE FROM "public"."Shared";  -- refused while rows of public.alien refer to it`,
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
	for _, p := range r.Problems { // as a script, from the first line to the last
		dev.MustExec(t, dst, p.Fix...)
	}
	if n := dev.MustQuery(t, dst, `SELECT (SELECT count(*) FROM ONLY parent) + (SELECT count(*) FROM child) + (SELECT count(*) FROM ranges) + (SELECT count(*) FROM "Shared"),
		(SELECT count(*) FROM heir), (SELECT count(*) FROM other), (SELECT count(*) FROM owned)`); strings.TrimSpace(n) != "0\t1\t1\t1" {
		t.Errorf("rows of ours, of heirs and of strangers after the fixes: %q", n)
	}
}

func TestCheckSink_FindsNothingInAnEmptyOneNorInAnEqualOne(t *testing.T) {
	src, empty, equal := dev.Database(t), dev.TargetDatabase(t), dev.TargetDatabase(t)
	const schema = `CREATE EXTENSION hstore; CREATE TABLE t (id int PRIMARY KEY, h hstore); CREATE VIEW v AS SELECT * FROM t; CREATE SEQUENCE q; CREATE DOMAIN d AS int CHECK (VALUE > 1);
		CREATE TYPE pair AS (a int, b d); CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TRIGGER tr BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
		CREATE TABLE u (t int REFERENCES t)`
	dev.MustExec(t, src, schema)
	dev.MustExec(t, equal, schema)
	all := found(t, src, nil)
	for _, dst := range []string{empty, equal} {
		got := checked(t, NewSink(), dst, &connectorv1.CheckRequest{Tables: all.Tables, Steps: all.Steps, SourceVersion: strconv.Itoa(dev.Major(t, src)) + ".1"})
		if dev.Major(t, dst) < dev.Major(t, src) {
			wants(t, got, map[string]string{"W4009 server": "newer"})
			delete(got, "W4009 server")
		}
		if len(got) > 0 {
			t.Errorf("problems: %v", got)
		}
		if _, problems := applied(t, dst, all.Steps, 2); len(problems) > 0 {
			t.Errorf("it cannot be applied: %v", problems)
		}
	}
	dev.MustExec(t, empty, "DROP VIEW v; CREATE VIEW v AS SELECT 1 AS one; ALTER SEQUENCE q INCREMENT 2; CREATE OR REPLACE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 2'")
	got := checked(t, NewSink(), empty, &connectorv1.CheckRequest{Tables: all.Tables, Steps: all.Steps})
	wants(t, got, map[string]string{"E4008 view public.v": "rename", "E4008 sequence public.q": "rename", "E4008 function public.f(integer)": "rename"})
	if len(got) != 3 {
		t.Errorf("problems: %v", got)
	}
}

func TestCheckSink_EncodingAndMissingExtension(t *testing.T) {
	src := dev.Database(t)
	s := dev.Shared(t)
	name := "latin_" + dev.MustQuery(t, src, "SELECT current_database()")
	dev.MustExec(t, src, "CREATE DATABASE "+name+" ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	steps := []*connectorv1.SchemaStep{{Id: 1, Kind: "extension", Object: "vector"}, {Id: 2, Kind: "extension", Object: "hstore"}, {Id: 3, Kind: "extension", Object: "pg_cron"},
		{Id: 4, Kind: "table", Object: "public.t", After: []uint32{1}}, {Id: 5, Kind: "function", Object: "public.f()", After: []uint32{3}}, {Id: 6, Kind: "view", Object: "public.v", After: []uint32{5}},
		{Kind: "owner", Object: "ghost", Sql: []string{"", ""}}, {Kind: "grant", Object: "ghost", Sql: []string{""}}, {Kind: "grant", Object: "PUBLIC"}}
	got := checked(t, NewSink(), s.URL(name), &connectorv1.CheckRequest{Steps: steps, SourceVersion: "99.1 (Debian)"})
	wants(t, got, map[string]string{"E4007 database " + name: "ENCODING 'UTF8'", "E4007 extension vector": "Install", "W4004 extension pg_cron": "Install",
		"W4004 role ghost": `CREATE ROLE "ghost"`, "W4009 server": "newer"})
	if len(got) != 5 {
		t.Errorf("problems: %v", got)
	}
	for encoding, refused := range map[string]bool{"LATIN1": false, "LATIN9": true, "UTF8": true, "SQL_ASCII": true} {
		got := checked(t, NewSink(), s.URL(name), &connectorv1.CheckRequest{SourceEncoding: encoding})
		if _, is := got["E4007 database "+name]; is != refused {
			t.Errorf("from %s: %v", encoding, got)
		}
	}
	dev.MustExec(t, src, "DROP DATABASE "+name+" WITH (FORCE)")
}
