package copy_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// refused runs a command that must end with the code and name all that is wanted.
func refused(t *testing.T, code int, args []string, want ...string) harness.Result {
	t.Helper()
	r := harness.Run(t, args...)
	for _, w := range append(want, "  fix ") {
		if r.Code != code || !strings.Contains(r.Stderr, w) {
			t.Errorf("want exit code %d and %q: %s", code, w, r)
		}
	}
	return r
}

func TestRefused_ATableThatPublishingWouldBreak(t *testing.T) {
	source, target := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, source, "CREATE TABLE keyless (a int); INSERT INTO keyless VALUES (1)")
	refused(t, 4, []string{"copy", source, target, "--follow", "--data", t.TempDir()}, "E3006", "public.keyless", `ALTER TABLE "public"."keyless" REPLICA IDENTITY FULL`)
	dev.MustExec(t, source, "UPDATE keyless SET a = 2") // the application's own change goes on
	if n := dev.MustQuery(t, source, "SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())"); n != "0" {
		t.Errorf("%s things are left at the source", n)
	}
}

// What would cost rows is refused before anything is written, by the doctor in the same words, who gives the SQL that mends it. A table into
// which every row arrives is taken, and the summary says in what it differs.
func TestRefused_AnObjectOfThatNameWithAnotherDefinition(t *testing.T) {
	source, target := pair(t)
	dev.MustExec(t, target, "CREATE VIEW v AS SELECT 1 AS mine; CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE UNLOGGED TABLE keyless (a int DEFAULT 7, b varchar(10), own text DEFAULT 'x')")
	const why = `column "b" is character varying(10) and at the source text`
	refused(t, 4, []string{"copy", source, target, "--data", t.TempDir(), "--truncate"}, "E4008", "table public.keyless", why)
	refused(t, 4, []string{"copy", source, target, "--data", t.TempDir(), "--tables", "public.keyless"}, "E4008", "table public.keyless", why)
	said := harness.Run(t, "doctor", source, target)
	for _, want := range []string{"E4008 table public.keyless", why, `target> ALTER TABLE "public"."keyless" ALTER COLUMN "b" TYPE text;`, "W4016 table public.keyless: column", "E4008 view public.v"} {
		if said.Code != 4 || !strings.Contains(said.Stdout, want) {
			t.Errorf("the doctor does not say %q: %s", want, said)
		}
	}
	dev.MustExec(t, target, `ALTER TABLE "public"."keyless" ALTER COLUMN "b" TYPE text;`)
	r := refused(t, 4, []string{"copy", source, target, "--data", t.TempDir()}, "E4008", "view public.v")
	if strings.Contains(r.Stderr, "mood") {
		t.Errorf("an equal type is refused: %s", r)
	}
	if got := dev.MustQuery(t, target, "SELECT mine, to_regclass('parent') FROM v"); got != "1\t\\N" {
		t.Errorf("the target was touched: %s", got)
	}
	dev.MustExec(t, target, "DROP VIEW v")
	r = harness.MustRun(t, "copy", source, target, "--data", t.TempDir(), "-o", "json")
	for _, want := range []string{"W4016", "table public.keyless", "it is unlogged", `SET LOGGED;`, `ALTER COLUMN \"a\" DROP DEFAULT;`} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("%q is left out in silence: %s", want, r)
		}
	}
	dev.MustExec(t, target, "ALTER TABLE keyless SET LOGGED, ALTER a DROP DEFAULT, DROP own, REPLICA IDENTITY FULL")
	harness.RequireEqual(t, source, target, harness.CompareOptions{})
}

func TestRefused_MissingRolesAreWarnedOfAndTheRestIsCopied(t *testing.T) {
	src, dst := dev.Postgres(t), dev.TargetPostgres(t)
	source, target := src.URL("postgres"), dst.URL("postgres")
	dev.MustExec(t, source, "CREATE ROLE ghost; CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO ghost; INSERT INTO t VALUES (1); CREATE ROLE reader; GRANT SELECT ON t TO reader; CREATE POLICY p ON t TO reader USING (true)",
		"DO $$ BEGIN FOR i IN 1..12 LOOP EXECUTE format('CREATE TABLE o%s (id int PRIMARY KEY); ALTER TABLE o%s OWNER TO ghost; GRANT SELECT ON o%s TO reader', i, i, i); END LOOP; END $$")
	r := harness.MustRun(t, "copy", source, target, "--data", t.TempDir(), "-o", "json")
	var summary struct {
		NotCarried []struct{ Kind, Object, Todo string } `json:"not_carried"`
	}
	if err := json.Unmarshal([]byte(r.Stdout), &summary); err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, left := range summary.NotCarried {
		named = append(named, left.Kind+" "+left.Object)
	}
	slices.Sort(named)
	if got := strings.Join(named, ", "); got != "grant reader, owner ghost, policy public.t.p" {
		t.Errorf("named is %s: %s", got, r)
	}
	if strings.Contains(r.Stdout, "W4004") || strings.Contains(r.Stdout, "1 objects") {
		t.Errorf("what the list tells is told again, or as if it were many: %s", r)
	}
	harness.RequireEqual(t, source, target, harness.CompareOptions{SkipSchema: true})
	dev.MustExec(t, target, "CREATE ROLE ghost; CREATE ROLE reader")
	for _, left := range summary.NotCarried { // what a finished copy says is all that is missing
		dev.MustExec(t, target, left.Todo)
	}
	harness.RequireEqual(t, source, target, harness.CompareOptions{})
}

// The slot's log is removed while Drover is stopped: it says so and keeps what the target has. What it says to do ends that.
func TestRefused_ASlotThatIsGone(t *testing.T) {
	s := dev.Postgres(t)
	source := s.URL("postgres")
	dev.MustExec(t, source, "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 100) i")
	for name, lose := range map[string]func(){
		"dropped": func() {
			dev.MustExec(t, source, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
		},
		"invalidated": func() {
			dev.MustExec(t, source, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()",
				"CREATE TABLE bulk (b text); INSERT INTO bulk SELECT repeat(md5(i::text), 60) FROM generate_series(1, 40000) i", "SELECT pg_switch_wal()", "CHECKPOINT")
			if state := dev.MustQuery(t, source, "SELECT wal_status FROM pg_replication_slots"); state != "lost" {
				t.Fatalf("the slot is %s", state)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dev.MustExec(t, source, "UPDATE t SET v = 'v'")
			dst, data := dev.TargetDatabase(t), t.TempDir()
			args := []string{"copy", source, dst, "--follow", "--name", name, "--data", data, "--tables", "public.t"}
			p := harness.Start(t, harness.Command{Args: args})
			awaitPhase(t, name, data, "streaming")
			p.Signal(t, syscall.SIGINT)
			p.Wait()
			dev.MustExec(t, source, "UPDATE t SET v = 'later'")
			lose()
			r := refused(t, 1, args, "E3005", "slot drover_"+name, "drover delete")
			if n := dev.MustQuery(t, dst, "SELECT count(*) FROM t WHERE v = 'v'"); n != "100" {
				t.Errorf("%s of 100 rows are as they were", n)
			}
			runFix(t, r.Stderr, "delete", name)
			v := &verbs{data: data, name: name, source: source, target: dst}
			p = v.copying(t, "--tables", "public.t", "--truncate")
			if n := dev.MustQuery(t, dst, "SELECT count(*) FROM t WHERE v = 'later'"); n != "100" {
				t.Errorf("%s of 100 rows are as they are at the source", n)
			}
			interrupt(t, p)
			v.run(t, 0, "delete", name, "--yes", "--confirm", name)
		})
	}
}

// A table's file stands on a device that is always full; once there is room the copy goes on by itself.
func TestRefused_ADiskThatIsFull(t *testing.T) {
	dst := dev.TargetPostgres(t, "restart_after_crash=on")
	source, target := dev.Database(t), dst.URL("postgres")
	const table = "CREATE TABLE t (id int PRIMARY KEY, v text)"
	dev.MustExec(t, source, table, "INSERT INTO t SELECT i, repeat('v', 100) FROM generate_series(1, 2000) i")
	dev.MustExec(t, target, table, "CHECKPOINT")
	file := filepath.Join(dev.MustQuery(t, target, "SHOW data_directory"), dev.MustQuery(t, target, "SELECT pg_relation_filepath('t')"))
	swap := func(f func() error) {
		t.Helper()
		if err := dst.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := f(); err != nil {
			t.Fatal(err)
		}
		if err := dst.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	swap(func() error { return os.Symlink("/dev/full", file) })
	p := harness.Start(t, harness.Command{Args: []string{"copy", source, target, "--no-schema", "--data", t.TempDir()}})
	p.WaitForOutput(t, "E5004", 30*time.Second)
	swap(func() error {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o666)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Chmod(0o666) // the server may run as another user
	})
	if r := p.Wait(); r.Code != 0 {
		t.Fatalf("it did not go on: %s", r)
	}
	harness.RequireEqual(t, source, target, harness.CompareOptions{})
}

// The source under another name is no target: --truncate would empty it.
func TestRefused_TheSourceAsItsOwnTarget(t *testing.T) {
	source, _ := pair(t)
	same := strings.Replace(source, "127.0.0.1", "localhost", 1)
	for _, flags := range [][]string{{"--truncate"}, {"--follow", "--truncate"}, nil} {
		refused(t, 2, append([]string{"copy", source, same, "--data", t.TempDir()}, flags...), "E1006", "it is the database of the source, 127.0.0.1:")
	}
	if r := harness.Run(t, "doctor", source, same); r.Code != 4 || !strings.Contains(r.Stdout, "E1006") || strings.Contains(r.Stdout, "TRUNCATE") {
		t.Error(r)
	}
	if n := dev.MustQuery(t, source, "SELECT count(*) FROM parent"); n != "5000" {
		t.Errorf("%s rows are left", n)
	}
}

// The same copy started once more is sent to the one that runs, which stays where it is found.
func TestRefused_ACopyThatRunsAlready(t *testing.T) {
	source, target := pair(t)
	data := t.TempDir()
	args := []string{"copy", source, target, "--follow", "--name", "twice", "--data", data}
	p := harness.Start(t, harness.Command{Args: args})
	awaitPhase(t, "twice", data, "streaming")
	refused(t, 1, args, "E6005", "It runs already; watch it: drover status twice -w")
	awaitPhase(t, "twice", data, "streaming")
	p.Signal(t, syscall.SIGINT)
	if r := p.Wait(); r.Code != 130 {
		t.Error(r)
	}
}

// Nothing of a schema drover is copied, so what somebody else keeps there is refused by name, unless a pattern leaves it out. Databases
// that sort differently are named, by the doctor and by the copy.
func TestRefused_SomebodysSchemaDrover(t *testing.T) {
	home, target := dev.Database(t), dev.TargetDatabase(t)
	name := dev.MustQuery(t, home, "SELECT current_database()") + "_c"
	dev.MustExec(t, home, "CREATE DATABASE "+name+" TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
	t.Cleanup(func() {
		if err := dev.Exec(context.Background(), home, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	source := dev.Shared(t).URL(name)
	dev.MustExec(t, source, "CREATE TABLE t (id int PRIMARY KEY); CREATE SCHEMA drover; CREATE TABLE drover.orders (id int); INSERT INTO drover.orders VALUES (1)")
	const sorting = "LC_COLLATE 'C' LC_CTYPE 'C'"
	refused(t, 4, []string{"copy", source, target, "--data", t.TempDir()}, "E4015", "table drover.orders", "ALTER SCHEMA drover RENAME TO", "--exclude 'drover.*'")
	doctor := harness.Run(t, "doctor", source, target)
	for _, want := range []string{"E4015", "table drover.orders", "W4014", "TEMPLATE template0 ENCODING 'UTF8' " + sorting} {
		if doctor.Code != 4 || !strings.Contains(doctor.Stdout+doctor.Stderr, want) {
			t.Errorf("the doctor does not tell of %s: %s", want, doctor)
		}
	}
	dev.MustExec(t, target, "CREATE SCHEMA drover; CREATE TABLE drover.theirs (id int)")
	args := []string{"copy", source, target, "--exclude", "drover.*", "--data", t.TempDir()}
	refused(t, 4, args, "E4015", "table drover.theirs")
	dev.MustExec(t, target, "ALTER SCHEMA drover RENAME TO renamed")
	r := harness.MustRun(t, args...)
	for _, want := range []string{"table drover.orders", "W4014", "the source " + sorting} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("%q is not in the summary: %s", want, r)
		}
	}
	if got := dev.MustQuery(t, target, "SELECT to_regclass('t'), to_regclass('renamed.theirs'), to_regnamespace('drover')"); got != "t\trenamed.theirs\t\\N" {
		t.Errorf("the target has %s", got)
	}
}

// What is wrong with a folder is said of that folder: no other drover is in the way.
func TestRefused_AFolderThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]harness.Command{
		"name another directory with --data": {Args: []string{"up", "--data", filepath.Join(file, "x")}},
		"Set TMPDIR":                         {Args: []string{"up", "--data", t.TempDir()}, Env: []string{"TMPDIR=" + filepath.Join(file, "x")}},
	} {
		if r := harness.Start(t, c).Wait(); r.Code != 1 || !strings.Contains(r.Stderr, "E6005") || !strings.Contains(r.Stderr, want) || strings.Contains(r.Stderr, "End the other") {
			t.Errorf("want %q: %s", want, r)
		}
	}
}
