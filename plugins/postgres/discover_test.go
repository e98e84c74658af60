package postgres

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// found is everything Discover emits, in one.
func found(t testing.TB, url string, req *connectorv1.DiscoverRequest) *connectorv1.DiscoverResponse {
	t.Helper()
	s := NewSource()
	if _, err := s.Open(t.Context(), &connectorv1.OpenRequest{Url: url, Pipeline: "p"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if req == nil {
		req = &connectorv1.DiscoverRequest{}
	}
	all := &connectorv1.DiscoverResponse{}
	err := s.Discover(t.Context(), req, func(r *connectorv1.DiscoverResponse) error {
		all.Tables = append(all.Tables, r.Tables...)
		all.Steps = append(all.Steps, r.Steps...)
		all.NotCarried = append(all.NotCarried, r.NotCarried...)
		all.Problems = append(all.Problems, r.Problems...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// applied runs steps at a target and returns what was skipped and what failed.
func applied(t testing.TB, url string, steps []*connectorv1.SchemaStep, parallel int32) (skipped int, problems []*connectorv1.Problem) {
	t.Helper()
	s := NewSink()
	if _, err := s.Open(context.Background(), &connectorv1.OpenRequest{Url: url, Pipeline: "p"}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	answers := 0
	err := s.ApplySchema(t.Context(), &connectorv1.ApplySchemaRequest{Pipeline: "p", Epoch: 1, Steps: steps, Parallel: parallel},
		func(r *connectorv1.ApplySchemaResponse) error {
			answers++
			if r.Skipped {
				skipped++
			}
			if r.Problem != nil {
				problems = append(problems, r.Problem)
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	if answers != len(steps) {
		t.Errorf("%d answers for %d steps", answers, len(steps))
	}
	return skipped, problems
}

func TestDiscover_DescribesTables(t *testing.T) {
	url := dev.Database(t)
	dev.MustExec(t, url, dev.ForVersion(t, url, hostileSQL), `
		CREATE TABLE icu (k text COLLATE "und-x-icu" PRIMARY KEY); CREATE TABLE c_key (k text COLLATE "C" PRIMARY KEY, b int);
		CREATE TABLE composite (b uuid, a int, v text, PRIMARY KEY (a, b)); CREATE TABLE citext_key (k citext PRIMARY KEY);
		CREATE TABLE id_wins (a int PRIMARY KEY, b int NOT NULL); CREATE UNIQUE INDEX id_wins_b ON id_wins (b); ALTER TABLE id_wins REPLICA IDENTITY USING INDEX id_wins_b;
		CREATE TABLE partial (a int NOT NULL); CREATE UNIQUE INDEX ON partial (a) WHERE a > 0;
		CREATE TABLE deferred (a int NOT NULL UNIQUE DEFERRABLE)`)
	all := found(t, url, nil)
	byName := map[string]*rowv1.Table{}
	for i, tab := range all.Tables {
		if tab.Index != uint32(i) || len(tab.Key) == 0 != (tab.Gate == rowv1.GateMode_GATE_MODE_UNIT_FULL_ROW) {
			t.Errorf("%s: index %d at place %d, key %v, gate %v", tab.Source.Name, tab.Index, i, tab.Key, tab.Gate)
		}
		if (tab.Gate == rowv1.GateMode_GATE_MODE_KEYED) != (tab.GateReason == "") {
			t.Errorf("%s: gate %v, reason %q", tab.Source.Name, tab.Gate, tab.GateReason)
		}
		byName[tab.Source.Name] = tab
	}
	const keyed, unit, full = rowv1.GateMode_GATE_MODE_KEYED, rowv1.GateMode_GATE_MODE_UNIT, rowv1.GateMode_GATE_MODE_UNIT_FULL_ROW
	for name, want := range map[string]rowv1.GateMode{
		"icu": unit, "c_key": keyed, "composite": keyed, "citext_key": unit, "partial": full, "deferred": full, "everything": keyed,
		"nothing": full, "id_wins": keyed, "part_1": keyed, "unl": keyed, "no_id": full, "hashed_0": unit,
	} {
		if tab := byName[name]; tab == nil || tab.Gate != want {
			t.Errorf("%s: %v, want %v", name, tab, want)
		}
	}
	if byName["part"] != nil || byName["v1"] != nil || byName["mv1"] != nil {
		t.Error("a partitioned table or a view is listed as a table with rows")
	}
	if k := byName["composite"].Key; len(k) != 2 || k[0] != 1 || k[1] != 0 {
		t.Errorf("key order %v, want that of the primary key", k)
	}
	if w := byName["id_wins"]; w.Key[0] != 1 || w.PrimaryKey {
		t.Errorf("the named replica identity is not the key: %v", w)
	}
	textOnly := map[string]bool{}
	for _, col := range byName["everything"].Columns {
		if col.Name == "gen" {
			t.Error("a generated column moves")
		}
		textOnly[col.Name] = col.TextOnly
	}
	for _, name := range []string{"marr", "p", "parr", "r"} {
		if !textOnly[name] {
			t.Errorf("%s may travel in binary", name)
		}
	}
	for _, name := range []string{"m", "d", "l", "h", "ci", "fr", "tr", "u", "nonint", "j"} {
		if textOnly[name] {
			t.Errorf("%s must travel as text", name)
		}
	}
	if byName["everything"].Lane != sdk.LanePGCopyText || byName["composite"].Lane != sdk.LanePGCopyBinary {
		t.Error("lanes do not follow the columns")
	}
}

func TestDiscover_FiltersTables(t *testing.T) {
	url := dev.Database(t)
	dev.MustExec(t, url, `CREATE SCHEMA shop; CREATE SCHEMA "S.x"; CREATE TABLE shop.a (id serial PRIMARY KEY); CREATE TABLE shop.b (id int PRIMARY KEY REFERENCES shop.a, n int GENERATED ALWAYS AS IDENTITY);
		CREATE TABLE "S.x"."*" (i int); CREATE TABLE "S.x"."T""q" (i int); CREATE SEQUENCE lone; CREATE SEQUENCE unused; CREATE TABLE other (i int DEFAULT nextval('lone')); CREATE VIEW shop.v AS SELECT * FROM shop.b;
		CREATE TABLE p (i int) PARTITION BY LIST (i); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)`)
	for _, k := range []struct{ include, exclude, want string }{
		{"", "", `S.x.* S.x.T"q public.other public.p1 shop.a shop.b`},
		{"shop.*", "", "shop.a shop.b"},
		{"shop.*", "*.a", "shop.b"},
		{`"S.x"."*"`, "", "S.x.*"},
		{`"S.x"."T""q"`, "", `S.x.T"q`},
		{"sh?p.a", "", "shop.a"},
		{"other", "", "public.other"},
		{"public.p", "", "public.p1"},
		{"p1", "", "public.p1"},
	} {
		req := &connectorv1.DiscoverRequest{}
		if k.include != "" {
			req.Include = []string{k.include}
		}
		if k.exclude != "" {
			req.Exclude = []string{k.exclude}
		}
		all := found(t, url, req)
		var got []string
		for _, tab := range all.Tables {
			got = append(got, tab.Source.Schema+"."+tab.Source.Name)
		}
		if strings.Join(got, " ") != k.want || len(all.Problems) > 0 {
			t.Errorf("%+v: got %v, problems %v", k, got, all.Problems)
		}
		dst := dev.Database(t)
		if _, problems := applied(t, dst, all.Steps, 2); len(problems) > 0 {
			t.Errorf("%+v: %v", k, problems)
		}
	}
	var values []string
	for _, st := range found(t, url, &connectorv1.DiscoverRequest{Include: []string{"shop.*", "other"}}).Steps {
		if st.Kind == "sequence value" {
			values = append(values, st.Object)
		}
	}
	if slices.Sort(values); !slices.Equal(values, []string{"public.lone", "shop.a_id_seq", "shop.b_n_seq"}) {
		t.Errorf("chosen tables come with the values of %v", values)
	}
	all := found(t, url, &connectorv1.DiscoverRequest{Include: []string{"shop.*", "shpo.*"}})
	if len(all.Problems) != 1 || all.Problems[0].Code != diag.NothingToCopy.ID || all.Problems[0].Object != "tables › shpo.*" {
		t.Errorf("a pattern without a match is silent: %v", all.Problems)
	}
	if left := leftOver(found(t, url, &connectorv1.DiscoverRequest{Exclude: []string{"shop.a"}})); left["foreign key shop.b.b_id_fkey"] == "" || left["table shop.a"] == "" {
		t.Errorf("left out in silence: %v", left)
	}
}

func leftOver(all *connectorv1.DiscoverResponse) map[string]string {
	out := map[string]string{}
	for _, l := range all.NotCarried {
		out[l.Kind+" "+l.Object] = l.Reason + l.Todo
	}
	return out
}

func TestDiscover_NamesWhatIsNotCarried(t *testing.T) {
	url := dev.Database(t)
	space := "space_" + dev.MustQuery(t, url, "SELECT current_database()")
	dev.MustExec(t, url+"&options="+"-c%20allow_in_place_tablespaces%3Don", "CREATE TABLESPACE "+space+" LOCATION ''")
	defer dev.MustExec(t, url, "DROP TABLE spaced", "DROP TABLESPACE "+space)
	dev.MustExec(t, url, `CREATE TABLE spaced (id int, t text) TABLESPACE `+space+`; CREATE INDEX spaced_i ON spaced (id) TABLESPACE `+space+`;
		CREATE INDEX spaced_j ON spaced (id) TABLESPACE `+space+`; CREATE INDEX spaced_k ON spaced (id) TABLESPACE `+space+`; CREATE INDEX spaced_l ON spaced (id) TABLESPACE `+space+`;
		DO $x$ BEGIN EXECUTE format('ALTER DATABASE %I SET app.api_key = %L', current_database(), 'hush'); END $x$;
		CREATE EXTENSION file_fdw; CREATE SERVER fs FOREIGN DATA WRAPPER file_fdw; CREATE TABLE part (i int) PARTITION BY LIST (i);
		CREATE FOREIGN TABLE part_1 PARTITION OF part FOR VALUES IN (1) SERVER fs OPTIONS (filename '/dev/null'); CREATE MATERIALIZED VIEW over_part AS SELECT count(*) FROM part;
		CREATE MATERIALIZED VIEW over_view AS SELECT * FROM over_part; SELECT lo_create(0);
		SET allow_system_table_mods = on; INSERT INTO pg_seclabel VALUES ('int4'::regtype, 'pg_type'::regclass, 0, 'nobody', 'secret place')`)
	dev.MustExec(t, url, "CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere.invalid password=hush' PUBLICATION p WITH (connect = false)")
	defer dev.MustExec(t, url, "ALTER SUBSCRIPTION sub SET (slot_name = NONE)", "DROP SUBSCRIPTION sub")
	all := found(t, url, nil)
	left := leftOver(all)
	for _, want := range []string{"large objects 1 object", "subscription sub", "tablespace " + space, "setting database: app.api_key",
		"materialised view rows public.over_part", "materialised view rows public.over_view", "security label integer for nobody"} {
		if left[want] == "" {
			t.Errorf("%s is left out in silence; listed: %v", want, left)
		}
		if strings.Contains(left[want], "hush") {
			t.Errorf("a secret is shown: %s", left[want])
		}
	}
	if l := left["tablespace "+space]; !strings.Contains(l, "5 objects") || strings.Count(l, " SET TABLESPACE ") != 5 {
		t.Errorf("tablespaces: %s", l)
	}
	if _, problems := applied(t, dev.Database(t), all.Steps, 2); len(problems) > 0 {
		t.Error(problems)
	}
}

// What the server or an extension granted when it made something is not the user's.
func TestDiscover_AFreshDatabaseHasNothingToCarry(t *testing.T) {
	url := dev.Database(t)
	dev.MustExec(t, url, "CREATE EXTENSION pg_stat_statements; CREATE EXTENSION pg_buffercache")
	all := found(t, url, nil)
	for _, st := range all.Steps {
		// Until PostgreSQL 14 everybody may make things in the schema public, and is to at the target.
		everybody := dev.Major(t, url) < 15 && st.Kind == "grant" && slices.Equal(st.Sql, []string{"GRANT CREATE ON SCHEMA public TO PUBLIC"})
		if st.Kind != "extension" && st.Kind != "schema" && st.Kind != "comment" && !everybody {
			t.Errorf("%s %s: %v", st.Kind, st.Object, st.Sql)
		}
	}
	if len(all.NotCarried) > 0 {
		t.Errorf("left: %v", all.NotCarried)
	}
}

// A role that may read tables sees everything but what the server shows to few.
func TestDiscover_ARoleThatMayOnlyReadSeesTheCatalog(t *testing.T) {
	url := dev.Database(t)
	role := "reader_" + dev.MustQuery(t, url, "SELECT current_database()")
	newRole(t, url, role)
	defer dev.MustExec(t, url, "SET transaction_read_only = off; DROP OWNED BY "+role+"; DROP ROLE "+role)
	dev.MustExec(t, url, "GRANT pg_read_all_data TO "+role, dev.ForVersion(t, url, kindsSQL))
	all, read := found(t, url, nil), found(t, asRole(t, url, role), nil)
	have := map[string]bool{}
	for _, st := range read.Steps {
		have[st.Kind+" "+st.Object] = true
	}
	left := leftOver(read)
	for _, st := range all.Steps {
		if name := st.Kind + " " + st.Object; !have[name] && left[name] == "" {
			t.Errorf("%s is left out in silence", name)
		}
	}
	if left["user mapping postgres on here"] == "" {
		t.Errorf("a mapping whose options cannot be seen: %v", left)
	}
}
