package postgres

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"

	"github.com/droverdb/drover/deploy/dev"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

//go:embed testdata/kinds.sql
var kindsSQL string

// What newer versions can say, as far as the source's can.
//
//go:embed testdata/kinds18.sql
var newerSQL string

// ofDatabaseSQL is what pg_dump writes only for a database as a whole, and what it is not asked for here.
const ofDatabaseSQL = `
	SELECT 'setting', coalesce(r.rolname, ''), c FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) c
	WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) AND c NOT LIKE 'default_transaction_read_only%'
	UNION ALL SELECT 'database', shobj_description(oid, 'pg_database'), datacl::text FROM pg_database WHERE datname = current_database()
	UNION ALL SELECT 'publication', p.pubname, pg_get_userbyid(p.pubowner) || obj_description(p.oid, 'pg_publication') || ` + publishedTables + `
	FROM pg_publication p
	ORDER BY 1, 2, 3`

// dumpedKinds are what pg_dump's statements begin with.
var dumpedKinds = []string{
	"CREATE ACCESS METHOD", "CREATE AGGREGATE", "CREATE CAST", "CREATE COLLATION", "CREATE CONVERSION", "CREATE DOMAIN", "CREATE EVENT TRIGGER", "CREATE EXTENSION",
	"CREATE FOREIGN DATA WRAPPER", "CREATE FOREIGN TABLE", "CREATE FUNCTION", "CREATE INDEX", "CREATE MATERIALIZED VIEW", "CREATE OPERATOR", "CREATE OPERATOR CLASS",
	"CREATE OPERATOR FAMILY", "CREATE POLICY", "CREATE PROCEDURE", "CREATE RULE", "CREATE SCHEMA", "CREATE SEQUENCE", "CREATE SERVER", "CREATE STATISTICS", "CREATE TABLE",
	"CREATE TEXT SEARCH CONFIGURATION", "CREATE TEXT SEARCH DICTIONARY", "CREATE TEXT SEARCH PARSER", "CREATE TEXT SEARCH TEMPLATE", "CREATE TRANSFORM", "CREATE TRIGGER",
	"CREATE TRUSTED PROCEDURAL LANGUAGE", "CREATE TYPE", "CREATE UNLOGGED SEQUENCE", "CREATE UNLOGGED TABLE", "CREATE USER MAPPING", "CREATE VIEW", "ALTER DEFAULT PRIVILEGES",
	"ALTER DOMAIN", "ALTER FOREIGN TABLE", "ALTER OPERATOR FAMILY", "ALTER SEQUENCE", "ALTER STATISTICS", "COMMENT ON", "GRANT", "REVOKE",
}

// One of every kind that pg_dump writes: what differs afterwards was listed by name, and no secret was read.
func TestSchema_EveryKindArrivesEqual(t *testing.T) {
	src, dst := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, src, dev.ForVersion(t, src, kindsSQL))
	statements := dumped(t, src)
	for _, kind := range dumpedKinds {
		if kind == "CREATE UNLOGGED SEQUENCE" && dev.Major(t, src) < 15 {
			continue
		}
		if !slices.ContainsFunc(statements, func(s string) bool { return strings.HasPrefix(s, kind+" ") }) {
			t.Errorf("the source holds no %s", kind)
		}
	}
	all := found(t, src, nil)
	if text := prototext.Format(all); strings.Contains(text, "hush") {
		t.Error("a secret is in the catalog")
	}
	_, problems := applied(t, dst, all.Steps, 2)
	for _, p := range problems {
		t.Errorf("%s %s: %s", p.Code, p.Object, p.Reason)
	}
	left := leftOver(all)
	for _, want := range []string{`user mapping pg_monitor on "There it is"`, "option tokens.api_key", "setting database: default_transaction_read_only",
		"materialised view rows k.mat_lines", "large objects 1 object"} {
		if left[want] == "" {
			t.Errorf("%s is left out in silence", want)
		}
		delete(left, want)
	}
	if len(left) > 0 {
		t.Errorf("not carried either: %v", left)
	}
	diff := slices.DeleteFunc(differences(statements, dumped(t, dst)), func(d string) bool {
		return strings.HasPrefix(d[2:], "CREATE SERVER tokens ") || strings.HasPrefix(d, "- CREATE USER MAPPING FOR pg_monitor ")
	})
	for _, d := range diff {
		t.Error(d)
	}
	if a, b := dev.MustQuery(t, src, ofDatabaseSQL), dev.MustQuery(t, dst, ofDatabaseSQL); a != b || strings.Count(a, "\n") != 4 {
		t.Errorf("databases differ:\n%s\n---\n%s", a, b)
	}
}

// A second time every step finds what it makes, whether Drover marked it or somebody else made it.
func TestSchema_EveryKindIsFoundAgain(t *testing.T) {
	src, dst, other := dev.Database(t), dev.TargetDatabase(t), dev.TargetDatabase(t)
	dev.MustExec(t, src, dev.ForVersion(t, src, kindsSQL))
	steps := found(t, src, nil).Steps
	values := 0
	for _, st := range steps {
		if st.Kind == "sequence value" {
			values++
		}
	}
	for range 2 {
		if _, problems := applied(t, dst, steps, 2); len(problems) > 0 {
			t.Errorf("problems: %v", problems)
		}
	}
	if skipped, _ := applied(t, dst, steps, 2); skipped != len(steps)-values {
		t.Errorf("%d of %d steps are done again", len(steps)-values-skipped, len(steps))
	}
	dev.MustExec(t, dst, "TRUNCATE drover.step") // killed between the step and its mark cannot be; made by hand can
	if _, problems := applied(t, dst, steps, 2); len(problems) > 0 {
		t.Errorf("equal objects are refused: %v", problems)
	}
	for _, d := range slices.DeleteFunc(differences(dumped(t, src), dumped(t, dst)), func(d string) bool { return strings.Contains(d, "hush") || strings.Contains(d, "tokens") }) {
		t.Error(d)
	}
	differentlyMade(t, other)
	_, problems := applied(t, other, steps, 2)
	seen := map[string]string{}
	for _, p := range problems {
		seen[p.Object] = p.Code
	}
	for _, want := range []string{"language ourpl", "access method heap2", "foreign data wrapper nothing", "text search template k.plain", "conversion k.to_latin",
		"transform for integer on language sql", "operator class k.arr USING gin", "domain k.late"} {
		if seen[want] != "E4008" {
			t.Errorf("%s of another kind is accepted: %s", want, seen[want])
		}
	}
}

// differentlyMade has some of the objects of kinds.sql under the same name and otherwise.
func differentlyMade(t *testing.T, url string) {
	t.Helper()
	dev.MustExec(t, url, `CREATE SCHEMA k;
		CREATE LANGUAGE ourpl HANDLER plpgsql_call_handler; CREATE ACCESS METHOD heap2 TYPE INDEX HANDLER bthandler; CREATE FOREIGN DATA WRAPPER nothing;
		CREATE TEXT SEARCH TEMPLATE k.plain (LEXIZE = dsimple_lexize); CREATE CONVERSION k.to_latin FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;
		CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal)); CREATE OPERATOR CLASS k.arr FOR TYPE int[] USING gin AS STORAGE int;
		CREATE DOMAIN k.late AS bigint`)
}

// What a newer version of the source can say arrives equal, or is named with the version that it needs.
func TestSchema_WhatNewerVersionsSayArrivesEqual(t *testing.T) {
	src, dst := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, src, dev.ForVersion(t, src, newerSQL))
	all := found(t, src, nil)
	from, to := dev.Major(t, src), dev.Major(t, dst)
	for _, l := range all.NotCarried {
		t.Errorf("left out: %v", l)
	}
	told := checked(t, NewSink(), dst, &connectorv1.CheckRequest{Tables: all.Tables, Steps: all.Steps, SourceVersion: fmt.Sprint(from)})
	_, problems := applied(t, dst, all.Steps, 2)
	for _, p := range problems {
		named := strings.Contains(p.Reason, "exist since PostgreSQL") || strings.Contains(p.Reason, "needs") ||
			p.Warning && (strings.HasPrefix(p.Object, "grant ") || strings.HasPrefix(p.Object, "comment ")) || strings.Contains(p.Reason, "NOT VALID foreign key on partitioned table")
		if to >= from || !named {
			t.Errorf("%s %s: %s", p.Code, p.Object, p.Reason)
		}
		_, warned := told[p.Code+" "+p.Object]
		if strings.Contains(p.Reason, "exist since") && !warned {
			t.Errorf("nobody was told of %s %s beforehand: %v", p.Code, p.Object, told)
		}
	}
	if to < from {
		if from > 15 && len(problems) == 0 {
			t.Error("an older server took everything")
		}
		return
	}
	for _, d := range differences(dumped(t, src), dumped(t, dst)) {
		t.Error(d)
	}
	publications := "SELECT to_jsonb(p) - 'oid' - 'pubowner' - 'pubgencols', coalesce(to_jsonb(p) ->> 'pubgencols', 'n') FROM pg_publication p ORDER BY pubname"
	if a, b := dev.MustQuery(t, src, publications), dev.MustQuery(t, dst, publications); a != b {
		t.Errorf("publications differ:\n%s\n---\n%s", a, b)
	}
	if _, problems := applied(t, dst, all.Steps, 2); len(problems) > 0 {
		t.Errorf("a second time: %v", problems)
	}
	again := map[string][]string{}
	for _, st := range all.Steps {
		again[stepName(st)] = []string{"nothing"}
	}
	for _, st := range found(t, dst, nil).Steps {
		again[stepName(st)] = st.Sql
	}
	for _, st := range all.Steps {
		if from == to && !manyObjects(st) && !slices.Equal(again[stepName(st)][:1], st.Sql[:1]) { // what follows may say twice what is
			t.Errorf("the copy is described otherwise than its source: %v, %v", st.Sql, again[stepName(st)])
		}
	}
}
