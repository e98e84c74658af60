package copy_test

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// One of every kind of object that pg_dump writes. What differs between the dumps afterwards is in the summary by name.
func TestCopy_CarriesEveryKindOfObject(t *testing.T) {
	kinds, err := os.ReadFile("../../plugins/postgres/testdata/kinds.sql")
	if err != nil {
		t.Fatal(err)
	}
	source, target, data := dev.Database(t), dev.TargetDatabase(t), t.TempDir()
	dev.MustExec(t, source, dev.ForVersion(t, source, string(kinds)))
	r := harness.MustRun(t, "copy", source, target, "--data", data)
	for _, want := range []string{`user mapping pg_monitor on "There it is": its options may hold a password`, "option tokens.api_key: it may be a secret. ALTER SERVER tokens OPTIONS (ADD",
		"setting database: default_transaction_read_only", "materialised view rows k.mat_lines", "large objects 1 object:", "not carried over (5)"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("%q is not in the summary: %s", want, r)
		}
	}
	named := []string{"CREATE SERVER tokens ", "CREATE USER MAPPING FOR pg_monitor "}
	for _, d := range differing(t, source, target) {
		if !slices.ContainsFunc(named, func(n string) bool { return strings.HasPrefix(d, n) }) {
			t.Errorf("it differs, and nobody said so: %s", d)
		}
	}
	for _, secret := range []string{"hush-hush-1", "hush-hush-2"} {
		if strings.Contains(r.Stdout+r.Stderr, secret) {
			t.Error("a secret is shown")
		}
	}
	rows := "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t.n)) FROM k.t"
	if a, b := dev.MustQuery(t, source, rows), dev.MustQuery(t, target, rows); a != b || !strings.HasPrefix(a, "200\t") {
		t.Errorf("rows of types of its own differ: %s, %s", a, b)
	}
}

// differing lists statements that only one side's dump has.
func differing(t *testing.T, source, target string) (out []string) {
	t.Helper()
	var sides [2][]string
	for i, at := range []string{source, target} {
		dump, err := dev.DumpSchema(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		sides[i] = strings.Split(dump, ";\n")
	}
	for i, side := range sides {
		for _, s := range side {
			if !slices.Contains(sides[1-i], s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// What the role may not make is named with its SQL, and what needs it in a later phase too; everything else arrives.
func TestCopy_ARoleWithoutRightsCarriesTheRest(t *testing.T) {
	const schema = `CREATE TABLE t (id int PRIMARY KEY, v text); CREATE INDEX plain ON t (v); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i;
		CREATE OPERATOR CLASS down FOR TYPE int USING btree AS OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 btint4cmp(int, int);
		CREATE INDEX classy ON t (id down); COMMENT ON INDEX classy IS 'i'; CREATE FUNCTION twice(int) RETURNS int LANGUAGE internal IMMUTABLE AS 'int4abs'; CREATE VIEW v AS SELECT twice(id) FROM t;
		CREATE EXTENSION pg_stat_statements; CREATE FUNCTION et() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER et ON sql_drop EXECUTE FUNCTION et()`
	src, dst := dev.Postgres(t, "wal_level=logical"), dev.TargetPostgres(t)
	source := src.URL("postgres")
	dev.MustExec(t, source, schema)
	dev.MustExec(t, dst.URL("postgres"), "CREATE ROLE weak LOGIN; GRANT SET ON PARAMETER session_replication_role TO weak")
	for _, follow := range []bool{false, true} {
		t.Run(fmt.Sprintf("follow %t", follow), func(t *testing.T) {
			name := fmt.Sprintf("weak_%t", follow)
			dev.MustExec(t, dst.URL("postgres"), "CREATE DATABASE "+name)
			dev.MustExec(t, dst.URL(name), "GRANT CREATE ON DATABASE "+name+" TO weak; GRANT CREATE, USAGE ON SCHEMA public TO weak")
			u, err := url.Parse(dst.URL(name))
			if err != nil {
				t.Fatal(err)
			}
			u.User = url.User("weak")
			doctor := harness.Run(t, "doctor", source, u.String())
			if doctor.Code != 0 || !strings.Contains(doctor.Stdout+doctor.Stderr, "operator class public.down") || !strings.Contains(doctor.Stdout+doctor.Stderr, "index public.classy") {
				t.Errorf("the doctor does not tell: %s", doctor)
			}
			data, said := t.TempDir(), ""
			if !follow {
				said = harness.MustRun(t, "copy", source, u.String(), "--data", data).Stdout
			} else {
				p := harness.Start(t, harness.Command{Args: []string{"copy", source, u.String(), "--follow", "--name", name, "--data", data}})
				awaitPhase(t, name, data, "streaming")
				said = harness.MustRun(t, "status", name, "--data", data, "-o", "json").Stdout
				p.Stop(15 * time.Second)
			}
			for _, want := range []string{"public.down", "public.classy", "public.twice(integer)", "public.v", "pg_stat_statements", "ON sql_drop"} {
				if !strings.Contains(said, want) {
					t.Errorf("%s is left out in silence: %s", want, said)
				}
			}
			if got := dev.MustQuery(t, dst.URL(name), "SELECT count(*), to_regclass('plain'), to_regclass('classy'), to_regproc('et') FROM t"); got != "100\tplain\t\\N\tet" {
				t.Errorf("the rest is not there: %s", got)
			}
		})
	}
}
