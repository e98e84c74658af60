package copy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// What reads a table through a function that says otherwise, and what is made of it, is refused at the target, where the
// function finds nothing. So is a type that the target cannot make, and the tables that have it.
const refusedSQL = `CREATE TABLE cfg (v int); INSERT INTO cfg VALUES (1);
CREATE FUNCTION getv() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT v FROM cfg';
CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 100);
CREATE INDEX one ON t ((getv() + a)); CREATE INDEX two ON t ((getv() * a));
CREATE MATERIALIZED VIEW seen AS SELECT getv() AS v; CREATE VIEW over AS SELECT * FROM seen;
CREATE TABLE fine (id int PRIMARY KEY); INSERT INTO fine SELECT generate_series(1, 10);`

// Every step that was refused is named, on the screen and for programs; the rows of all tables are there.
func TestCopy_NamesEveryStepThatWasRefused(t *testing.T) {
	source, target := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, source, refusedSQL)
	data := t.TempDir()
	r := harness.Run(t, "copy", source, target, "--data", data)
	for _, want := range []string{"index public.one", "index public.two", "materialised view rows public.seen", "E4002", "ended with errors"} {
		if !strings.Contains(r.Stdout+r.Stderr, want) {
			t.Errorf("%q is not said", want)
		}
	}
	if r.Code != 1 || strings.Contains(r.Stderr, "drover doctor") {
		t.Error(r)
	}
	r = harness.Run(t, "copy", source, target, "--data", data, "-o", "json")
	var status struct {
		Failures []struct{ Where string }
	}
	if err := json.Unmarshal([]byte(r.Stdout), &status); err != nil || len(status.Failures) < 3 || r.Code != 1 {
		t.Errorf("%v: %s", err, r)
	}
	if n := one(t, target, "SELECT count(*) FROM t"); n != "100" {
		t.Errorf("%s rows of t", n)
	}
	dev.MustExec(t, source, "CREATE OR REPLACE FUNCTION getv() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'")
	dev.MustExec(t, target, "CREATE OR REPLACE FUNCTION getv() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'")
	harness.MustRun(t, "copy", source, target, "--data", data)
	harness.RequireEqual(t, source, target, harness.CompareOptions{})
}

// A table that cannot be made is set aside with what needs it; the others are copied, and the same command brings it once it
// can be made.
func TestCopy_GoesOnWithoutATableThatCannotBeMade(t *testing.T) {
	const waitLong = 60 * time.Second
	for _, follow := range []bool{false, true} {
		source, target := dev.Database(t), dev.TargetDatabase(t)
		dev.MustExec(t, source, `CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);
			CREATE TABLE broken (id int PRIMARY KEY, n int REFERENCES parent); INSERT INTO broken VALUES (1, 1);
			CREATE VIEW needs AS SELECT id FROM broken; CREATE INDEX ON broken (n);`)
		dev.MustExec(t, target, `CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
			IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity = 'public.broken') THEN RAISE 'not this one'; END IF; END $$;
			CREATE EVENT TRIGGER no ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION no(); ALTER EVENT TRIGGER no ENABLE ALWAYS`)
		args := []string{"copy", source, target, "--data", t.TempDir(), "--progress", "plain"}
		if follow {
			p := harness.Start(t, harness.Command{Args: append(args, "--follow")})
			p.WaitForOutput(t, "phase=streaming", waitLong)
			dev.MustExec(t, source, "INSERT INTO parent VALUES (2)")
			harness.Eventually(t, waitLong, func() error {
				if n := one(t, target, "SELECT count(*) FROM parent"); n != "2" {
					return fmt.Errorf("%s rows of parent", n)
				}
				return nil
			})
			p.Stop(waitLong)
			dev.MustExec(t, target, "DROP EVENT TRIGGER no; DROP FUNCTION no")
			p = harness.Start(t, harness.Command{Args: append(args, "--follow")})
			p.WaitForOutput(t, "phase=streaming", waitLong)
			awaitSame(t, source, target)
			p.Stop(waitLong)
			continue
		}
		r := harness.Run(t, args...)
		if r.Code != 7 || !strings.Contains(r.Stderr, "table public.broken") || !strings.Contains(r.Stdout, "view public.needs") {
			t.Errorf("without the table: %s", r)
		}
		if n := one(t, target, "SELECT count(*) FROM parent"); n != "1" {
			t.Errorf("%s rows of parent", n)
		}
		dev.MustExec(t, target, "DROP EVENT TRIGGER no; DROP FUNCTION no")
		harness.MustRun(t, args...)
		harness.RequireEqual(t, source, target, harness.CompareOptions{})
	}
}
