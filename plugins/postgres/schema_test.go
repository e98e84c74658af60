package postgres

import (
	_ "embed"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

//go:embed testdata/hostile.sql
var hostileSQL string

// publishedTables is what a publication (p) holds. The server's own view lists generated columns, which it does not publish, until PostgreSQL 17.
const publishedTables = `(SELECT string_agg(concat_ws(' ', t.schemaname, t.tablename, to_jsonb(t) ->> 'rowfilter', to_jsonb(r) ->> 'prattrs'), ', ' ORDER BY t.schemaname, t.tablename)
	FROM pg_publication_tables t LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = format('%I.%I', t.schemaname, t.tablename)::regclass
	WHERE t.pubname = p.pubname AND t.schemaname <> 'drover')`

func dumped(t testing.TB, url string) []string {
	t.Helper()
	dump, err := dev.DumpSchema(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	// The order of equal objects follows their numbers: compare statements as a sorted list.
	lines := strings.Split(dump, ";\n")
	slices.Sort(lines)
	return lines
}

// differences lists statements that only one side has.
func differences(a, b []string) []string {
	var out []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, "- "+s)
		}
	}
	for _, s := range b {
		if !slices.Contains(a, s) {
			out = append(out, "+ "+s)
		}
	}
	return out
}

func TestSchema_HostileOneArrivesEqual(t *testing.T) {
	src, dst := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, src, dev.ForVersion(t, src, hostileSQL))
	all := found(t, src, nil)
	for _, st := range all.Steps {
		if holdsParts[st.Kind] && st.Phase != inTables {
			t.Errorf("%s %s is made only when its rows have passed", st.Kind, st.Object)
		}
	}
	skipped, problems := applied(t, dst, all.Steps, 2)
	for _, p := range problems {
		t.Errorf("%s %s: %s", p.Code, p.Object, p.Reason)
	}
	if skipped > 2 { // the owner is who connects, of what waits for the cutover too
		t.Errorf("%d steps skipped in an empty database", skipped)
	}
	for _, d := range differences(dumped(t, src), dumped(t, dst)) {
		t.Error(d)
	}
	handed := "SELECT i.identity, l.col, x.grantor::regrole, x.grantee, x.privilege_type, x.is_grantable FROM (" + aclSQL + `) l, aclexplode(l.acl) x, pg_identify_object(l.class, l.oid, 0) i
		WHERE x.grantor <> l.owner ORDER BY 1, 2, 3, 4, 5`
	if a, b := dev.MustQuery(t, src, handed), dev.MustQuery(t, dst, handed); a != b || strings.Count(a, "\n") != 5 {
		t.Errorf("who gave what differs:\n%s\n---\n%s", a, b)
	}
	publications := `SELECT (to_jsonb(p) - 'oid' - 'pubowner' - 'pubgencols')::text, obj_description(p.oid), ` + publishedTables + `
		FROM pg_publication p ORDER BY pubname`
	if a, b := dev.MustQuery(t, src, publications), dev.MustQuery(t, dst, publications); a != b || !strings.Contains(a, "everyone") {
		t.Errorf("publications differ:\n%s\n---\n%s", a, b)
	}
	values := `SELECT sequencename, last_value FROM pg_sequences WHERE schemaname NOT LIKE 'pg_%' ORDER BY 1`
	if a, b := dev.MustQuery(t, src, values), dev.MustQuery(t, dst, values); a != b {
		t.Errorf("sequence values differ:\n%s\n---\n%s", a, b)
	}
	again, problems := applied(t, dst, all.Steps, 2)
	resets := 0
	for _, st := range all.Steps {
		if st.Kind == "sequence value" {
			resets++
		}
	}
	if again != len(all.Steps)-resets || len(problems) > 0 {
		t.Errorf("second apply: %d of %d steps skipped, problems %v", again, len(all.Steps), problems)
	}
}

func TestSchema_ManyTablesAreCheap(t *testing.T) {
	src, dst := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, src, `DO $$ BEGIN FOR i IN 1..2000 LOOP
		EXECUTE format('CREATE TABLE t%s (id bigserial PRIMARY KEY, a text NOT NULL, b int DEFAULT 3)', i);
		EXECUTE format('CREATE INDEX t%s_a ON t%s (a)', i, i); IF i % 200 = 0 THEN COMMIT; END IF; END LOOP; END $$`)
	start := time.Now()
	all := found(t, src, nil)
	discovered := time.Since(start)
	start = time.Now() // the bound is loose because the machine may be busy; a round trip per table would still break it
	_, problems := applied(t, dst, all.Steps, 2)
	t.Logf("2000 tables: discovered in %v, %d steps applied in %v", discovered, len(all.Steps), time.Since(start))
	if len(problems) > 0 || len(all.Tables) != 2000 || discovered > 10*time.Second {
		t.Errorf("%d tables, discovered in %v, problems %v", len(all.Tables), discovered, problems)
	}
	for _, d := range differences(dumped(t, src), dumped(t, dst)) {
		t.Error(d)
		break
	}
	for _, p := range []connectorv1.Phase{inTables, inKeys, inIndexes, inFinish} {
		n := 0
		for _, st := range all.Steps {
			if st.Phase == p {
				n++
			}
		}
		if n < 2000 {
			t.Errorf("phase %s has %d steps", p, n)
		}
	}
}

func TestSchema_AFailedStepIsNamedAndOthersGoOn(t *testing.T) {
	dst := dev.TargetDatabase(t)
	step := func(id uint32, kind, object, sql string, after ...uint32) *connectorv1.SchemaStep {
		return &connectorv1.SchemaStep{Id: id, Phase: inTables, Kind: kind, Object: object, Sql: []string{sql}, After: after}
	}
	steps := []*connectorv1.SchemaStep{
		step(1, "table", "public.a", "CREATE TABLE a (i int)"),
		step(2, "table", "public.bad", "CREATE TABLE bad (i nonsense)"),
		step(3, "table", "public.b", "CREATE TABLE public.b (i int)"),
		step(4, "comment", "public.bad", "COMMENT ON TABLE bad IS 'x'", 2),
		step(5, "comment", "public.b", "COMMENT ON TABLE public.b IS 'x'", 3),
	}
	steps[0].Sql[0] = "CREATE TABLE public.a (i int)"
	_, problems := applied(t, dst, steps, 2)
	if len(problems) != 2 || problems[0].Object != "table public.bad" || problems[1].Object != "comment public.bad" || problems[0].Code != "E4002" {
		t.Errorf("problems: %v", problems)
	}
	if !strings.Contains(problems[0].Reason, "nonsense") || !strings.Contains(problems[1].Reason, "table public.bad") {
		t.Errorf("reasons do not tell: %v", problems)
	}
	if got := dev.MustQuery(t, dst, "SELECT obj_description('b'::regclass), to_regclass('a')"); got != "x\ta" {
		t.Errorf("others did not go on: %s", got)
	}
	steps[1].Sql[0] = "CREATE TABLE public.bad (i int)"
	steps[3].Sql[0] = "COMMENT ON TABLE public.bad IS 'x'"
	if skipped, problems := applied(t, dst, steps, 2); skipped != 3 || len(problems) != 0 {
		t.Errorf("after the correction: %d skipped, %v", skipped, problems)
	}
}

func TestSchema_AcceptsWhatTheUserMadeAlready(t *testing.T) {
	src, dst, other := dev.Database(t), dev.TargetDatabase(t), dev.TargetDatabase(t)
	const ddl = `CREATE EXTENSION hstore; CREATE SCHEMA s; CREATE TYPE s.e AS ENUM ('a', 'b'); CREATE TABLE s.p (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, h public.hstore, e s.e);
		CREATE TABLE s.c (id int PRIMARY KEY, p bigint REFERENCES s.p, t text UNIQUE, CHECK (id > 0)); CREATE INDEX ci ON s.c (p)`
	dev.MustExec(t, src, ddl)
	dev.MustExec(t, dst, ddl)
	all := found(t, src, nil)
	if _, problems := applied(t, dst, all.Steps, 2); len(problems) > 0 {
		t.Errorf("an equal schema is refused: %v", problems)
	}
	dev.MustExec(t, other, `CREATE SCHEMA s; CREATE TYPE s.e AS ENUM ('b'); CREATE TABLE s.c (id int PRIMARY KEY)`)
	_, problems := applied(t, other, all.Steps, 2)
	seen := map[string]string{}
	for _, p := range problems {
		seen[p.Object] = p.Reason
	}
	if !strings.Contains(seen["enum s.e"], "another definition") || !strings.Contains(seen["table s.c"], `it lacks column "p"`) {
		t.Errorf("differences are accepted: %v", seen)
	}
}

func TestSchema_RolesThatAreMissingCostAWarning(t *testing.T) {
	dst := dev.TargetDatabase(t)
	dev.MustExec(t, dst, "CREATE TABLE own (i int)")
	_, problems := applied(t, dst, []*connectorv1.SchemaStep{
		{Id: 1, Phase: inFinish, Kind: "owner", Object: "no one", Sql: []string{`ALTER TABLE public.own OWNER TO "no one"`}},
		{Id: 2, Phase: inFinish, Kind: "grant", Object: "nobody", Sql: []string{"GRANT SELECT ON public.own TO nobody"}, After: []uint32{1}},
		{Id: 3, Phase: inFinish, Kind: "grant", Object: "PUBLIC", Sql: []string{"GRANT SELECT ON public.own TO PUBLIC"}, After: []uint32{1}},
	}, 1)
	if len(problems) != 2 || !problems[0].Warning || problems[0].Object != "owner no one" || !strings.Contains(problems[0].Fix[0], `CREATE ROLE "no one"`) {
		t.Errorf("problems: %v", problems)
	}
	if got := dev.MustQuery(t, dst, "SELECT relacl::text FROM pg_class WHERE relname = 'own'"); !strings.Contains(got, "=r/postgres") {
		t.Errorf("other grants were not given: %s", got)
	}
}

func TestSchema_SequenceValuesCanBeSetAgain(t *testing.T) {
	src, dst := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, src, "CREATE SEQUENCE q; SELECT nextval('q')")
	applied(t, dst, found(t, src, nil).Steps, 1)
	for _, change := range []string{"SELECT setval('q', 500)", "SELECT setval('q', 1)", "SELECT setval('q', 9, false)"} {
		dev.MustExec(t, src, change)
		applied(t, dst, found(t, src, nil).Steps, 1)
		const state = "SELECT last_value, is_called FROM q"
		if a, b := dev.MustQuery(t, src, state), dev.MustQuery(t, dst, state); a != b {
			t.Errorf("after %s: %s at the source, %s at the target", change, a, b)
		}
	}
}
