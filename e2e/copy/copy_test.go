// Package copy_test runs the built binary against real servers, as a user would.
package copy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const small = `
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TABLE "Odd.Name ""é""" (id int PRIMARY KEY, m mood, a text[], j jsonb, n numeric, at timestamptz, b bytea, d date);
INSERT INTO "Odd.Name ""é""" SELECT i, CASE WHEN i % 2 = 0 THEN 'glad'::mood END, ARRAY['x', NULL, i::text], jsonb_build_object('i', i),
  CASE WHEN i % 10 = 0 THEN 'NaN' ELSE (i / 7.0)::numeric END, CASE WHEN i % 5 = 0 THEN 'infinity' ELSE now() END, decode(md5(i::text), 'hex'),
  CASE WHEN i % 3 = 0 THEN '-infinity'::date ELSE '0044-03-15 BC'::date END FROM generate_series(1, 1000) i;
CREATE TABLE parent (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE "C" UNIQUE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO parent (name) SELECT 'p' || i FROM generate_series(1, 5000) i;
CREATE TABLE child (parent bigint REFERENCES parent ON DELETE CASCADE, n int, doubled int GENERATED ALWAYS AS (n * 2) STORED, big text, PRIMARY KEY (parent, n));
INSERT INTO child (parent, n, big) SELECT i, n, repeat('long ', CASE WHEN i % 100 = 0 THEN 30000 ELSE 1 END) FROM generate_series(1, 5000) i, generate_series(1, 3) n;
CREATE TABLE part (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
INSERT INTO part SELECT i, '2020-01-01'::date + i % 700 FROM generate_series(1, 2000) i;
CREATE TABLE keyless (a int, b text); ALTER TABLE keyless REPLICA IDENTITY FULL;
INSERT INTO keyless SELECT i % 10, NULLIF('v' || i % 3, 'v0') FROM generate_series(1, 300) i;
CREATE TABLE words (w text COLLATE "en-x-icu" PRIMARY KEY, n int);
INSERT INTO words SELECT md5(i::text), i FROM generate_series(1, 2000) i;
CREATE TABLE empty (id uuid PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&));
CREATE INDEX child_big ON child (md5(big)) WHERE n > 1;
CREATE VIEW v AS SELECT p.name, count(*) FROM parent p JOIN child c ON c.parent = p.id GROUP BY 1;
CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM child;
CREATE FUNCTION noisy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := NEW.n; RETURN NEW; END $$;
CREATE TRIGGER t BEFORE INSERT ON child FOR EACH ROW EXECUTE FUNCTION noisy();
COMMENT ON TABLE parent IS 'has a comment';
ANALYZE;`

func pair(t *testing.T) (source, target string) {
	t.Helper()
	source, target = dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, source, small)
	return source, target
}

func TestCopy_MakesAnEqualDatabaseAndLeavesNothingBehind(t *testing.T) {
	source, target := pair(t)
	data := t.TempDir()
	r := harness.MustRun(t, "copy", source, target, "--data", data)
	if !strings.Contains(r.Stdout, "tables match (count + checksum)") {
		t.Errorf("summary: %s", r)
	}
	harness.RequireEqual(t, source, target, harness.CompareOptions{})
	if n := dev.MustQuery(t, target, "SELECT count(*) FROM pg_namespace WHERE nspname = 'drover'"); strings.TrimSpace(n) != "0" {
		t.Error("the schema drover stayed at the target")
	}
}

func TestCopy_DecodedLaneGivesTheSameTarget(t *testing.T) {
	source, target := pair(t)
	harness.MustRun(t, "copy", source, target, "--data", t.TempDir(), "--lane", "arrow")
	harness.RequireEqual(t, source, target, harness.CompareOptions{})
}

func TestCopy_RefusesATargetWithRows(t *testing.T) {
	source, target := pair(t)
	dev.MustExec(t, target, "CREATE TABLE parent (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text); INSERT INTO parent (name) VALUES ('mine')")
	r := harness.Run(t, "copy", source, target, "--data", t.TempDir())
	if r.Code == 0 || !strings.Contains(r.Stderr, "E5001") || !strings.Contains(r.Stderr, "--truncate") {
		t.Fatalf("%s", r)
	}
	if n := dev.MustQuery(t, target, "SELECT count(*) FROM parent"); strings.TrimSpace(n) != "1" {
		t.Error("somebody else's row is gone")
	}
}

// All tables are emptied together: they reference one another.
func TestCopy_TruncatesWhenAsked(t *testing.T) {
	source, target := pair(t)
	harness.MustRun(t, "copy", source, target, "--data", t.TempDir())
	dev.MustExec(t, target, "INSERT INTO parent (name) VALUES ('not at the source'); DELETE FROM keyless; DROP MATERIALIZED VIEW mv; DROP VIEW v; DROP FUNCTION noisy CASCADE")
	harness.MustRun(t, "copy", source, target, "--data", t.TempDir(), "--truncate")
	harness.RequireEqual(t, source, target, harness.CompareOptions{})
}

func TestFollow_StaysEqualUnderWritesAndResumesAfterKill(t *testing.T) {
	source, target := pair(t)
	data := t.TempDir()
	var writers []*harness.Writer
	for _, table := range []string{"child", "part", "words"} {
		writers = append(writers, harness.StartWriter(t, source, "public."+table, harness.WriterOptions{}))
	}
	cmd := harness.Command{Args: []string{"copy", source, target, "--follow", "--name", "f1", "--data", data}}
	first := cmd
	first.Env = []string{"DROVER_FAULT=load.before-read=sleep:3s@3+"} // in the midst of the loads, on whatever machine
	p := harness.Start(t, first)
	p.WaitForOutput(t, "load.before-read fires", 20*time.Second)
	p.Kill()
	p = harness.Start(t, cmd)
	awaitPhase(t, "f1", data, "streaming")
	requireCompared(t, "f1", data)
	p.Kill()
	forget(t, data) // the target's tokens are all that is left
	p = harness.Start(t, cmd)
	awaitPhase(t, "f1", data, "streaming")
	requireCompared(t, "f1", data)
	time.Sleep(time.Second)
	for _, w := range writers {
		w.Stop()
	}
	awaitEqual(t, source, target)
	p.Signal(t, syscall.SIGINT)
	if r := p.Wait(); r.Code != 130 {
		t.Errorf("stopped with %d: %s", r.Code, r.Stderr)
	}
	forget(t, data)
	if r := harness.Run(t, "copy", source, target, "--name", "f1", "--data", data); r.Code != 2 || !strings.Contains(r.Stderr, "E1001") {
		t.Errorf("a single load over a target that follows: %s", r)
	}
	forget(t, data)
	dev.MustExec(t, source, "SELECT pg_drop_replication_slot('drover_f1')")
	if r := harness.Run(t, cmd.Args...); r.Code == 0 || !strings.Contains(r.Stderr, "E3005") || !strings.Contains(r.Stderr, "fix") {
		t.Errorf("without its slot: %s", r)
	}
	awaitEqual(t, source, target) // nothing was emptied
}

func forget(t *testing.T, data string) {
	t.Helper()
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
}

func awaitPhase(t *testing.T, name, data, phase string) {
	t.Helper()
	harness.Eventually(t, 60*time.Second, func() error {
		r := harness.Run(t, "status", name, "--data", data, "-o", "json")
		var s struct{ Phase string }
		if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
			return fmt.Errorf("status: %s", r)
		}
		if s.Phase != phase {
			return fmt.Errorf("phase is %s: %s", s.Phase, r.Stdout)
		}
		return nil
	})
}

// requireCompared: source and target are found equal while the writers go on; when it is too busy, soon after it streams.
func requireCompared(t *testing.T, name, data string) {
	t.Helper()
	harness.Eventually(t, 60*time.Second, func() error {
		r := harness.Run(t, "status", name, "--data", data, "-o", "json")
		var s struct {
			Tables struct{ Total, Compared, Equal int }
		}
		if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil || s.Tables.Total == 0 || s.Tables.Equal != s.Tables.Total {
			return fmt.Errorf("not all tables were compared: %s", r)
		}
		return nil
	})
	logs := harness.Run(t, "logs", name, "--data", data).Stdout
	if !strings.Contains(logs, "tables are equal at ") {
		t.Errorf("the log does not tell where they are equal: %s", logs)
	}
}

// followed are the tables; the materialised view is a state of its own.
var followed = []string{"public.parent", "public.child", "public.part", "public.words", "public.keyless", "public.empty"}

func awaitEqual(t *testing.T, source, target string) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error {
		report, err := harness.Compare(t.Context(), source, target, harness.CompareOptions{Tables: followed, Sequences: harness.SequencesSkip, SkipSchema: true})
		if err == nil && !report.Equal() {
			err = fmt.Errorf("%s", report)
		}
		return err
	})
}
