package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// watchRig is a source of three tables as they were discovered, and one that is not logged.
func watchRig(t *testing.T) *rig {
	t.Helper()
	var tables []*rowv1.Table
	var ddl []string
	for i, name := range []string{"item", "other", "third", "loose"} {
		tables = append(tables, itemTable(uint32(i), name))
		ddl = append(ddl, strings.ReplaceAll(itemDDL, "item", name))
	}
	r := newRig(t, sdk.LanePGValues, tables, append(ddl, "ALTER TABLE loose SET UNLOGGED")...)
	for _, d := range found(t, r.url, nil).Tables {
		for i, table := range tables {
			if d.Source.Name == table.Source.Name {
				d.Index = table.Index
				tables[i] = d
			}
		}
	}
	return r
}

func (r *rig) publication() string { return ident(slotName(r.pipeline())) }

// ended is the error that the stream ends with.
func (r *rig) ended() *diag.Error {
	r.t.Helper()
	select {
	case err := <-r.done:
		e := diag.Find(err)
		if e == nil {
			r.t.Fatalf("the stream ended without a code: %v", err)
		}
		return e
	case <-time.After(30 * time.Second):
		r.t.Fatal("the stream goes on")
	}
	return nil
}

// What keeps changes from being sent, while a stream is idle; $P is its publication.
var kept = []struct {
	name, sql string
	code      diag.Code
	table     uint32 // plus 1
	also      []uint32
	passes    bool // a stream that starts afterwards cannot know
	why       string
}{
	{"dropped", "DROP TABLE other", diag.SchemaChanged, 2, nil, false, "not there any more"},
	{"several", "DROP TABLE third, item", diag.SchemaChanged, 1, []uint32{3}, false, "not there any more"},
	{"renamed", "ALTER TABLE other RENAME TO another", diag.SchemaChanged, 2, nil, false, "has another name"},
	{"moved", "CREATE SCHEMA s; ALTER TABLE other SET SCHEMA s", diag.SchemaChanged, 2, nil, false, "has another name"},
	{"remade", "DROP TABLE other; CREATE TABLE other (id int PRIMARY KEY, note text, big text)", diag.NotSent, 2, nil, false, "another one made"},
	{"remade and published", "DROP TABLE other; CREATE TABLE other (id int PRIMARY KEY, note text, big text); ALTER PUBLICATION $P ADD TABLE other",
		diag.NotSent, 2, nil, false, "another one made"},
	{"taken out", "ALTER PUBLICATION $P DROP TABLE other", diag.NotSent, 2, nil, false, "does not hold it"},
	{"put back", "ALTER PUBLICATION $P DROP TABLE other; ALTER PUBLICATION $P ADD TABLE other", diag.NotSent, 2, nil, true, "put back"},
	{"rows", "ALTER PUBLICATION $P SET TABLE item, other WHERE (id < 5), third", diag.NotSent, 2, nil, false, "leaves out"},
	{"columns", "ALTER PUBLICATION $P SET TABLE item, other (id, note), third", diag.NotSent, 2, nil, false, "leaves out"},
	{"column made again", "ALTER TABLE other DROP COLUMN note; ALTER TABLE other ADD COLUMN note text DEFAULT 'other'",
		diag.NotSent, 2, nil, false, "other values"},
	{"values altered", "ALTER TABLE other ALTER note TYPE text USING upper(note)", diag.NotSent, 2, nil, false, "other values"},
	{"types altered", "ALTER TABLE other ALTER note TYPE varchar USING upper(note)", diag.SchemaChanged, 2, nil, false, "another type"},
	{"names exchanged", "ALTER TABLE other RENAME note TO x; ALTER TABLE other RENAME big TO note; ALTER TABLE other RENAME x TO big; INSERT INTO other VALUES (2)",
		diag.NotSent, 2, nil, false, "other values"},
	{"logged", "ALTER TABLE loose SET LOGGED", diag.NotSent, 4, nil, false, "not logged when"},
	{"inserts", "ALTER PUBLICATION $P SET (publish = 'insert')", diag.NotSent, 0, nil, false, "every kind"},
	{"altered back", "ALTER PUBLICATION $P SET (publish = 'insert'); ALTER PUBLICATION $P SET (publish = 'insert, update, delete, truncate')",
		diag.NotSent, 0, nil, true, "altered back"},
	{"gone", "DROP PUBLICATION $P", diag.PublicationGone, 0, nil, false, "no such publication"},
	{"gone and made again", "DROP PUBLICATION $P; CREATE PUBLICATION $P FOR TABLE item, other, third", diag.PublicationGone, 0, nil, true, "another one made"},
}

func TestWatch_FindsWhatIsNotSentAnyMore(t *testing.T) {
	for _, k := range kept {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			r := watchRig(t)
			r.ack = false
			if dev.Major(t, r.url) < 15 && strings.Contains(k.why, "leaves out") {
				return // older servers publish whole tables only
			}
			r.run(r.start)
			dev.MustExec(t, r.url, "INSERT INTO other VALUES (1, 'a', NULL)")
			r.expect("I1 1 a -")
			dev.MustExec(t, r.url, strings.ReplaceAll(k.sql, "$P", r.publication()))
			verify := func(when string, e *diag.Error) {
				t.Helper()
				if e.Code.ID != k.code.ID || e.Table != k.table || !slices.Equal(e.Also, k.also) || !strings.Contains(e.Why, k.why) {
					t.Errorf("%s: got %v of %d and %v", when, e, e.Table, e.Also)
				}
			}
			verify("streaming", r.ended())
			if k.passes {
				return
			}
			r.last = nil
			r.run(r.start)
			verify("starting", r.ended())
		})
	}
}

// What is written just before the server stops to send it is brought before anything is found.
func TestWatch_WhatWasSentBeforeIsBrought(t *testing.T) {
	r := watchRig(t)
	r.run(r.start)
	dev.MustExec(t, r.url, "INSERT INTO other VALUES (1, 'first', NULL)")
	r.expect("I1 1 first -")
	dev.MustExec(t, r.url, "INSERT INTO other VALUES (2, 'last', NULL); DROP TABLE other")
	r.expect("I1 2 last -")
	if e := r.ended(); e.Table != 2 {
		t.Error(e)
	}
}

// What Drover does by itself, and what keeps nothing back, is no finding: looks go on over all of it.
func TestWatch_BearsWhatKeepsNothingBack(t *testing.T) {
	r := watchRig(t)
	conn := openConn(t, r.url)
	w := newWatch(slotName(r.pipeline()), []uint32{1})
	var err error
	if w.shelf, err = sdk.NewTables(r.tables, nil, w.expect); err != nil {
		t.Fatal(err)
	}
	role := dev.MustQuery(t, r.url, "SELECT current_user")
	for _, sql := range []string{
		"SELECT 1",
		"DROP TABLE other", // it is set aside
		strings.ReplaceAll(itemDDL, "item", "other"),
		"ALTER PUBLICATION $P ADD TABLE other",
		"ALTER PUBLICATION $P OWNER TO pg_monitor",
		"ALTER PUBLICATION $P OWNER TO " + ident(role),
		"CREATE TABLE fourth (id int); ALTER PUBLICATION $P ADD TABLE fourth",
		"DROP TABLE fourth",
		"TRUNCATE item; ALTER TABLE item ADD COLUMN more int; VACUUM FULL item",
		"TRUNCATE item; ALTER TABLE item ALTER note SET STATISTICS 7; VACUUM FULL item; CLUSTER item USING item_pkey; ANALYZE item",
		"ALTER TABLE item ALTER note SET DEFAULT 'x', ALTER note SET NOT NULL, SET (fillfactor = 50), ALTER note SET STORAGE MAIN",
		"ALTER TABLE item DROP COLUMN more; TRUNCATE item",
		"VACUUM FREEZE pg_attribute; VACUUM FULL pg_attribute",
		"VACUUM FREEZE pg_publication, pg_publication_rel",
		"VACUUM FULL pg_publication_rel",
		"ALTER TABLE third REPLICA IDENTITY FULL",
	} {
		for _, one := range strings.Split(sql, "; ") {
			dev.MustExec(t, r.url, strings.ReplaceAll(one, "$P", r.publication()))
		}
		w.announce(0, 2)
		if err := w.ensure(t.Context(), conn); err != nil {
			t.Fatalf("after %s: %v", sql, err)
		}
	}
	prepare := func(anew ...uint32) error {
		_, err := r.src.Prepare(t.Context(), &connectorv1.PrepareRequest{Pipeline: r.pipeline(), Tables: r.tables, Settle: true, Anew: anew})
		return err
	}
	if err := prepare(1); err != nil {
		t.Fatal(err)
	}
	if err := w.ensure(t.Context(), conn); err != nil {
		t.Fatalf("after the table was published anew: %v", err)
	}
	dev.MustExec(t, r.url, "ALTER PUBLICATION "+r.publication()+" DROP TABLE third")
	if e := diag.Find(prepare(1)); e == nil || e.Code.ID != diag.NotSent.ID || e.Table != 3 {
		t.Errorf("a sound table is published again in silence: %v", e)
	}
	dev.MustExec(t, r.url, "DROP TABLE other")
	if e := diag.Find(prepare(1, 2)); e == nil || e.Code.ID != diag.SchemaChanged.ID || e.Table != 2 {
		t.Errorf("the table that is gone is not named: %v", e)
	}
}

// Rows of a table that has another one's name are not taken by that name, and so not those of a table under a name that nobody
// wants: not even before the next look.
func TestStream_TakesNoRowByNameAlone(t *testing.T) {
	const swap = `BEGIN; ALTER TABLE item RENAME TO tmp; ALTER TABLE other RENAME TO item; ALTER TABLE tmp RENAME TO other; COMMIT; `
	for _, c := range []struct {
		name, sql string
		aside     []uint32
		tables    []uint32 // plus 1
	}{
		{"swapped", swap + "UPDATE item SET note = 'new' || note WHERE id < 5", nil, []uint32{1, 2}},
		{"truncated", swap + "TRUNCATE other", nil, []uint32{1, 2}},
		{"one set aside", swap + "UPDATE item SET note = 'new' || note", []uint32{0}, []uint32{2}},
		{"under a foreign name", "ALTER TABLE item RENAME TO tmp; UPDATE tmp SET note = 'new'", nil, []uint32{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := watchRig(t)
			r.aside = c.aside
			r.run(r.start)
			dev.MustExec(t, r.url, "INSERT INTO item VALUES (1, 'i', NULL); INSERT INTO other VALUES (1, 'o', NULL)")
			want := []string{"I0 1 i -", "I1 1 o -"}
			r.expect(want[len(c.aside):]...)
			dev.MustExec(t, r.url, c.sql)
			e := r.ended()
			// A look that comes in between finds that the tables were dropped and made again: it knows them by their names.
			if e.Code.ID != diag.SchemaChanged.ID && e.Code.ID != diag.NotSent.ID {
				t.Error(e)
			}
			if named := slices.Sorted(slices.Values(append(e.Also, e.Table))); !slices.Equal(named, c.tables) {
				t.Errorf("%v of %v", e, named)
			}
			if len(r.events) > 0 {
				t.Errorf("got rows: %q", r.events)
			}
		})
	}
}

// The log between the end of a publication and another of that name cannot be read: that is told as what it is.
func TestStream_SaysThatThePublicationWasGone(t *testing.T) {
	r := watchRig(t)
	dev.MustExec(t, r.url, "DROP PUBLICATION "+r.publication())
	dev.MustExec(t, r.url, "INSERT INTO item VALUES (1)")
	dev.MustExec(t, r.url, "CREATE PUBLICATION "+r.publication()+" FOR TABLE item, other, third")
	r.run(r.start)
	if dev.Major(t, r.url) >= 18 { // it passes over what it cannot judge, and only a stream that ran then can tell
		r.await("the end of the log", func() bool { return r.idle != nil })
		_ = r.stop() // it was cancelled
		return
	}
	if e := r.ended(); e.Code.ID != diag.PublicationGone.ID {
		t.Error(e)
	}
}

// BenchmarkWatch looks at 20,000 tables of which nothing has changed.
func BenchmarkWatch(b *testing.B) {
	const tables, batch = 20_000, 500
	url := dev.Database(b)
	dev.MustExec(b, url, "CREATE PUBLICATION many")
	w := newWatch("many", nil)
	for i := 0; i < tables; i += batch {
		dev.MustExec(b, url, fmt.Sprintf(`DO $$ BEGIN FOR i IN %d..%d LOOP EXECUTE 'CREATE TABLE t'||i||' (id int)'; EXECUTE 'ALTER PUBLICATION many ADD TABLE t'||i; END LOOP; END $$`, i, i+batch-1))
	}
	for i := range tables {
		w.expect(&rowv1.Table{Index: uint32(i), Source: &rowv1.TableRef{Schema: "public", Name: fmt.Sprintf("t%d", i)}})
	}
	conn, err := connect(b.Context(), Config{URL: url}, "watch", connectorv1.Role_ROLE_SOURCE)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	if err := w.ensure(b.Context(), conn); err != nil { // the first one reads the entries
		b.Fatal(err)
	}
	for b.Loop() {
		if err := w.ensure(b.Context(), conn); err != nil {
			b.Fatal(err)
		}
	}
}
