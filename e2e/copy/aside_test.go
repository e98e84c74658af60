package copy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// Three tables with writers; the one in the middle is going to fail.
const three = `CREATE TABLE a (id bigint PRIMARY KEY, v text, n int); INSERT INTO a SELECT i, repeat('v', i % 60), i FROM generate_series(1, 3000) i;
CREATE TABLE b (id bigint PRIMARY KEY, v text, n int, u bigint UNIQUE); INSERT INTO b SELECT i, repeat('v', i % 60), i, i FROM generate_series(1, 3000) i;
CREATE TABLE c (id bigint PRIMARY KEY, n int, b bigint REFERENCES b DEFERRABLE INITIALLY DEFERRED); INSERT INTO c SELECT i, i FROM generate_series(1, 300) i; ANALYZE;`

// tableStates are the states of all tables by name, with what a comparison found, and the code of what has failed.
func tableStates(t *testing.T, name, data string) (states, codes map[string]string) {
	t.Helper()
	var all struct {
		Tables []struct {
			Table, State, Compared string
			Failure                *struct{ Code string }
		}
	}
	r := harness.MustRun(t, "tables", name, "--data", data, "-o", "json")
	if err := json.Unmarshal([]byte(r.Stdout), &all); err != nil {
		t.Fatal(err)
	}
	states, codes = map[string]string{}, map[string]string{}
	for _, x := range all.Tables {
		states[x.Table] = strings.TrimSpace(x.State + " " + x.Compared)
		if x.Failure != nil {
			codes[x.Table] = x.Failure.Code
			if x.Compared != "" {
				t.Errorf("%s has failed, and is shown as %s", x.Table, x.Compared)
			}
		}
	}
	return states, codes
}

// awaitAside waits until exactly one table is set aside for the reason of that code, and everybody can see it.
func awaitAside(t *testing.T, name, data, table, code string) {
	t.Helper()
	harness.Eventually(t, 60*time.Second, func() error {
		if _, codes := tableStates(t, name, data); len(codes) != 1 || codes[table] != code {
			return fmt.Errorf("failed are %v", codes)
		}
		return nil
	})
	r := harness.MustRun(t, "status", name, "--data", data, "-o", "json")
	for _, want := range []string{`"health":"degraded"`, `"failed":1`, code, "drover reload " + name + " " + table} {
		if !strings.Contains(strings.ReplaceAll(r.Stdout, `": `, `":`), want) {
			t.Errorf("the status shows no %s: %s", want, r)
		}
	}
	if r := harness.MustRun(t, "status", name, "--data", data); !strings.Contains(r.Stdout+r.Stderr, " failed=1") {
		t.Errorf("the line shows no failed=1: %s", r)
	}
}

// awaitMended waits until no table has failed and all are loaded and compared.
func awaitMended(t *testing.T, name, data string) {
	t.Helper()
	harness.Eventually(t, 60*time.Second, func() error {
		states, codes := tableStates(t, name, data)
		for table, s := range states {
			if s != "loaded equal" {
				return fmt.Errorf("%s is %s %s", table, s, codes[table])
			}
		}
		return nil
	})
	requireCompared(t, name, data)
}

// others shows that all but one table go on, by a change of each.
func (v *verbs) others(t *testing.T, mark int) {
	t.Helper()
	dev.MustExec(t, v.source, fmt.Sprintf("BEGIN; INSERT INTO a VALUES (%d, 'mark', 0); INSERT INTO c VALUES (%d, 0); COMMIT", mark, mark))
	harness.Eventually(t, 30*time.Second, func() error {
		if n := one(t, v.target, fmt.Sprintf("SELECT (SELECT count(*) FROM a WHERE id = %d) + (SELECT count(*) FROM c WHERE id = %d)", mark, mark)); n != "2" {
			return fmt.Errorf("%s of 2 rows have arrived", n)
		}
		return nil
	})
}

// streaming starts a pipeline of three tables under writers, and returns when it streams.
func streaming(t *testing.T, name string, env ...string) (v *verbs, up func() *harness.Process, stop func()) {
	t.Helper()
	v = &verbs{data: t.TempDir(), file: t.TempDir() + "/p.yaml", name: name, source: dev.Database(t), target: dev.Database(t)}
	dev.MustExec(t, v.source, three)
	var writers []*harness.Writer
	for _, table := range []string{"a", "b", "c"} {
		writers = append(writers, harness.StartWriter(t, v.source, "public."+table, harness.WriterOptions{Rate: 60}))
	}
	v.write(t, "load: {chunk: {target: 64KiB}, parallel: 2}\ncdc: {heartbeat: 1s}")
	up = func() *harness.Process {
		p := harness.Start(t, harness.Command{Args: []string{"up", "--data", v.data}, Env: env})
		p.WaitForOutput(t, "drover is up", 20*time.Second)
		return p
	}
	return v, up, func() {
		for _, w := range writers {
			w.Stop()
		}
		harness.Eventually(t, 40*time.Second, func() error {
			report, err := harness.Compare(t.Context(), v.source, v.target, harness.CompareOptions{Sequences: harness.SequencesSkip, SkipSchema: true})
			if err == nil && !report.Equal() {
				err = fmt.Errorf("%s", report)
			}
			return err
		})
	}
}

// begin starts the pipeline and returns when it streams.
func (v *verbs) begin(t *testing.T, up func() *harness.Process) *harness.Process {
	t.Helper()
	p := up()
	v.run(t, 0, "apply", "-f", v.file)
	awaitPhase(t, v.name, v.data, "streaming")
	return p
}

// refuse lets the target refuse a row of b, and returns when b is set aside.
func (v *verbs) refuse(t *testing.T) {
	t.Helper()
	dev.MustExec(t, v.target, "ALTER TABLE b ADD CONSTRAINT mine CHECK (n <> -77) NOT VALID")
	dev.MustExec(t, v.source, "INSERT INTO b VALUES (900001, 'refused', -77, 900001)")
	awaitAside(t, v.name, v.data, "public.b", "E5005")
}

// A row that the target refuses while changes stream sets its table aside; the others go on, and one command brings it back.
func TestAside_ARowThatTheTargetRefuses(t *testing.T) {
	v, up, equal := streaming(t, "refused")
	p := v.begin(t, up)
	v.refuse(t)
	v.others(t, 910001)
	v.run(t, 0, "reload", v.name) // nothing is mended yet: it fails again, and only it
	v.others(t, 910002)
	awaitAside(t, v.name, v.data, "public.b", "E5005")
	dev.MustExec(t, v.target, "ALTER TABLE b DROP CONSTRAINT mine")
	v.run(t, 0, "reload", v.name, "public.b")
	awaitMended(t, v.name, v.data)
	v.others(t, 910003)
	equal()
	p.Stop(10 * time.Second)
}

// A column is added at the source under writers, and everything is killed on the way. The table is brought back once the
// target has the column too; until then the command refuses, with the SQL.
func TestAside_AColumnIsAddedAndEverythingIsKilled(t *testing.T) {
	v, up, equal := streaming(t, "column")
	p := v.begin(t, up)
	dev.MustExec(t, v.source, "ALTER TABLE b ADD COLUMN extra int NOT NULL DEFAULT 7")
	p.Kill()
	p = up()
	awaitAside(t, v.name, v.data, "public.b", "E4001")
	v.others(t, 910001)
	p.Kill()
	p = up()
	awaitAside(t, v.name, v.data, "public.b", "E4001")
	v.others(t, 910002)
	v.run(t, 0, "reload", v.name)
	harness.Eventually(t, 30*time.Second, func() error {
		if r := harness.MustRun(t, "tables", v.name, "--data", v.data, "-o", "json"); !strings.Contains(r.Stdout, `ALTER TABLE \"public\".\"b\" ADD COLUMN \"extra\" integer`) {
			return fmt.Errorf("it does not say what to run at the target: %s", r)
		}
		return nil
	})
	v.others(t, 910003)
	dev.MustExec(t, v.target, "ALTER TABLE b ADD COLUMN extra int NOT NULL DEFAULT 7")
	v.run(t, 0, "reload", v.name)
	time.Sleep(300 * time.Millisecond)
	p.Kill()
	p = up()
	awaitMended(t, v.name, v.data)
	v.others(t, 910004)
	equal()
	if n := one(t, v.target, "SELECT count(*) FROM b WHERE extra = 7"); n == "0" {
		t.Error("the new column has not come")
	}
	p.Stop(10 * time.Second)
}

// What the coordinator knew is lost while a table is set aside: nobody believes that it is in sync.
func TestAside_IsKnownWhenTheCoordinatorsStateIsLost(t *testing.T) {
	v, up, equal := streaming(t, "lostaside")
	p := v.begin(t, up)
	v.refuse(t)
	p.Kill()
	forget(t, v.data)
	p = up()
	v.run(t, 0, "apply", "-f", v.file)
	awaitAside(t, v.name, v.data, "public.b", "E5005")
	awaitPhase(t, v.name, v.data, "streaming")
	v.others(t, 910001)
	dev.MustExec(t, v.target, "ALTER TABLE b DROP CONSTRAINT mine")
	v.run(t, 0, "reload", v.name)
	awaitMended(t, v.name, v.data)
	equal()
	p.Stop(10 * time.Second)
}

// ascii makes a source whose server checks no text.
func ascii(t *testing.T) string { return encoded(t, "SQL_ASCII") }

// encoded makes a database of an encoding, dropped when the test ends.
func encoded(t *testing.T, encoding string) string {
	t.Helper()
	home := dev.Database(t)
	name := strings.ToLower(encoding) + "_" + dev.MustQuery(t, home, "SELECT current_database()")
	dev.MustExec(t, home, "CREATE DATABASE "+name+" ENCODING '"+encoding+"' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	t.Cleanup(func() {
		if err := dev.Exec(context.Background(), home, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	url := dev.Shared(t).URL(name)
	if encoding != "SQL_ASCII" {
		url += "&client_encoding=UTF8" // for the test's own sessions
	}
	return url
}

// bad is a row that cannot be read as UTF-8.
const bad = `INSERT INTO b VALUES (900001, convert_from('\xff'::bytea, 'SQL_ASCII'), 1, 900001)`

// A copy goes on to its end without the table whose row is refused, and without the foreign key that refers to it; the same
// command, once the row is mended, copies what is missing.
func TestAside_ACopyEndsWithExitCode7(t *testing.T) {
	source, target, data := ascii(t), dev.Database(t), t.TempDir()
	dev.MustExec(t, source, three+bad+"; UPDATE c SET b = id")
	args := []string{"copy", source, target, "--name", "partly", "--data", data}
	r := harness.Run(t, args...)
	if r.Code != 7 {
		t.Fatalf("want exit code 7: %s", r)
	}
	for _, want := range []string{"E3016", "source › table public.b", "drover reload partly public.b", "SQLSTATE 22021"} {
		if !strings.Contains(r.Stderr, want) {
			t.Errorf("the summary names no %s: %s", want, r)
		}
	}
	for _, want := range []string{"2/2 tables match", "foreign key public.c", "ended with errors"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("the summary names no %s: %s", want, r)
		}
	}
	rows := "SELECT (SELECT count(*) FROM a) || ' ' || (SELECT count(*) FROM c)"
	if got := one(t, target, rows); got != "3000 300" {
		t.Errorf("the others have %s rows", got)
	}
	dev.MustExec(t, source, "UPDATE b SET v = 'mended' WHERE id = 900001")
	if r := harness.MustRun(t, args...); !strings.Contains(r.Stdout, "resumed; rows loaded before: 3,300\n") {
		t.Errorf("the summary does not tell what was loaded before: %s", r)
	}
	harness.RequireRowsEqual(t, source, target)
	if n := one(t, target, "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated"); n != "1" {
		t.Errorf("%s foreign keys are there", n)
	}
}

// A row that the target refuses ends its table's load alone, too, and those of no other.
func TestAside_ACopyIntoATargetThatRefusesARow(t *testing.T) {
	source, target, data := dev.Database(t), dev.TargetDatabase(t), t.TempDir()
	dev.MustExec(t, source, three)
	dev.MustExec(t, target, three, "TRUNCATE a, b, c; ALTER TABLE b ADD CONSTRAINT mine CHECK (n <> 77)")
	args := []string{"copy", source, target, "--no-schema", "--name", "rows", "--data", data}
	r := harness.Run(t, args...)
	if r.Code != 7 || !strings.Contains(r.Stderr, "E5005") || !strings.Contains(r.Stderr, "target › table public.b") || !strings.Contains(r.Stdout, "2/2 tables match") {
		t.Fatal(r)
	}
	dev.MustExec(t, target, "ALTER TABLE b DROP CONSTRAINT mine")
	harness.MustRun(t, args...)
	harness.RequireRowsEqual(t, source, target)
	dev.MustExec(t, target, "ALTER TABLE b ADD CONSTRAINT mine CHECK (n <> 77) NOT VALID; TRUNCATE a, b, c")
	if r := harness.Run(t, append(args, "--tables", "public.b")...); r.Code != 1 || !strings.Contains(r.Stderr, "E5005") {
		t.Errorf("all that there is has failed: %s", r)
	}
}

// A table whose load is refused does not keep the others from streaming; the same command brings it in once it is mended.
func TestAside_ALoadThatFollowsStreamsTheOthers(t *testing.T) {
	source, target, data := ascii(t), dev.Database(t), t.TempDir()
	v := &verbs{data: data, name: "loading", source: source, target: target}
	dev.MustExec(t, source, three+bad)
	args := []string{"copy", source, target, "--name", "loading", "--follow", "--data", data}
	p := harness.Start(t, harness.Command{Args: args})
	awaitPhase(t, "loading", data, "streaming")
	awaitAside(t, "loading", data, "public.b", "E3016")
	v.others(t, 910001)
	dev.MustExec(t, source, "UPDATE b SET v = 'mended' WHERE id = 900001")
	v.others(t, 910002)
	if told := p.Stderr(); strings.Count(told, "error E3016") != 1 || !strings.Contains(told, "drover reload loading public.b") {
		t.Errorf("whoever watches is not told once what has failed: %s", told)
	}
	p.Signal(t, syscall.SIGINT)
	p.Wait()
	p = harness.Start(t, harness.Command{Args: args})
	awaitPhase(t, "loading", data, "streaming")
	awaitMended(t, "loading", data)
	dev.MustExec(t, source, "UPDATE b SET n = n + 1 WHERE id % 3 = 0; DELETE FROM b WHERE id % 7 = 0 AND id < 900000")
	v.others(t, 910003)
	harness.Eventually(t, 30*time.Second, func() error {
		report, err := harness.Compare(t.Context(), source, target, harness.CompareOptions{Sequences: harness.SequencesSkip, SkipSchema: true})
		if err == nil && !report.Equal() {
			err = fmt.Errorf("%s", report)
		}
		return err
	})
	p.Stop(10 * time.Second)
	dev.MustExec(t, source, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND NOT active")
}
