package copy_test

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// refusal is one way in which a change that streams cannot be applied. In what is run, T stands for the case's table.
type refusal struct {
	name   string
	table  string // what T is made of at the source; empty: usual
	target string // lets the target refuse the change
	change string // at the source
	code   string
	mend   string // at the target
	fails  string // the table that is set aside; empty: T
}

const (
	usual  = "(id int PRIMARY KEY, v text, n int)"
	insert = "INSERT INTO T VALUES (2, 'second', 700000)"
	many   = "INSERT INTO T SELECT i, 'many', 700000 FROM generate_series(2, 5000) i" // enough for COPY
)

// raises makes a trigger of T that fires for a replica too.
func raises(raise string) string {
	return "CREATE FUNCTION T_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.n > 1 THEN RAISE " + raise + `; END IF; RETURN new; END $$;
		CREATE TRIGGER g BEFORE INSERT ON T FOR EACH ROW EXECUTE FUNCTION T_f(); ALTER TABLE T ENABLE ALWAYS TRIGGER g`
}

// always makes the foreign keys of T hold for a replica, too.
const always = `DO $$ DECLARE g name; BEGIN FOR g IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'T'::regclass LOOP
	EXECUTE format('ALTER TABLE T ENABLE ALWAYS TRIGGER %I', g); END LOOP; END $$`

const noTrigger = "DROP FUNCTION T_f() CASCADE"

// refusals are what somebody may have done to a target whose changes stream.
var refusals = []refusal{
	{"checked", "", "ALTER TABLE T ADD CHECK (n < 10)", insert, "E5005", "ALTER TABLE T DROP CONSTRAINT T_n_check", ""},
	{"domain", "(id int PRIMARY KEY, v text, n small_number)", "ALTER DOMAIN small_number ADD CONSTRAINT small CHECK (VALUE < 10)", insert, "E5005", "ALTER DOMAIN small_number DROP CONSTRAINT small", ""},
	{"narrowed", "", "ALTER TABLE T ALTER n TYPE smallint", insert, "E5005", "ALTER TABLE T ALTER n TYPE int", ""},
	{"narrowed_copy", "", "ALTER TABLE T ALTER n TYPE smallint", many, "E5005", "ALTER TABLE T ALTER n TYPE int", ""},
	{"numbers", "(id int PRIMARY KEY, v text, n numeric)", "ALTER TABLE T ALTER n TYPE numeric(4,2)", insert, "E5005", "ALTER TABLE T ALTER n TYPE numeric", ""},
	{"shortened", "", "ALTER TABLE T ALTER v TYPE varchar(5)", insert, "E5005", "ALTER TABLE T ALTER v TYPE text", ""},
	{"shortened_copy", "", "ALTER TABLE T ALTER v TYPE varchar(3) USING 'x'", many, "E5005", "ALTER TABLE T ALTER v TYPE text", ""},
	{"indexed", "", "CREATE INDEX T_i ON T (v)", "INSERT INTO T SELECT 2, string_agg(md5(i::text), ''), 2 FROM generate_series(1, 1000) i", "E5005", "DROP INDEX T_i", ""},
	{"raised", "", raises("'no'"), insert, "E5005", noTrigger, ""},
	{"raised_state", "", raises("'no' USING ERRCODE = 'ZZ999'"), insert, "E5005", noTrigger, ""},
	{"raised_found", "", raises("no_data_found"), insert, "E5005", noTrigger, ""},
	{"raised_copy", "", raises("'no' USING ERRCODE = 'object_not_in_prerequisite_state'"), many, "E5005", noTrigger, ""},
	{"excluded", "(id int PRIMARY KEY, v text, n int)", "ALTER TABLE T ADD CONSTRAINT T_x EXCLUDE (v WITH =)", "INSERT INTO T VALUES (2, 'first', 1)", "E5005", "ALTER TABLE T DROP CONSTRAINT T_x", ""},
	{"referring", "", "ALTER TABLE T ADD FOREIGN KEY (n) REFERENCES T NOT VALID;" + always, insert, "E5005", "ALTER TABLE T DROP CONSTRAINT T_n_fkey", ""},
	{"referring_late", "", "ALTER TABLE T ADD FOREIGN KEY (n) REFERENCES T DEFERRABLE INITIALLY DEFERRED NOT VALID;" + always, insert, "E5005", "ALTER TABLE T DROP CONSTRAINT T_n_fkey", ""},
	{"made", "", "ALTER TABLE T DROP n; ALTER TABLE T ADD n int GENERATED ALWAYS AS (id) STORED", insert, "E4001", "ALTER TABLE T DROP n; ALTER TABLE T ADD n int", ""},
	{"needed", "", "ALTER TABLE T ALTER v SET NOT NULL", "INSERT INTO T VALUES (2, NULL, 1)", "E5005", "ALTER TABLE T ALTER v DROP NOT NULL", ""},
	{"more_needed", "", "ALTER TABLE T ADD mine int NOT NULL DEFAULT 1; ALTER TABLE T ALTER mine DROP DEFAULT", insert, "E5005", "ALTER TABLE T DROP mine", ""},
	{"parted", "(id int PRIMARY KEY, v text, n int) PARTITION BY RANGE (id); CREATE TABLE T_1 PARTITION OF T FOR VALUES FROM (0) TO (2); CREATE TABLE T_2 PARTITION OF T FOR VALUES FROM (2) TO (9)",
		"ALTER TABLE T DETACH PARTITION T_2; ALTER TABLE T ATTACH PARTITION T_2 FOR VALUES FROM (5) TO (9)", insert, "E5005",
		"ALTER TABLE T DETACH PARTITION T_2; ALTER TABLE T ATTACH PARTITION T_2 FOR VALUES FROM (2) TO (9)", "parted_2"},
	{"parted_here", "", "ALTER TABLE T RENAME TO T_x; CREATE TABLE T (id int PRIMARY KEY, v text, n int) PARTITION BY RANGE (id); ALTER TABLE T OWNER TO MOVER; CREATE TABLE T_1 PARTITION OF T FOR VALUES FROM (0) TO (2)",
		insert, "E5005", "DROP TABLE T; ALTER TABLE T_x RENAME TO T", ""},
	{"renamed", "", "ALTER TABLE T RENAME TO T_x", insert, "E4001", "ALTER TABLE T_x RENAME TO T", ""},
	{"column_gone", "", "ALTER TABLE T DROP n", insert, "E4001", "ALTER TABLE T ADD n int", ""},
	{"column_other", "", "ALTER TABLE T ALTER n TYPE date USING now()", insert, "E4001", "ALTER TABLE T ALTER n TYPE int USING 1", ""},
	{"viewed", "", "ALTER TABLE T RENAME TO T_x; CREATE VIEW T AS SELECT DISTINCT * FROM T_x", insert, "E5005", "DROP VIEW T; ALTER TABLE T_x RENAME TO T", ""},
	{"denied", "", "REVOKE ALL ON T FROM CURRENT_ROLE, MOVER", insert, "E2004", "GRANT ALL ON T TO MOVER", ""},
	{"denied_truncate", "", "REVOKE TRUNCATE ON T FROM CURRENT_ROLE, MOVER", "TRUNCATE T", "E2004", "GRANT ALL ON T TO MOVER", ""},
	{"secured", "", "ALTER TABLE T ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", insert, "E2004", "ALTER TABLE T DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY", ""},
	{"secured_copy", "", "ALTER TABLE T ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", many, "E5005", "ALTER TABLE T DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY", ""},
}

var itsTable = regexp.MustCompile(`\bT(_|\b)`)

// asideRun is one pipeline and its cases.
type asideRun struct {
	verbs
	mover string
	marks int
}

func (r *asideRun) of(c refusal, sql string) string {
	return strings.ReplaceAll(itsTable.ReplaceAllString(sql, c.name+"$1"), "MOVER", r.mover)
}

// mark shows that what does not fail goes on.
func (r *asideRun) mark(t *testing.T, of string) {
	t.Helper()
	r.marks++
	dev.MustExec(t, r.source, fmt.Sprintf("INSERT INTO mark VALUES (%d)", r.marks))
	harness.Eventually(t, 30*time.Second, func() error {
		if n := one(t, r.target, fmt.Sprintf("SELECT count(*) FROM mark WHERE id = %d", r.marks)); n != "1" {
			return fmt.Errorf("%s: the others do not go on: %s", of, harness.Run(t, "status", r.name, "--data", r.data))
		}
		return nil
	})
}

// fails has the change of a case set its table aside, and none but it.
func (r *asideRun) fails(t *testing.T, c refusal, others int) {
	t.Helper()
	dev.MustExec(t, r.target, r.of(c, c.target))
	dev.MustExec(t, r.source, r.of(c, c.change))
	harness.Eventually(t, 30*time.Second, func() error {
		_, codes := tableStates(t, r.name, r.data)
		if codes["public."+cmp.Or(c.fails, c.name)] != c.code || len(codes) != others+1 {
			return fmt.Errorf("%s: want %s, failed are %v: %s", c.name, c.code, codes, harness.Run(t, "status", r.name, "--data", r.data))
		}
		return nil
	})
}

// A target that is changed under a running pipeline: whatever refuses a change sets one table aside, and what was changed
// back is loaded again.
func TestAside_WhateverRefusesAChange(t *testing.T) {
	t.Parallel()
	r := &asideRun{verbs: verbs{name: "refusals", data: t.TempDir(), source: dev.Database(t), target: dev.Database(t)}}
	r.mover = "mover_" + one(t, r.target, "SELECT current_database()")
	dev.MustExec(t, r.target, "CREATE ROLE "+r.mover+" LOGIN", "GRANT SET ON PARAMETER session_replication_role TO "+r.mover,
		"GRANT CREATE ON SCHEMA public TO "+r.mover, "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO "+r.mover+"', current_database()); END $$")
	t.Cleanup(func() {
		for _, sql := range []string{"DROP OWNED BY MOVER CASCADE", "REVOKE SET ON PARAMETER session_replication_role FROM MOVER", "DROP ROLE MOVER"} {
			if err := dev.Exec(context.Background(), r.target, strings.ReplaceAll(sql, "MOVER", r.mover)); err != nil {
				t.Error(err)
			}
		}
	})
	dev.MustExec(t, r.source, "CREATE TABLE mark (id int PRIMARY KEY); CREATE DOMAIN small_number AS int")
	for _, c := range refusals {
		dev.MustExec(t, r.source, r.of(c, "CREATE TABLE T "+cmp.Or(c.table, usual)), r.of(c, "INSERT INTO T VALUES (1, 'first', 1)"))
	}
	p := harness.Start(t, harness.Command{Args: []string{"copy", r.source, strings.Replace(r.target, "postgres@", r.mover+"@", 1), "--follow", "--name", r.name, "--data", r.data}})
	awaitPhase(t, r.name, r.data, "streaming")
	for i, c := range refusals {
		dev.MustExec(t, r.source, r.of(c, "INSERT INTO T VALUES (0, 'zero', 0)")) // statements are prepared before anything is changed
		r.mark(t, c.name)
		r.fails(t, c, i)
		r.mark(t, c.name)
	}
	for _, c := range refusals {
		dev.MustExec(t, r.target, r.of(c, c.mend))
	}
	r.run(t, 0, "reload", r.name)
	awaitMended(t, r.name, r.data)
	p.Stop(10 * time.Second)
}
