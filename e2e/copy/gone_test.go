package copy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// follows starts a pipeline of the three tables without writers, and returns when it streams.
func follows(t *testing.T, name string, more ...string) (*verbs, *harness.Process) {
	t.Helper()
	v := &verbs{data: t.TempDir(), file: t.TempDir() + "/p.yaml", name: name, source: dev.Database(t), target: dev.Database(t)}
	dev.MustExec(t, v.source, append([]string{three}, more...)...)
	v.write(t, "cdc: {heartbeat: 1s}")
	p := v.begin(t, func() *harness.Process {
		p := harness.Start(t, harness.Command{Args: []string{"up", "--data", v.data}})
		p.WaitForOutput(t, "drover is up", 20*time.Second)
		return p
	})
	awaitMended(t, name, v.data)
	return v, p
}

// remake is b once more, under the same name, with other rows.
const remake = `DROP TABLE b CASCADE; CREATE TABLE b (id bigint PRIMARY KEY, v text, n int, u bigint UNIQUE); INSERT INTO b SELECT i, 'anew', i, i FROM generate_series(5000, 5100) i`

// What keeps the changes of one table from being sent sets that table aside while it streams, without a change of it, and
// one command brings it back.
func TestGone_ATableWhoseChangesDoNotComeIsSetAside(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, code, back string }{
		"dropped":   {"DROP TABLE b CASCADE", "E4001", remake[strings.Index(remake, "CREATE"):]},
		"renamed":   {"ALTER TABLE b RENAME TO b2", "E4001", "UPDATE b2 SET v = 'elsewhere' WHERE id < 100; ALTER TABLE b2 RENAME TO b"},
		"remade":    {remake, "E3019", ""},
		"rewritten": {"ALTER TABLE b ALTER v TYPE text USING upper(v)", "E3019", ""},
		"takenout":  {"ALTER PUBLICATION drover_takenout DROP TABLE b; DELETE FROM b WHERE id < 100", "E3019", ""},
		"putback":   {"ALTER PUBLICATION drover_putback DROP TABLE b; DELETE FROM b WHERE id < 100; ALTER PUBLICATION drover_putback ADD TABLE b", "E3019", ""},
	} {
		t.Run(name, func(t *testing.T) {
			v, p := follows(t, name)
			dev.MustExec(t, v.source, c.sql)
			awaitAside(t, name, v.data, "public.b", c.code)
			v.others(t, 910001)
			if c.back != "" {
				v.run(t, 0, "reload", name) // it is not there yet: it stays as it is, and only it
				v.others(t, 910002)
				awaitAside(t, name, v.data, "public.b", c.code)
				dev.MustExec(t, v.source, c.back)
			}
			v.run(t, 0, "reload", name, "public.b")
			awaitMended(t, name, v.data)
			dev.MustExec(t, v.source, "INSERT INTO b VALUES (990001, 'after', 1, 990001); UPDATE b SET v = 'changed' WHERE id % 7 = 0")
			v.others(t, 910003)
			v.equal(t)
			p.Stop(10 * time.Second)
		})
	}
}

// Two tables that exchange their names in one transaction are set aside before a row of one is written into the other, and both
// come back by one command.
func TestGone_TablesExchangeTheirNames(t *testing.T) {
	t.Parallel()
	v, p := follows(t, "exchanged", "CREATE TABLE d (id int PRIMARY KEY, v text); CREATE TABLE e (id int PRIMARY KEY, v text)",
		"INSERT INTO d SELECT i, 'd' || i FROM generate_series(1, 100) i; INSERT INTO e SELECT i, 'e' || i FROM generate_series(1, 100) i")
	dev.MustExec(t, v.source, "BEGIN; ALTER TABLE d RENAME TO tmp; ALTER TABLE e RENAME TO d; ALTER TABLE tmp RENAME TO e; COMMIT; UPDATE d SET v = 'new' || v WHERE id < 5")
	harness.Eventually(t, 60*time.Second, func() error {
		if _, codes := tableStates(t, v.name, v.data); len(codes) != 2 || codes["public.d"] == "" || codes["public.e"] == "" {
			return fmt.Errorf("failed are %v", codes)
		}
		return nil
	})
	v.others(t, 910001)
	if n := one(t, v.target, "SELECT (SELECT count(*) FROM d WHERE v = 'd' || id) + (SELECT count(*) FROM e WHERE v = 'e' || id)"); n != "200" {
		t.Errorf("%s of 200 rows are where they were", n)
	}
	v.run(t, 0, "reload", v.name)
	awaitMended(t, v.name, v.data)
	if n := one(t, v.target, "SELECT count(*) FROM d WHERE v = 'newe' || id"); n != "4" {
		t.Errorf("%s of 4 rows have arrived", n)
	}
	v.equal(t)
	p.Stop(10 * time.Second)
}

// A table that is not logged is named by who copies it, and counted neither as compared nor as equal. Once it is logged it is
// set aside, also when the same command starts again, and is followed after it was loaded again.
func TestGone_AnUnloggedTableIsNotTakenForFollowed(t *testing.T) {
	t.Parallel()
	v := &verbs{data: t.TempDir(), name: "loose", source: dev.Database(t), target: dev.Database(t)}
	dev.MustExec(t, v.source, three+"CREATE UNLOGGED TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)")
	begin := func() *harness.Process {
		p := harness.Start(t, harness.Command{Args: []string{"copy", v.source, v.target, "--follow", "--name", v.name, "--data", v.data}})
		p.WaitForOutput(t, "changes of public.u are not followed: W3010", 60*time.Second)
		return p
	}
	p := begin()
	awaitState(t, v, "public.a", "loaded equal")
	awaitState(t, v, "public.u", "loaded")
	line := harness.MustRun(t, "status", v.name, "--data", v.data)
	if !strings.Contains(line.Stdout, " equal=3/3 ") || !strings.Contains(line.Stdout, " equal_at=") || !strings.Contains(line.Stdout, " not_followed=1") ||
		!strings.Contains(line.Stderr, `ALTER TABLE "public"."u" SET LOGGED`) {
		t.Errorf("the status does not tell it: %s", line)
	}
	p.Stop(20 * time.Second)
	dev.MustExec(t, v.source, "INSERT INTO u VALUES (2)")
	p = begin()
	dev.MustExec(t, v.source, "ALTER TABLE u SET LOGGED; INSERT INTO u VALUES (3)")
	awaitAside(t, v.name, v.data, "public.u", "E3019")
	v.others(t, 910001)
	v.run(t, 0, "reload", v.name)
	awaitMended(t, v.name, v.data)
	dev.MustExec(t, v.source, "INSERT INTO u VALUES (4)")
	v.equal(t)
	p.Stop(20 * time.Second)
}

// equal waits until both sides hold the same rows.
func (v *verbs) equal(t *testing.T) {
	t.Helper()
	harness.Eventually(t, 40*time.Second, func() error {
		report, err := harness.Compare(t.Context(), v.source, v.target, harness.CompareOptions{Sequences: harness.SequencesSkip, SkipSchema: true})
		if err == nil && !report.Equal() {
			err = fmt.Errorf("%s", report)
		}
		return err
	})
}

// Two tables that are gone do not keep a third, that is mended, from being loaded again.
func TestGone_AReloadOfAllPassesOverWhatIsNotThere(t *testing.T) {
	t.Parallel()
	v, p := follows(t, "several")
	dev.MustExec(t, v.source, "ALTER PUBLICATION drover_several DROP TABLE b")
	awaitAside(t, v.name, v.data, "public.b", "E3019")
	dev.MustExec(t, v.source, "DROP TABLE c")
	harness.Eventually(t, 60*time.Second, func() error {
		if _, codes := tableStates(t, v.name, v.data); codes["public.c"] != "E4001" {
			return fmt.Errorf("failed are %v", codes)
		}
		return nil
	})
	v.run(t, 0, "reload", v.name)
	awaitState(t, v, "public.b", "loaded equal")
	awaitAside(t, v.name, v.data, "public.c", "E4001")
	p.Stop(10 * time.Second)
}

// awaitState waits until a table is loaded and compared as it should.
func awaitState(t *testing.T, v *verbs, table, want string) {
	t.Helper()
	harness.Eventually(t, 60*time.Second, func() error {
		if states, codes := tableStates(t, v.name, v.data); states[table] != want {
			return fmt.Errorf("%s is %s %s", table, states[table], codes[table])
		}
		return nil
	})
}

// allFailed waits until every table is set aside for one reason and the pipeline stands.
func (v *verbs) allFailed(t *testing.T, code string) {
	t.Helper()
	harness.Eventually(t, 60*time.Second, func() error {
		r := harness.MustRun(t, "status", v.name, "--data", v.data)
		if _, codes := tableStates(t, v.name, v.data); len(codes) != 3 || codes["public.a"] != code || !strings.Contains(r.Stdout, "health=failed") || !strings.Contains(r.Stdout+r.Stderr, code) {
			return fmt.Errorf("failed are %v: %s", codes, r)
		}
		return nil
	})
}

// A publication that was altered so that changes are missing concerns every table: none is told to be in sync, also when it is
// altered back and the pipeline resumed, and one command loads all of them again.
func TestGone_ThePublicationIsAltered(t *testing.T) {
	t.Parallel()
	v, p := follows(t, "altered")
	dev.MustExec(t, v.source, "ALTER PUBLICATION drover_altered SET (publish = 'insert')", "DELETE FROM a WHERE id < 100")
	v.allFailed(t, "E3019")
	dev.MustExec(t, v.source, "ALTER PUBLICATION drover_altered SET (publish = 'insert, update, delete, truncate')")
	v.run(t, 0, "resume", v.name)
	v.allFailed(t, "E3019")
	v.run(t, 0, "reload", v.name)
	awaitMended(t, v.name, v.data)
	v.others(t, 910001)
	v.equal(t)
	p.Stop(10 * time.Second)
}

// A publication that is gone is told at once, without a change; with another one made under its name nobody goes on as if
// nothing had been.
func TestGone_ThePublicationIsDropped(t *testing.T) {
	t.Parallel()
	v, p := follows(t, "unpublished")
	dev.MustExec(t, v.source, "DROP PUBLICATION drover_unpublished")
	v.allFailed(t, "E3020")
	dev.MustExec(t, v.source, "CREATE PUBLICATION drover_unpublished FOR TABLE a, b, c")
	v.run(t, 0, "resume", v.name)
	v.allFailed(t, "E3020")
	if r := harness.MustRun(t, "status", v.name, "--data", v.data, "-o", "json"); !strings.Contains(r.Stdout, "drover delete") || strings.Contains(r.Stdout, "drover reload") {
		t.Errorf("it does not tell what to do: %s", r)
	}
	v.run(t, 0, "delete", v.name, "--yes", "--confirm", v.name)
	p.Stop(10 * time.Second)
}

// A table that is made while a pipeline follows is named, once in the log, with a command that copies it beside the others.
// One that the selection leaves out is not.
func TestGone_ANewTableIsNamedAndCopiedByAnotherPipeline(t *testing.T) {
	t.Parallel()
	v := &verbs{data: t.TempDir(), file: t.TempDir() + "/p.yaml", name: "newer", source: dev.Database(t), target: dev.Database(t)}
	dev.MustExec(t, v.source, three+"CREATE TABLE scratch_1 (id int)")
	v.write(t, "tables: {exclude: ['public.scratch*']}\ncdc: {heartbeat: 1s}")
	p := v.begin(t, func() *harness.Process {
		p := harness.Start(t, harness.Command{Args: []string{"up", "--data", v.data}})
		p.WaitForOutput(t, "drover is up", 20*time.Second)
		return p
	})
	dev.MustExec(t, v.source, "CREATE TABLE d (id bigint PRIMARY KEY, b bigint REFERENCES b); INSERT INTO d SELECT i, i FROM generate_series(1, 500) i; CREATE TABLE scratch_2 (id int)")
	const command = "drover copy SRC DST --follow --name newer_more --tables 'public.d'"
	harness.Eventually(t, 90*time.Second, func() error {
		if r := harness.MustRun(t, "status", v.name, "--data", v.data); !strings.Contains(r.Stderr, "next: "+command) {
			return fmt.Errorf("the new table is not named: %s", r)
		}
		return nil
	})
	if r := harness.MustRun(t, "status", v.name, "--data", v.data, "-o", "json"); !strings.Contains(r.Stdout, "W4013") || strings.Contains(r.Stdout, "scratch_2") {
		t.Errorf("not what is new: %s", r)
	}
	if r := harness.MustRun(t, "logs", v.name, "--data", v.data); strings.Count(r.Stdout, "W4013") != 1 || !strings.Contains(r.Stdout, "source › table public.d") {
		t.Errorf("it is not told once: %s", r)
	}
	mix := harness.Run(t, "copy", v.source, v.target, "--follow", "--name", "mix", "--tables", "public.a,public.d", "--truncate", "--data", t.TempDir())
	if mix.Code != 4 || !strings.Contains(mix.Stderr, "E5010") || !strings.Contains(mix.Stderr, "pipeline newer follows into it") || strings.Contains(mix.Stderr, "TRUNCATE") {
		t.Errorf("another pipeline may write into the same table: %s", mix)
	}
	data := t.TempDir()
	more := harness.Start(t, harness.Command{Args: []string{"copy", v.source, v.target, "--follow", "--name", "newer_more", "--tables", "public.d", "--data", data}})
	awaitPhase(t, "newer_more", data, "streaming")
	dev.MustExec(t, v.source, "UPDATE d SET b = id + 1; DELETE FROM d WHERE id % 5 = 0; DROP TABLE scratch_1, scratch_2")
	v.others(t, 910001)
	v.equal(t)
	more.Stop(10 * time.Second)
	p.Stop(10 * time.Second)
}

// A partition that is dropped keeps no other table from being loaded again; what its failure says to do is true of a table that
// is not there.
func TestGone_ADroppedPartitionKeepsNoOtherTableFromAReload(t *testing.T) {
	t.Parallel()
	v := &verbs{data: t.TempDir(), name: "pd", source: dev.Database(t), target: dev.Database(t)}
	dev.MustExec(t, v.source, `CREATE TABLE o (id bigint PRIMARY KEY, v text); INSERT INTO o SELECT i, 'v' FROM generate_series(1, 500) i;
		CREATE TABLE p (id bigint PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (100);
		CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (100) TO (1000); INSERT INTO p SELECT i, 'v' FROM generate_series(1, 500) i`)
	p := v.copying(t)
	dev.MustExec(t, v.source, "DROP TABLE p_1")
	v.run(t, 0, "reload", v.name, "public.o", "--yes", "--confirm", v.name)
	dev.MustExec(t, v.source, "UPDATE o SET v = 'after'; UPDATE p SET v = 'after'")
	harness.Eventually(t, 60*time.Second, func() error {
		states, codes := tableStates(t, v.name, v.data)
		if n := one(t, v.target, "SELECT (SELECT count(*) FROM o WHERE v = 'after') + (SELECT count(*) FROM p_2 WHERE v = 'after')"); n != "901" || states["public.o"] != "loaded equal" || len(codes) != 1 || codes["public.p_1"] != "E4001" {
			return fmt.Errorf("%s rows are new, tables are %v, failed %v", n, states, codes)
		}
		return nil
	})
	if r := v.run(t, 0, "status", v.name); !strings.Contains(r.Stderr, "gone for good there is nothing to do") || strings.Contains(r.Stderr, "ALTER TABLE") {
		t.Errorf("what it says to do: %s", r)
	}
	if r := v.run(t, 0, "logs", v.name); strings.Contains(r.Stdout, "E4011") || !strings.Contains(r.Stdout, "to be loaded again: public.o") {
		t.Errorf("what was asked for is told as an error: %s", r)
	}
	interrupt(t, p)
	v.run(t, 0, "delete", v.name, "--yes", "--confirm", v.name)
}
