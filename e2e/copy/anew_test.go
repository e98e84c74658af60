package copy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// recreate makes a database anew: under the same address there is another one then.
func recreate(t *testing.T, url string) {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	admin := strings.Replace(url, "/"+c.Database, "/postgres", 1)
	dev.MustExec(t, admin, "DROP DATABASE "+c.Database+" WITH (FORCE)", "CREATE DATABASE "+c.Database+" ENCODING 'UTF8' TEMPLATE template0")
}

// A copy that has failed begins anew with a target that was made anew. With another source it does so only when the target
// holds nothing of the former one.
func TestCopy_BeginsAnewWithDatabasesMadeAnew(t *testing.T) {
	source, target, data := dev.Database(t), dev.TargetDatabase(t), t.TempDir()
	const broken = `CREATE TABLE cfg (v int); CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000); CREATE FUNCTION getv() RETURNS int LANGUAGE sql IMMUTABLE
		AS 'SELECT count(*)::int FROM cfg'; CREATE INDEX one ON t ((getv() + a))`
	dev.MustExec(t, source, broken)
	refused(t, 1, []string{"copy", source, target, "--data", data}, "E4002", "index public.one")
	recreate(t, target)
	refused(t, 1, []string{"copy", source, target, "--data", data, "--progress", "none"}, "E4002", "index public.one")
	recreate(t, source)
	dev.MustExec(t, source, "CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (7)")
	refused(t, 4, []string{"copy", source, target, "--data", data, "--progress", "none"}, "E6018", "make the target database anew")
	recreate(t, target)
	harness.MustRun(t, "copy", source, target, "--data", data)
	harness.RequireEqual(t, source, target, harness.CompareOptions{})
}

// A follower that begins anew names the slot that it leaves at its former source. The same slot at the same source is used
// again.
func TestFollow_BeginsAnewAndNamesTheFormerSlot(t *testing.T) {
	source, target, data := dev.Database(t), dev.TargetDatabase(t), t.TempDir()
	dev.MustExec(t, source, "CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (7)")
	follow := func(from string, more ...string) *harness.Process {
		p := harness.Start(t, harness.Command{Args: []string{"copy", from, target, "--data", data, "--follow", "--name", "anew", "--progress", "plain"}})
		p.WaitForOutput(t, "phase=streaming", 60*time.Second)
		for _, text := range more {
			p.WaitForOutput(t, text, 10*time.Second)
		}
		awaitSame(t, source, target)
		p.Stop(20 * time.Second)
		return p
	}
	follow(source)
	dev.MustExec(t, source, "INSERT INTO t VALUES (8)")
	recreate(t, target)
	follow(source)
	former := one(t, source, "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
	dev.MustExec(t, source, "SELECT pg_drop_replication_slot('"+former+"')")
	recreate(t, source)
	recreate(t, target)
	dev.MustExec(t, source, "CREATE TABLE u (a int PRIMARY KEY); INSERT INTO u VALUES (9)")
	follow(source, "W6019", "slot "+former)
}

// What a file declares never begins anew by itself: it stops, and says what to do.
func TestApply_StopsAtAnotherDatabase(t *testing.T) {
	t.Parallel()
	source, target, data := dev.Database(t), dev.TargetDatabase(t), t.TempDir()
	dev.MustExec(t, source, "CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (7)")
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte(fmt.Sprintf("version: 1\nname: moved\nsource: %q\ntarget: %q\n", source, target)), 0o600); err != nil {
		t.Fatal(err)
	}
	up := func() *harness.Process {
		p := harness.Start(t, harness.Command{Args: []string{"up", "--data", data}})
		p.WaitForOutput(t, "drover is up", 20*time.Second)
		return p
	}
	p := up()
	harness.MustRun(t, "apply", "-f", file, "--data", data)
	awaitPhase(t, "moved", data, "streaming")
	p.Stop(20 * time.Second)
	recreate(t, target)
	up()
	harness.Eventually(t, 60*time.Second, func() error {
		r := harness.Run(t, "status", "moved", "--data", data)
		if !strings.Contains(r.Stdout+r.Stderr, "E6018") || !strings.Contains(r.Stdout+r.Stderr, "drover delete moved") {
			return fmt.Errorf("it does not say what to do: %s", r)
		}
		return nil
	})
	harness.MustRun(t, "delete", "moved", "--data", data, "--yes", "--confirm", "moved")
	harness.MustRun(t, "apply", "-f", file, "--data", data)
	awaitPhase(t, "moved", data, "streaming")
	awaitSame(t, source, target)
}
