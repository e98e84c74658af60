package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// superuserSQL is a table and what only a superuser could add to it.
const superuserSQL = `CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY, v text); CREATE INDEX plain ON app.t (v);
	CREATE FUNCTION app.twice(int) RETURNS int LANGUAGE internal IMMUTABLE AS 'int4abs'; COMMENT ON FUNCTION app.twice(int) IS 'c'; CREATE VIEW app.v AS SELECT app.twice(id) FROM app.t;
	CREATE OPERATOR CLASS app.down FOR TYPE int USING btree AS OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 btint4cmp(int, int);
	CREATE INDEX classy ON app.t (id app.down); COMMENT ON INDEX app.classy IS 'i';
	CREATE LANGUAGE ourpl HANDLER plpgsql_call_handler; CREATE FUNCTION app.f() RETURNS trigger LANGUAGE ourpl AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER tr BEFORE INSERT ON app.t FOR EACH ROW EXECUTE FUNCTION app.f();
	CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; CREATE FOREIGN TABLE app.far (a text) SERVER files OPTIONS (filename '/dev/null');
	CREATE FUNCTION app.et() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER et ON sql_drop EXECUTE FUNCTION app.et(); CREATE PUBLICATION pub FOR ALL TABLES;
	CREATE FUNCTION app.tight(int) RETURNS int LANGUAGE sql LEAKPROOF AS 'SELECT 1';
	DO $x$ BEGIN EXECUTE format('ALTER DATABASE %1$I SET work_mem = ''5MB''; COMMENT ON DATABASE %1$I IS ''db''', current_database()); END $x$;
	INSERT INTO app.t VALUES (1, 'x'); SET allow_system_table_mods = on; INSERT INTO pg_seclabel VALUES ('app.t'::regclass, 'pg_class'::regclass, 0, 'nobody', 'label')`

// weakTarget is an empty database and a role that may make tables in it, and little more.
func weakTarget(t *testing.T) (url, role string) {
	t.Helper()
	dst := dev.TargetDatabase(t)
	name := dev.MustQuery(t, dst, "SELECT current_database()")
	role = "weak_" + name
	newRole(t, dst, role)
	t.Cleanup(func() {
		if err := dev.Exec(context.Background(), dst, "DROP OWNED BY "+role+" CASCADE; DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	dev.MustExec(t, dst, "GRANT CREATE ON DATABASE "+name+" TO "+role+"; GRANT SET ON PARAMETER session_replication_role TO "+role)
	return asRole(t, dst, role), role
}

// What only a superuser may make costs a warning with its SQL, and so does what needs it; tables and the rest are there.
func TestSchema_WhatOnlyASuperuserMayMakeIsSpared(t *testing.T) {
	src := dev.Database(t)
	dev.MustExec(t, src, superuserSQL)
	all := found(t, src, nil)
	dst, _ := weakTarget(t)
	doctor := checked(t, NewSink(), dst, &connectorv1.CheckRequest{Tables: all.Tables, Steps: all.Steps})
	wants(t, doctor, map[string]string{
		"W4004 C function app.twice(integer)": "CREATE OR REPLACE FUNCTION app.twice", "W4004 operator class app.down USING btree": `CREATE SCHEMA IF NOT EXISTS "app"`,
		"W4004 language ourpl": "as a superuser", "W4004 extension file_fdw": "as a superuser", "W4004 event trigger et": "ON sql_drop", "W4004 publication pub": "FOR ALL TABLES",
	})
	for key := range doctor {
		if !strings.HasPrefix(key, "W") {
			t.Errorf("it would stop the copy: %s", key)
		}
	}
	_, problems := applied(t, dst, all.Steps, 2)
	seen := map[string]string{}
	for _, p := range problems {
		seen[p.Object] = p.Reason
		if !p.Warning || p.Code != diag.NotCarried.ID || !strings.Contains(p.Fix[0], ";") {
			t.Errorf("%s %s: %s %v", p.Code, p.Object, p.Reason, p.Fix)
		}
	}
	for _, want := range []string{"C function app.twice(integer)", "view app.v", "operator class app.down USING btree", "index app.classy", "comment app.classy", "language ourpl", "function app.f()",
		"trigger app.t.tr", "extension file_fdw", "foreign server files", "foreign table app.far", "event trigger et", "publication pub", "function app.tight(integer)", "setting database: work_mem",
		"comment database", "security label app.t for nobody"} {
		if seen[want] == "" {
			t.Errorf("%s is neither there nor named; named: %v", want, seen)
		}
	}
	if got := dev.MustQuery(t, dst, "SELECT count(*), to_regclass('app.plain'), to_regclass('app.classy'), to_regproc('app.et') FROM app.t"); got != "0\tapp.plain\t\\N\tapp.et" {
		t.Errorf("the rest is not there: %s", got)
	}
}

// A superuser did what the doctor said: the role finds it and goes on.
func TestSchema_WhatASuperuserMadeBeforeIsAccepted(t *testing.T) {
	src := dev.Database(t)
	dev.MustExec(t, src, superuserSQL+`; CREATE TYPE app.odd; CREATE FUNCTION app.odd_in(cstring) RETURNS app.odd LANGUAGE internal IMMUTABLE STRICT AS 'textin';
		CREATE FUNCTION app.odd_out(app.odd) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout'; CREATE TYPE app.odd (INPUT = app.odd_in, OUTPUT = app.odd_out); CREATE TABLE app.odds (o app.odd)`)
	all := found(t, src, nil)
	dst, role := weakTarget(t)
	req := &connectorv1.CheckRequest{Tables: all.Tables, Steps: all.Steps}
	doctor := checked(t, NewSink(), dst, req)
	wants(t, doctor, map[string]string{"E5003 base type app.odd": "CREATE TYPE", "E5003 C function app.odd_in(cstring)": "CREATE OR REPLACE FUNCTION"})
	_, problems := applied(t, dst, all.Steps, 2)
	stops := map[string]string{}
	for _, p := range problems {
		if !p.Warning {
			stops[p.Object] = p.Code
		}
	}
	if stops["shell type app.odd"] != diag.TargetRights.ID || stops["table app.odds"] != diag.StepFailed.ID {
		t.Errorf("what a table needs is spared: %v", stops)
	}
	super := asRole(t, dst, "postgres")
	for _, st := range all.Steps { // in their order, as somebody would who follows the doctor
		fix := doctor["E5003 "+st.Kind+" "+st.Object] + doctor["W4004 "+st.Kind+" "+st.Object]
		if fix != "" {
			dev.MustExec(t, super, fix)
		}
	}
	dev.MustExec(t, super, "GRANT USAGE ON FOREIGN DATA WRAPPER file_fdw TO "+role)
	for _, code := range []string{"E5003", "E4008"} {
		for key := range checked(t, NewSink(), dst, req) {
			if strings.HasPrefix(key, code) {
				t.Errorf("the doctor is not content: %s", key)
			}
		}
	}
	_, problems = applied(t, dst, all.Steps, 2)
	for _, p := range problems {
		if !p.Warning || strings.Contains(p.Object, "class") || strings.HasPrefix(p.Object, "C function") {
			t.Errorf("%s %s: %s", p.Code, p.Object, p.Reason)
		}
	}
	if got := dev.MustQuery(t, super, "SELECT to_regclass('app.classy'), to_regclass('app.odds'), to_regclass('app.v'), (SELECT srvname FROM pg_foreign_server)"); got != "app.classy\tapp.odds\tapp.v\tfiles" {
		t.Errorf("not all is there: %s", got)
	}
}

// A function whose library the target's server does not have is named, unless a table needs it.
func TestSchema_AMissingLibraryIsSparedUnlessATableNeedsIt(t *testing.T) {
	src, dst := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, src, `CREATE FUNCTION lost(cstring) RETURNS cstring LANGUAGE c IMMUTABLE AS '$libdir/seg', 'seg_in'; CREATE FUNCTION wanted(cstring) RETURNS cstring LANGUAGE c IMMUTABLE AS '$libdir/seg', 'seg_in';
		CREATE VIEW v AS SELECT lost('1'::cstring) IS NULL AS n; CREATE TABLE t (id int PRIMARY KEY, CHECK (wanted(id::text::cstring) IS NOT NULL));
		SET allow_system_table_mods = on; UPDATE pg_proc SET probin = '$libdir/nowhere' WHERE proname IN ('lost', 'wanted')`)
	_, problems := applied(t, dst, found(t, src, nil).Steps, 2)
	seen := map[string]string{}
	for _, p := range problems {
		seen[p.Code+" "+p.Object] = p.Reason
	}
	for _, want := range []string{"W4004 C function public.lost(cstring)", "W4004 view public.v", "E4007 C function public.wanted(cstring)", "E4002 table public.t"} {
		if seen[want] == "" {
			t.Errorf("%s is not told: %v", want, seen)
		}
	}
	if reason := seen["W4004 C function public.lost(cstring)"]; !strings.Contains(reason, "nowhere") {
		t.Errorf("the library is not named: %s", reason)
	}
}
