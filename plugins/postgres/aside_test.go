package postgres

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// A table that is set aside is known to whoever asks the target, with nothing that would make it look loaded, until it is
// emptied. An older Drover's schema learns of it, too.
func TestReset_KeepsWhatIsSetAsideUntilItIsEmptied(t *testing.T) {
	url := dev.Database(t)
	dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE TABLE u (id int PRIMARY KEY, n int UNIQUE); INSERT INTO u VALUES (1)")
	a, b := testTable(0, "t", 1, "id int4"), testTable(1, "u", 1, "id int4", "n int4")
	s := openSink(t, url)
	recovered(t, s, 3, position(1, 1))
	dev.MustExec(t, url, "DROP TABLE drover.aside", `INSERT INTO drover.chunk (pipeline, chunk, epoch, written, rows, bytes, digest)
		SELECT '`+testPipeline+`', c, 1, true, 1, 1, 1 FROM unnest(ARRAY[0, 4294967296]) c`,
		`INSERT INTO drover.key_coverage VALUES ('`+testPipeline+`', 1, '\x01', '', '{}')`)
	s = openSink(t, url)
	reset := func(req *connectorv1.ResetRequest) (*connectorv1.ResetResponse, error) {
		req.Pipeline = testPipeline
		return s.Reset(t.Context(), req)
	}
	if r := recovered(t, s, 3, nil); len(r.Aside) != 0 || len(r.Written) != 2 {
		t.Fatal(r)
	}
	if _, err := reset(&connectorv1.ResetRequest{Epoch: 2, Aside: []*connectorv1.Aside{{Table: 1}}}); err == nil {
		t.Fatal("an older epoch sets a table aside")
	}
	if _, err := reset(&connectorv1.ResetRequest{Epoch: 3, Aside: []*connectorv1.Aside{{Table: 1, Reason: []byte("why")}}}); err != nil {
		t.Fatal(err)
	}
	r := recovered(t, s, 4, nil)
	if len(r.Aside) != 1 || r.Aside[0].Table != 1 || string(r.Aside[0].Reason) != "why" || len(r.Written) != 1 || r.Written[0].Chunk != 0 {
		t.Fatal(r)
	}
	wantRows(t, url, "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM u), (SELECT count(*) FROM drover.key_coverage)", "1\t1\t0")
	got, err := reset(&connectorv1.ResetRequest{Epoch: 4, Tables: []*rowv1.Table{b}, Fit: true})
	if err != nil || len(got.Unique) != 1 || got.Unique[0] != 1 {
		t.Fatal(got, err)
	}
	if r := recovered(t, s, 4, nil); len(r.Aside) != 0 {
		t.Fatal(r)
	}
	wantRows(t, url, "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM u)", "1\t0")
	if got, err := reset(&connectorv1.ResetRequest{Epoch: 4, Tables: []*rowv1.Table{a}, Fit: true}); err != nil || len(got.Unique) != 0 {
		t.Fatal(got, err)
	}
}

// A table that could not take its rows is not emptied, and the SQL that helps is told.
func TestReset_RefusesATableThatCannotTakeItsRows(t *testing.T) {
	url := dev.Database(t)
	dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY, gone text NOT NULL, free text, made int GENERATED ALWAYS AS (id) STORED); INSERT INTO t VALUES (1, 'x')")
	s := openSink(t, url)
	recovered(t, s, 1, position(1, 1))
	for want, tb := range map[string]*rowv1.Table{
		`ALTER TABLE "public"."t" ADD COLUMN "fresh" numeric`: testTable(7, "t", 1, "id int4", "fresh numeric"),
		`ALTER TABLE "public"."t" DROP COLUMN "gone"`:         testTable(7, "t", 1, "id int4"),
		`ALTER TABLE "public"."t" ALTER COLUMN "free" TYPE`:   testTable(7, "t", 1, "id int4", "gone text", "free varchar"),
		"pg_dump --schema-only -t 'public.nowhere'":           testTable(7, "nowhere", 1, "id int4"),
	} {
		_, err := s.Reset(t.Context(), &connectorv1.ResetRequest{Pipeline: testPipeline, Epoch: 1, Tables: []*rowv1.Table{tb}, Fit: true, Retyped: []string{"free"}})
		wantCode(t, err, diag.SchemaChanged)
		if e := diag.Find(err); !strings.Contains(strings.Join(e.Fixes, "\n"), want) || e.Table != 8 {
			t.Errorf("want %s, got table %d: %q", want, e.Table, e.Fixes)
		}
	}
	wantRows(t, url, "SELECT count(*) FROM t", "1")
}

// Whatever keeps one table from going on names it; what concerns all does not.
func TestApply_NamesTheTableThatItFailsFor(t *testing.T) {
	for name, c := range map[string]struct {
		ddl  string
		code diag.Code
		rows []change
	}{
		"check":             {"ALTER TABLE t ADD CHECK (a <> 'bad')", diag.RowRefused, []change{ch('I', "1", "1|bad")}},
		"trigger":           {"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'; CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE t ENABLE ALWAYS TRIGGER g", diag.RowRefused, []change{ch('I', "1", "1|x")}},
		"narrower":          {"ALTER TABLE t ALTER a TYPE varchar(2)", diag.RowRefused, []change{ch('I', "1", "1|long")}},
		"taken":             {"CREATE UNIQUE INDEX ON t (a); INSERT INTO t VALUES (9, 'mine')", diag.RowRefused, []change{ch('I', "1", "1|mine")}},
		"index":             {"CREATE INDEX ON t (a)", diag.RowRefused, []change{ch('I', "1", "1|"+incompressible())}},
		"no such row":       {"SELECT", diag.MissingRow, []change{ch('U', "5", "5|?")}},
		"dropped":           {"DROP TABLE t", diag.SchemaChanged, []change{ch('I', "1", "1|x")}},
		"without a column":  {"ALTER TABLE t DROP a", diag.SchemaChanged, []change{ch('I', "1", "1|x")}},
		"truncated, and no": {"DROP TABLE t", diag.SchemaChanged, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tb := testTable(6, "t", 1, "id int4", "a text")
			url, _, st := startApply(t, arrowio.NativePGBinary, "CREATE TABLE t (id int PRIMARY KEY, a text)", tb)
			if strings.HasPrefix(name, "truncated") {
				time.Sleep(200 * time.Millisecond) // its layout is looked up first
			}
			dev.MustExec(t, url, c.ddl)
			if c.rows == nil {
				st.begin(10, &rowv1.Truncate{Table: 6, All: true})
			} else {
				st.begin(10)
				st.batch(tb, nil, c.rows...)
			}
			st.end(10, false)
			err := st.fails()
			wantCode(t, err, c.code)
			if e := diag.Find(err); e.Table != 7 || !strings.Contains(e.Where, "public.t") {
				t.Errorf("it names table %d, %s", e.Table, e.Where)
			}
		})
	}
}

// incompressible is a text that no index of the server takes.
func incompressible() string {
	rnd := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 9000)
	for i := range b {
		b[i] = byte('a' + rnd.IntN(26))
	}
	return string(b)
}

// Nothing of a table that is set aside is read, whatever becomes of it, but its transactions are part of rounds.
func TestStream_MentionsTransactionsOfTablesSetAside(t *testing.T) {
	r := newRig(t, sdk.LanePGValues, []*rowv1.Table{itemTable(0, "item"), itemTable(1, "other")}, itemDDL, strings.ReplaceAll(itemDDL, "item", "other"))
	r.aside, r.ack = []uint32{1}, false
	r.run(r.start)
	dev.MustExec(t, r.url, "INSERT INTO other VALUES (1, 'a', 'b')")
	r.await("a round without rows", func() bool { return r.rounds == 1 && len(r.events) == 0 })
	dev.MustExec(t, r.url, "ALTER TABLE other ADD COLUMN more int; UPDATE other SET more = 1; TRUNCATE other", "TRUNCATE other", "DELETE FROM other")
	r.await("rounds without rows", func() bool { return r.rounds >= 2 && r.ids >= 3 && len(r.events) == 0 })
	dev.MustExec(t, r.url, "BEGIN; INSERT INTO other VALUES (2); INSERT INTO item VALUES (1, 'x', NULL); COMMIT", "TRUNCATE item, other")
	r.expect("I0 1 x -", "T0")
	_ = r.stop() // it was cancelled
	r.aside = nil
	r.run(r.start)
	select {
	case err := <-r.done:
		if e := diag.Find(err); e == nil || e.Code.ID != diag.SchemaChanged.ID || e.Table != 2 {
			t.Errorf("the change of its columns does not name the table: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("without being set aside it goes on over the change of its columns")
	}
}

// Of several tables that are read together the one that is gone is named.
func TestOpenSnapshot_NamesTheTableThatIsGone(t *testing.T) {
	r := newRig(t, sdk.LanePGValues, []*rowv1.Table{itemTable(0, "item"), itemTable(1, "other")}, itemDDL, strings.ReplaceAll(itemDDL, "item", "other"))
	dev.MustExec(t, r.url, "DROP TABLE other")
	err := r.src.OpenSnapshot(t.Context(), &connectorv1.OpenSnapshotRequest{Tables: r.tables}, nil)
	if e := diag.Find(err); e == nil || e.Code.ID != diag.SchemaChanged.ID || e.Table != 2 || !strings.Contains(e.Where, "public.other") {
		t.Error(err)
	}
}

// Who waits until all has settled waits for transactions that run, and publishes a table that was made anew.
func TestPrepare_SettlesAndPublishesWhatWasMadeAnew(t *testing.T) {
	r := newRig(t, sdk.LanePGValues, []*rowv1.Table{itemTable(0, "item")}, itemDDL)
	dev.MustExec(t, r.url, "DROP TABLE item; "+itemDDL)
	tx := openConn(t, r.url)
	if _, err := tx.Exec(t.Context(), "BEGIN; INSERT INTO item VALUES (1, 'before it was published', NULL)"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := r.src.Prepare(t.Context(), &connectorv1.PrepareRequest{Pipeline: r.pipeline(), Tables: r.tables, Settle: true, Anew: []uint32{0}})
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	if _, err := tx.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.ack = false
	r.run(r.start)
	dev.MustExec(t, r.url, "INSERT INTO item VALUES (2, 'after', NULL)")
	r.await("the change of the new table", func() bool { return len(r.events) > 0 && r.events[len(r.events)-1] == "I0 2 after -" })
	_ = r.stop() // it was cancelled
}
