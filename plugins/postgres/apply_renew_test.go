package postgres

import (
	"fmt"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	"github.com/droverdb/drover/plugins/sdk/keys"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// sums names large rows without their values.
const sums = "SELECT string_agg(id || ' ' || coalesce(a, '-') || ' ' || coalesce(length(b) || md5(b), '-'), ', ' ORDER BY id) FROM t"

// fromSource answers what the sink asks for until it commits, and tells how it was asked.
func (st *stream) fromSource(src *Source, tb *rowv1.Table) (asked string) {
	st.t.Helper()
	for {
		a := st.answer()
		need := a.GetReread()
		if need == nil {
			return asked
		}
		asked += fmt.Sprintf("[%s %d]", need.Lane, len(need.KeyBytes))
		req := &connectorv1.RereadRequest{Table: tb, SchemaVersion: need.SchemaVersion, Keys: need.Keys, Lane: need.Lane}
		err := src.Reread(st.t.Context(), req, func(f *sdk.Frame) error {
			if n := f.Payload.Len(); n > maxReread+maxRereadRow || n > 1<<20 && need.Lane != "" {
				st.t.Errorf("a frame of %d bytes", n)
			}
			select {
			case st.in <- f:
				return nil
			case err := <-st.done:
				st.done <- err
				return err
			}
		})
		if err != nil {
			st.t.Fatal(err)
		}
	}
}

func (st *stream) open(pos uint64, tb *rowv1.Table, rows ...change) {
	st.t.Helper()
	st.begin(pos)
	st.batch(tb, nil, rows...)
	st.end(pos, false)
}

// Rows of any size are sent again and written in pieces, whatever the encoding, and their coverage is kept with them.
func TestRenew_WritesRowsOfAnySize(t *testing.T) {
	const same = "CREATE TABLE t (id int PRIMARY KEY, a text, b text)"
	for name, c := range map[string]struct{ native, target, lane string }{
		"binary":              {arrowio.NativePGBinary, same, sdk.LanePGCopyBinary},
		"text":                {arrowio.NativePGText, same, sdk.LanePGCopyText},
		"decoded":             {sdk.LaneArrow, same, sdk.LanePGCopyBinary},
		"another target type": {arrowio.NativePGBinary, "CREATE TABLE t (id bigint PRIMARY KEY, a varchar(9), b text)", sdk.LanePGCopyText},
	} {
		t.Run(name, func(t *testing.T) {
			tb := testTable(0, "t", 1, "id int4", "a text", "b text")
			from := dev.Database(t)
			dev.MustExec(t, from, same, `INSERT INTO t VALUES (1, E'a\t\\n', repeat(E'y\\\n\t', 8000000)), (2, NULL, NULL), (3, 'c', repeat('z', 300000))`)
			src := &Source{cfg: Config{URL: from, Pipeline: "renew"}}
			url, s, st := startApply(t, c.native, c.target, tb)
			dev.MustExec(t, url, "INSERT INTO t VALUES (1, 'old', 'old'), (4, 'old', 'old'), (5, 'kept', 'kept')")
			st.open(10, tb, ch('R', "1", "1|-|-"), ch('U', "1", "1|covered|?"), ch('R', "2", "2|-|-"), ch('R', "4", "4|-|-"), ch('R', "7", "7|-|-"), ch('D', "7", "7"),
				ch('U', "5", "5|new|?"), ch('R', "3", "3|-|-"))
			if asked := st.fromSource(src, tb); asked != "["+c.lane+" 4]" {
				t.Errorf("asked %s", asked)
			}
			want := dev.MustQuery(t, from, sums)
			wantRows(t, url, sums, want+", 5 new "+dev.MustQuery(t, url, "SELECT length('kept') || md5('kept')"))
			wantRows(t, url, "SELECT count(*) FROM drover.key_coverage", "4")
			for _, restarted := range []bool{false, true} { // what was read includes this transaction
				if restarted {
					st.close()
					recovered(t, s, 2, nil)
					st = applyStream(t, s, 2, c.native, tb)
				}
				st.round(11, tb, ch('U', "1", "1|covered|?"), ch('D', "3", "3"))
				wantRows(t, url, sums, want+", 5 new "+dev.MustQuery(t, url, "SELECT length('kept') || md5('kept')"))
			}
			st.close()
		})
	}
}

// A row that is too large to be fetched is not: it is read again at the source, under its new key.
func TestRenew_InsteadOfFetching(t *testing.T) {
	for _, native := range []string{arrowio.NativePGBinary, arrowio.NativePGText, sdk.LaneArrow} {
		t.Run(native, func(t *testing.T) {
			const ddl = "CREATE TABLE t (id int PRIMARY KEY, a text UNIQUE, b text)"
			tb := testTable(0, "t", 1, "id int4", "a text", "b text")
			from := dev.Database(t)
			dev.MustExec(t, from, ddl, `INSERT INTO t VALUES (6, 'x', repeat('y', 20000000)), (7, 'z', repeat('s', 30)), (8, 'q', repeat('o', 17000000)), (9, 'p', 'i')`)
			src := &Source{cfg: Config{URL: from, Pipeline: "renew"}}
			url, _, st := startApply(t, native, ddl, tb)
			dev.MustExec(t, url, `INSERT INTO t VALUES (5, 'o', repeat('y', 20000000)), (4, 's', repeat('s', 30)), (8, 'p', repeat('o', 17000000)), (9, 'q', 'i')`)
			st.open(10, tb, ch('D', "4", "4"), moved(0, "7", "7|z|?"))
			if asked := st.fromSource(src, tb); asked != "" {
				t.Errorf("a small row is fetched, but asked %s", asked)
			}
			st.open(11, tb, ch('D', "5", "5"), moved(0, "6", "6|x|?"))
			if asked := st.fromSource(src, tb); asked != "["+map[bool]string{true: sdk.LanePGCopyText, false: sdk.LanePGCopyBinary}[native == arrowio.NativePGText]+" 1]" {
				t.Errorf("asked %s", asked)
			}
			st.open(12, tb, ch('U', "8", "8|q|?"), ch('U', "9", "9|p|?")) // they exchange unique values
			if asked := st.fromSource(src, tb); asked == "" {
				t.Error("a large row was fetched")
			}
			wantRows(t, url, sums, dev.MustQuery(t, from, sums))
			st.close()
		})
	}
}

// A question in one frame is answered with what is small, and names the rest.
func TestRenew_WhenAnAnswerWouldBeTooLarge(t *testing.T) {
	tb := testTable(0, "t", 1, "id int4", "a text", "b text")
	const ddl = "CREATE TABLE t (id int PRIMARY KEY, a text, b text)"
	from := dev.Database(t)
	dev.MustExec(t, from, ddl, `INSERT INTO t SELECT i, 'a' || i, repeat('y', i * 1000000) FROM generate_series(1, 6) i`)
	src := &Source{cfg: Config{URL: from, Pipeline: "renew"}}
	url, _, st := startApply(t, arrowio.NativePGBinary, ddl, tb)
	var rows []change
	for i := 1; i <= 6; i++ { // their old rows are nowhere
		old := fmt.Sprint(100 + i)
		key, err := keys.AppendPG(nil, 23, false, fmt.Append(nil, i)) // as the source makes it
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, ch('D', old, old), moved(len(rows), string(key), fmt.Sprintf("%d|n|?", i)))
	}
	st.open(10, tb, rows...)
	if asked := st.fromSource(src, tb); asked != "[ 6][pgcopy-binary 2]" {
		t.Errorf("asked %s", asked)
	}
	wantRows(t, url, sums, dev.MustQuery(t, from, sums))
	wantRows(t, url, "SELECT count(*) FROM drover.key_coverage", "6")
	st.close()
}

// A conflict runs the round again: the row is sent again, too, and a refusal for good leaves nothing behind.
func TestRenew_IsRepeatedWithItsRound(t *testing.T) {
	tb := testTable(0, "t", 1, "id int4", "a text", "b text")
	const ddl = "CREATE TABLE t (id int PRIMARY KEY, a text UNIQUE, b text)"
	from := dev.Database(t)
	dev.MustExec(t, from, ddl, "INSERT INTO t VALUES (1, 'y', repeat('b', 200000)), (2, 'x', '2'), (3, 'z', '3')")
	src := &Source{cfg: Config{URL: from, Pipeline: "renew"}}
	url, _, st := startApply(t, arrowio.NativePGBinary, ddl, tb)
	dev.MustExec(t, url, "INSERT INTO t VALUES (1, 'x', 'old'), (2, 'y', '2'), (3, 'w', '3')")
	st.open(10, tb, ch('R', "1", "1|-|-"), ch('U', "2", "2|x|?"))
	if asked := st.fromSource(src, tb); asked == "" {
		t.Error("nothing was read again")
	}
	wantRows(t, url, "SELECT string_agg(id || a || length(b), ' ' ORDER BY id) FROM t", "1y200000 2x1 3w1")
	dev.MustExec(t, from, "INSERT INTO t VALUES (4, 'refused', 'short')")
	dev.MustExec(t, url, "ALTER TABLE t ADD CHECK (a <> 'refused')")
	st.begin(20)
	st.batch(tb, nil, ch('U', "3", "3|z|?"), ch('R', "4", "4|-|-"))
	st.end(20, false)
	need := st.answer().GetReread()
	_ = src.Reread(t.Context(), &connectorv1.RereadRequest{Table: tb, SchemaVersion: 1, Keys: need.Keys, Lane: need.Lane}, func(f *sdk.Frame) error {
		st.send(f.Header, append([]byte(nil), f.Bytes()...))
		return nil
	})
	wantCode(t, st.fails(), diag.RowRefused)
	wantRows(t, url, "SELECT string_agg(id || a || length(b), ' ' ORDER BY id) FROM t", "1y200000 2x1 3w1")
}
