package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/deploy/dev"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// lockStep is a step of a late phase on a table of the pipeline.
func lockStep(id uint32, phase connectorv1.Phase, kind, object string, table uint32, sql ...string) *connectorv1.SchemaStep {
	return &connectorv1.SchemaStep{Id: id, Phase: phase, Kind: kind, Object: object, Table: table, Sql: sql}
}

// streams tells a target that changes are applied to it.
func streams(t *testing.T, url string) {
	t.Helper()
	s := NewSink()
	if _, err := s.Open(context.Background(), &connectorv1.OpenRequest{Url: url, Pipeline: "p"}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Recover(t.Context(), &connectorv1.RecoverRequest{Pipeline: "p", Epoch: 1, Create: true, InitialPosition: []byte("start")}); err != nil {
		t.Fatal(err)
	}
}

// inStream runs statements as the stream does: in one transaction, pausing before each. The stream must never be the
// one whom the server ends.
func inStream(t *testing.T, conn *pgx.Conn, pause time.Duration, statements ...string) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range statements {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Errorf("the stream is hindered: %s: %v", sql, err)
			_ = tx.Rollback(t.Context())
			return
		}
		time.Sleep(pause)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Errorf("the stream is hindered: %v", err)
	}
}

func openConn(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Rounds touch child and parent in both orders while keys, indexes, triggers, policies and owners are made: no round is ended by a
// deadlock, and every step is done in the end.
func TestSchema_StepsGiveWayToTheStream(t *testing.T) {
	url := dev.Database(t)
	dev.MustExec(t, url, `CREATE TABLE parent (id int PRIMARY KEY, n int); CREATE TABLE child (id int PRIMARY KEY, p int, n int); CREATE FUNCTION trg() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
		INSERT INTO parent SELECT i, i FROM generate_series(1, 1000) i; INSERT INTO child SELECT i, i, i FROM generate_series(1, 1000) i`)
	streams(t, url)
	var steps []*connectorv1.SchemaStep
	add := func(phase connectorv1.Phase, kind, object string, table uint32, sql ...string) *connectorv1.SchemaStep {
		steps = append(steps, lockStep(uint32(len(steps)+1), phase, kind, object, table, sql...))
		return steps[len(steps)-1]
	}
	for k := range 6 {
		named := func(s string) string { return fmt.Sprintf(s, k) }
		add(inIndexes, "index", named("public.child_n%d"), 1, named("CREATE INDEX child_n%d ON public.child (n)"))
		add(inIndexes, "unique constraint", named("public.parent.u%d"), 2, named("ALTER TABLE public.parent ADD CONSTRAINT u%d UNIQUE (n)"))
		add(inIndexes, "index", named("public.parent_n%d"), 2, named("CREATE INDEX parent_n%d ON public.parent (n)"), named("ALTER TABLE public.parent CLUSTER ON parent_n%d"))
		fk := add(inConstraints, "foreign key", named("public.child.fk%d"), 1, named("ALTER TABLE public.child ADD CONSTRAINT fk%d FOREIGN KEY (p) REFERENCES public.parent (id) NOT VALID"))
		add(inConstraints, foreignKeyRows, fk.Object, 1, named("ALTER TABLE public.child VALIDATE CONSTRAINT fk%d")).After = []uint32{fk.Id}
		add(inConstraints, "foreign key", named("public.parent.back%d"), 2, named("ALTER TABLE public.parent ADD CONSTRAINT back%d FOREIGN KEY (n) REFERENCES public.child (id)"))
		add(inFinish, "trigger", named("public.child.t%d"), 1, named("CREATE TRIGGER t%d BEFORE UPDATE ON public.child FOR EACH ROW EXECUTE FUNCTION public.trg()"))
		add(inFinish, "trigger", named("public.parent.t%d"), 2, named("CREATE TRIGGER t%d BEFORE UPDATE ON public.parent FOR EACH ROW EXECUTE FUNCTION public.trg()"))
		add(inFinish, "policy", named("public.child.p%d"), 1, named("CREATE POLICY p%d ON public.child USING (true)"))
		add(inFinish, "owner", "pg_monitor", 0, "ALTER TABLE public.parent OWNER TO pg_monitor", "ALTER TABLE public.child OWNER TO pg_monitor")
	}
	done := make(chan []*connectorv1.Problem)
	go func() {
		_, problems := applied(t, url, steps, 2)
		done <- problems
	}()
	conn, rounds := openConn(t, url), 0
	for end := time.Now().Add(60 * time.Second); ; rounds++ {
		inStream(t, conn, 30*time.Millisecond, "SET LOCAL session_replication_role = replica", "UPDATE child SET n = n WHERE id = 1", "UPDATE parent SET n = n WHERE id = 1")
		inStream(t, conn, 30*time.Millisecond, "SET LOCAL session_replication_role = replica", "UPDATE parent SET n = n WHERE id = 2", "UPDATE child SET n = n WHERE id = 2")
		select {
		case problems := <-done:
			t.Logf("%d rounds went on meanwhile", 2*(rounds+1))
			for _, p := range problems {
				t.Errorf("%s %s: %s", p.Code, p.Object, p.Reason)
			}
			return
		default:
		}
		if time.Now().After(end) {
			t.Fatal("the steps are not done after a minute")
		}
	}
}

// A target knows its position before tables are made, and no change is applied before their keys are: thousands of keys must
// not cost a commit each. What is made after the load does.
func TestSchema_KeysShareTransactionsBeforeTheStream(t *testing.T) {
	url := dev.Database(t)
	streams(t, url)
	const n = 3 * schemaGroup
	var early, late []*connectorv1.SchemaStep
	for i := range uint32(n) {
		name := fmt.Sprint("t", i)
		early = append(early, lockStep(3*i+1, inTables, "table", name, i+1, "CREATE TABLE public."+name+" (id int, n int)"),
			lockStep(3*i+2, inKeys, "primary key", name+"_pkey", i+1, "ALTER TABLE public."+name+" ADD PRIMARY KEY (id)"))
		if i < 10 {
			late = append(late, lockStep(3*i+3, inIndexes, "index", name+"_n", i+1, "CREATE INDEX ON public."+name+" (n)"))
		}
	}
	commits := func(steps []*connectorv1.SchemaStep) string {
		if _, problems := applied(t, url, steps, 2); len(problems) > 0 {
			t.Fatal(problems)
		}
		return dev.MustQuery(t, url, "SELECT count(DISTINCT xmin::text) FROM drover.step")
	}
	if got := commits(early); got != "6" {
		t.Errorf("%d tables and keys took %s transactions", n, got)
	}
	if got := commits(late); got != "16" {
		t.Errorf("with 10 indexes beside the stream %s transactions", got)
	}
}

// A step that takes longer than the server's patience with deadlocks holds its table for so long; it must not be in one
// transaction with a step that then has to wait.
func TestSchema_ALongStepHoldsNothingElseBesideTheStream(t *testing.T) {
	url := dev.Database(t)
	dev.MustExec(t, url, `CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, n int); INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1, 1);
		CREATE FUNCTION slow(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_sleep(0.8); RETURN 1; END'`)
	streams(t, url)
	steps := []*connectorv1.SchemaStep{
		lockStep(1, inIndexes, "index", "public.a_slow", 1, "CREATE INDEX a_slow ON public.a (public.slow(n))"),
		lockStep(2, inIndexes, "index", "public.b_n", 2, "CREATE INDEX b_n ON public.b (n)"),
	}
	conn := openConn(t, url)
	done := make(chan []*connectorv1.Problem)
	go func() {
		_, problems := applied(t, url, steps, 1)
		done <- problems
	}()
	busy := "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'drover/p/schema' AND datname = current_database() AND query LIKE '%a_slow%' AND state = 'active'"
	for end := time.Now().Add(30 * time.Second); dev.MustQuery(t, url, busy) == "0"; {
		if time.Now().After(end) {
			t.Fatal("the index is not built")
		}
	}
	inStream(t, conn, 0, "UPDATE b SET n = 2", "UPDATE a SET n = 2")
	select {
	case problems := <-done:
		if len(problems) > 0 {
			t.Error(problems)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("the steps are not done after a minute")
	}
}

// Sessions of one call that want each other's tables do not fail each other.
func TestSchema_KeysInOppositeDirectionsAreAllMade(t *testing.T) {
	url := dev.Database(t)
	var ddl strings.Builder
	var steps []*connectorv1.SchemaStep
	const tables = 20
	for i := range tables {
		fmt.Fprintf(&ddl, "CREATE TABLE t%d (id int PRIMARY KEY, r int); INSERT INTO t%[1]d SELECT i, i FROM generate_series(1, 3000) i;", i)
		for _, j := range []int{(i + 1) % tables, (i + tables - 1) % tables} {
			steps = append(steps, &connectorv1.SchemaStep{Id: uint32(len(steps) + 1), Phase: inConstraints, Kind: "foreign key", Object: fmt.Sprintf("public.t%d.f%d", i, j), Table: uint32(i + 1), Weight: heavy,
				Sql: []string{fmt.Sprintf("ALTER TABLE public.t%d ADD CONSTRAINT f%d FOREIGN KEY (r) REFERENCES public.t%[2]d (id)", i, j)}})
		}
	}
	dev.MustExec(t, url, ddl.String())
	start := time.Now()
	_, problems := applied(t, url, steps, 4)
	for _, p := range problems {
		t.Errorf("%s %s: %s", p.Code, p.Object, p.Reason)
	}
	t.Logf("%d keys in %v", len(steps), time.Since(start))
}

// Nobody waits five minutes for each of many steps when one session never lets go.
func TestSchema_WhatIsLockedForGoodFailsInBoundedTime(t *testing.T) {
	url := dev.Database(t)
	dev.MustExec(t, url, `CREATE TABLE held (id int PRIMARY KEY, n int); CREATE TABLE free (id int PRIMARY KEY, n int)`)
	holder := openConn(t, url)
	if _, err := holder.Exec(t.Context(), "BEGIN; LOCK TABLE held IN ROW EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	defer func(was time.Duration) { clashFor = was }(clashFor)
	clashFor = time.Second
	var steps []*connectorv1.SchemaStep
	for i := range 10 {
		steps = append(steps, lockStep(uint32(i+1), inIndexes, "index", fmt.Sprintf("public.i%d", i), 1, fmt.Sprintf("CREATE INDEX i%d ON public.held (n)", i)))
	}
	steps = append(steps, lockStep(11, inIndexes, "index", "public.free_n", 2, "CREATE INDEX free_n ON public.free (n)"))
	start := time.Now()
	_, problems := applied(t, url, steps, 2)
	if took := time.Since(start); took > 20*time.Second || len(problems) != 10 {
		t.Errorf("%d problems after %v", len(problems), took)
	}
	for _, p := range problems {
		if p.Code != "E2008" || !strings.HasPrefix(p.Object, "index public.i") {
			t.Errorf("%s %s: %s", p.Code, p.Object, p.Reason)
		}
	}
}

// A session of ours may build for longer than anybody is waited for: what it locks is waited for as long as it works.
func TestSchema_WaitsForItsOwnSessions(t *testing.T) {
	url := dev.Database(t)
	dev.MustExec(t, url, `CREATE TABLE t (id int NOT NULL, n int); INSERT INTO t VALUES (1, 1); CREATE TABLE other (id int);
		CREATE FUNCTION slow(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_sleep(6); RETURN 1; END'`)
	defer func(was time.Duration) { clashFor = was }(clashFor)
	clashFor = 3 * time.Second
	steps := []*connectorv1.SchemaStep{
		lockStep(1, inIndexes, "exclusion constraint", "public.t.x", 1, "ALTER TABLE public.t ADD CONSTRAINT x EXCLUDE (public.slow(n) WITH =)"),
		lockStep(2, inIndexes, "statistics", "public.st", 0, "CREATE STATISTICS public.st ON id, n FROM public.t"),
		lockStep(3, inIndexes, "index", "public.t_n", 1, "CREATE INDEX t_n ON public.t (n)"),
	}
	steps[0].Weight, steps[2].Weight = 2*heavy, heavy
	if _, problems := applied(t, url, steps, 3); len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
}
