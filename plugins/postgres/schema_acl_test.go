package postgres

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
)

// Default privileges of the target act on what Drover makes there; in the end everything has the source's privileges all the same. What
// was there before keeps its own.
func TestSchema_DefaultPrivilegesOfTheTargetDoNotStick(t *testing.T) {
	src, dst := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, src, `CREATE SCHEMA s; CREATE TABLE s.t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n serial, v text); CREATE VIEW s.v AS SELECT id FROM s.t; CREATE MATERIALIZED VIEW s.m AS SELECT id FROM s.t;
		CREATE SEQUENCE s.q; CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE PROCEDURE s.p() LANGUAGE sql AS 'SELECT 1'; CREATE AGGREGATE s.a(int) (SFUNC = int4pl, STYPE = int);
		CREATE TYPE s.e AS ENUM ('x'); CREATE DOMAIN s.d AS int; CREATE TYPE s.c AS (n int); CREATE TYPE s.r AS RANGE (SUBTYPE = int); CREATE EXTENSION pg_stat_statements;
		CREATE TABLE s.parts (n int) PARTITION BY LIST (n); CREATE TABLE s.part PARTITION OF s.parts DEFAULT; CREATE TABLE there (id int); CREATE FUNCTION there() RETURNS int LANGUAGE sql AS 'SELECT 1';
		GRANT SELECT ON s.t TO pg_monitor; GRANT INSERT (v) ON s.t TO PUBLIC; REVOKE EXECUTE ON PROCEDURE s.p() FROM PUBLIC; REVOKE INSERT ON s.parts FROM CURRENT_USER; ALTER VIEW s.v OWNER TO pg_monitor`)
	dev.MustExec(t, dst, `CREATE TABLE there (id int); CREATE FUNCTION there() RETURNS int LANGUAGE sql AS 'SELECT 1'; GRANT UPDATE ON there TO pg_monitor; CREATE SCHEMA s; GRANT CREATE ON SCHEMA s TO pg_monitor;
		ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC; ALTER DEFAULT PRIVILEGES REVOKE DELETE ON TABLES FROM CURRENT_USER; ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
		ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO pg_monitor WITH GRANT OPTION; ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC; ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC;
		ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT TRIGGER ON TABLES TO pg_signal_backend`)
	for range 2 { // the second time everything is there, and changes nothing
		if _, problems := applied(t, dst, found(t, src, nil).Steps, 2); len(problems) > 0 {
			t.Fatal(problems)
		}
	}
	theirs := []string{"+ GRANT UPDATE ON TABLE public.there TO pg_monitor", "+ GRANT CREATE ON SCHEMA s TO pg_monitor"}
	var seen []string
	for _, d := range differences(dumped(t, src), dumped(t, dst)) {
		switch {
		case slices.Contains(theirs, d):
			seen = append(seen, d)
		case !strings.HasPrefix(d, "+ ALTER DEFAULT PRIVILEGES "):
			t.Error(d)
		}
	}
	if len(seen) != len(theirs) {
		t.Errorf("of what was there before only %v is left", seen)
	}
}

// Who may not be another role gives the right in his own name, and the statement that would give it in the other's is told.
func TestSchema_AGrantorThatNobodyMayBeIsNamed(t *testing.T) {
	src := dev.Database(t)
	s := dev.TargetPostgres(t)
	dev.MustExec(t, src, `CREATE TABLE t (id int); GRANT SELECT ON t TO pg_read_all_stats WITH GRANT OPTION; SET ROLE pg_read_all_stats; GRANT SELECT ON t TO pg_signal_backend`)
	dev.MustExec(t, s.URL("postgres"), "CREATE ROLE weak LOGIN", letSilence(dev.Major(t, s.URL("postgres")), "weak"), "CREATE DATABASE d OWNER weak")
	u, err := url.Parse(s.URL("d"))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User("weak")
	_, problems := applied(t, u.String(), found(t, src, nil).Steps, 1)
	var named bool
	for _, p := range problems {
		named = named || p.Object == "grant pg_signal_backend" && p.Warning && p.Fix[0] == `SET ROLE "pg_read_all_stats"; GRANT SELECT ON TABLE public.t TO "pg_signal_backend"; RESET ROLE;`
	}
	if !named {
		t.Errorf("problems: %v", problems)
	}
	if got := dev.MustQuery(t, s.URL("d"), "SELECT has_table_privilege('pg_signal_backend', 't', 'SELECT')"); got != "t" {
		t.Error("the right is not there")
	}
}
