package postgres

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const allRows = "SELECT string_agg(x.r, ' ' ORDER BY x.r) FROM (SELECT t::text AS r FROM t) x"

func startApply(t *testing.T, native, ddl string, tb *rowv1.Table) (string, *Sink, *stream) {
	t.Helper()
	url := dev.Database(t)
	dev.MustExec(t, url, ddl)
	s := openSink(t, url)
	recovered(t, s, 1, position(1, 1))
	return url, s, applyStream(t, s, 1, native, tb)
}

func TestApply_NetEffect(t *testing.T) {
	for _, native := range []string{arrowio.NativePGBinary, arrowio.NativePGText, sdk.LaneArrow} {
		t.Run(native, func(t *testing.T) {
			tb := testTable(0, "t", 1, "id int4", "a text", "b varchar")
			url, s, st := startApply(t, native, "CREATE TABLE t (id int PRIMARY KEY, a text, b varchar(10))", tb)
			st.round(10, tb, ch('I', "1", "1|x|y"), ch('I', "2", "2|x|-"), ch('U', "2", "2|?|z"), ch('I', "3", "3|q|q"), ch('D', "3", "3"))
			wantRows(t, url, allRows, "(1,x,y) (2,x,z)")
			ack := st.round(20, tb, ch('U', "1", "1|?|n"), ch('U', "2", "2|m|?"), ch('D', "9", "9"), ch('D', "2", "2"), ch('I', "2", "2|new|-"), ch('I', "4", "4|k|l"))
			wantRows(t, url, allRows, "(1,x,n) (2,new,) (4,k,l)")
			if !bytes.Equal(ack.Position, position(20, 21)) || ack.Rows != 6 {
				t.Errorf("ack %v", ack)
			}
			st.close()
			if r := recovered(t, s, 2, nil); !bytes.Equal(r.Position, position(20, 21)) || r.Epoch != 2 || !r.Found {
				t.Errorf("recovered %v", r)
			}
		})
	}
}

func TestApply_MovesCarryWhatIsMissing(t *testing.T) {
	for _, native := range []string{arrowio.NativePGBinary, arrowio.NativePGText, sdk.LaneArrow} {
		t.Run(native, func(t *testing.T) { movesCarry(t, native) })
	}
}

func movesCarry(t *testing.T, native string) {
	tb := testTable(0, "t", 1, "id int4", "a text", "b text")
	url, _, st := startApply(t, native, "CREATE TABLE t (id int PRIMARY KEY, a text, b text)", tb)
	dev.MustExec(t, url, "INSERT INTO t VALUES (1,'a1','b1'),(2,'a2','b2'),(5,'a5','b5')")
	st.round(10, tb, ch('D', "1", "1"), moved(0, "3", "3|n|?"), ch('D', "3", "3"), moved(2, "4", "4|?|?"))
	wantRows(t, url, allRows, "(2,a2,b2) (4,n,b1) (5,a5,b5)")
	st.round(20, tb, ch('U', "2", "2|?|c2"), ch('D', "2", "2"), moved(1, "7", "7|?|?"), ch('D', "5", "5"), moved(3, "2", "2|?|x"))
	wantRows(t, url, allRows, "(2,a5,x) (4,n,b1) (7,a2,c2)")
	st.close()
}

// A table that was analysed while its rows were not visible has many pages and no rows, says the planner, and would like
// to look through all that was sent for each row of it.
func TestApply_LooksRowsUpWhateverTheStatistics(t *testing.T) {
	tb := testTable(0, "t", 2, "a int4", "k text", "v text")
	url, _, st := startApply(t, arrowio.NativePGBinary, `CREATE DOMAIN kind AS int; CREATE TABLE t (a kind, k varchar(9), v text, PRIMARY KEY (k, a));
		INSERT INTO t SELECT 1, i, repeat('v', 500) FROM generate_series(1, 2000) i; ANALYZE t; UPDATE pg_class SET reltuples = 0 WHERE relname = 't'`, tb)
	var updates, deletes []change
	for i := range 100 {
		k := fmt.Sprintf("1|%d", 1+i*7)
		updates, deletes = append(updates, ch('U', k, k+"|new")), append(deletes, ch('D', k, k))
	}
	st.round(10, tb, updates...)
	wantRows(t, url, "SELECT count(*) FROM t WHERE v = 'new'", "100")
	st.round(20, tb, deletes...)
	wantRows(t, url, "SELECT count(*) FROM t", "1900")
	st.close()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) { // the server counts a little later
		passes := strings.TrimSpace(dev.MustQuery(t, url, "SELECT idx_scan FROM pg_stat_user_indexes WHERE relname = 't'"))
		if n, err := strconv.Atoi(passes); err == nil && n >= 200 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("200 rows were looked up in %s passes over the index", passes)
		}
	}
}

func TestApply_AsksForARereadAndKeepsItsCoverage(t *testing.T) {
	tb := testTable(0, "t", 1, "id int4", "a text", "b text")
	url, s, st := startApply(t, arrowio.NativePGBinary, "CREATE TABLE t (id int PRIMARY KEY, a text, b text)", tb)
	st.rereadThree(10, tb)
	wantRows(t, url, allRows, "(3,later,val) (8,p,q)")
	st.round(11, tb, ch('U', "3", "3|covered|?"))
	wantRows(t, url, allRows, "(3,later,val) (8,p,q)")
	st.close()

	recovered(t, s, 2, nil)
	st = applyStream(t, s, 2, arrowio.NativePGBinary, tb)
	st.round(12, tb, ch('U', "3", "3|not covered|?"))
	wantRows(t, url, allRows, `(3,"not covered",val) (8,p,q)`)
	st.round(40, tb, ch('D', "8", "8"))
	st.round(41, tb, ch('D', "7", "7"))
	wantRows(t, url, "SELECT count(*) FROM drover.key_coverage", "0")
	st.close()
}

func TestApply_UniqueSwapAndRowsThatAreThere(t *testing.T) {
	tb := testTable(0, "t", 1, "id int4", "u text", "b text")
	url, _, st := startApply(t, arrowio.NativePGBinary, "CREATE TABLE t (id int PRIMARY KEY, u text UNIQUE, b text)", tb)
	dev.MustExec(t, url, "INSERT INTO t VALUES (1,'x','1'),(2,'y','2')")
	st.round(10, tb, ch('U', "1", "1|y|?"), ch('U', "2", "2|x|?"))
	wantRows(t, url, allRows, "(1,y,1) (2,x,2)")
	st.round(20, tb, ch('I', "1", "1|w|again"), ch('U', "6", "6|full|row"))
	wantRows(t, url, allRows, "(1,w,again) (2,x,2) (6,full,row)")
	st.begin(30)
	st.batch(tb, nil, ch('I', "7", "7|n|n"), ch('U', "9", "9|?|partial"))
	st.end(30, false)
	wantCode(t, st.fails(), diag.MissingRow)
	wantRows(t, url, allRows, "(1,w,again) (2,x,2) (6,full,row)")
}

func TestApply_HardTables(t *testing.T) {
	tb := testTable(0, `we"ird Tab'le`, 2, "k\"1 int8", "K2 text", "ident int4", "arr _int4")
	tb.Columns[0].Name, tb.Columns[1].Name = `k"1`, `Drop; --`
	url, _, st := startApply(t, arrowio.NativePGBinary, `CREATE TABLE "we""ird Tab'le" ("k""1" bigint GENERATED ALWAYS AS IDENTITY, "Drop; --" varchar(5),
		ident int GENERATED BY DEFAULT AS IDENTITY, arr int[], gen int GENERATED ALWAYS AS (ident * 2) STORED, PRIMARY KEY ("k""1", "Drop; --"))`, tb)
	q := `SELECT string_agg(x.r, ' ' ORDER BY x.r) FROM (SELECT t::text AS r FROM "we""ird Tab'le" t) x`
	st.round(10, tb, ch('I', "1", "1|a|5|3"), ch('I', "2", "2|b|6|-"))
	wantRows(t, url, q, `(1,a,5,"{3,3}",10) (2,b,6,,12)`)
	st.round(20, tb, ch('U', "1", "1|a|7|4"), ch('D', "2", "2|b"), ch('I', "2", "2|b|9|1"))
	wantRows(t, url, q, `(1,a,7,"{4,4}",14) (2,b,9,"{1,1}",18)`)
	st.close()
}

func TestApply_IdentityAlwaysOutsideTheKey(t *testing.T) {
	tb := testTable(0, "t", 1, "id int4", "n int8")
	url, _, st := startApply(t, arrowio.NativePGText, "CREATE TABLE t (id int PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY)", tb)
	st.round(10, tb, ch('I', "1", "1|100"), ch('I', "2", "2|200"))
	st.round(20, tb, ch('U', "1", "1|101"))
	wantRows(t, url, allRows, "(1,101) (2,200)")
	st.close()
}

func TestApply_PiecesStayInOneTransaction(t *testing.T) {
	tb := testTable(0, "t", 1, "id int4", "u text")
	url, s, st := startApply(t, arrowio.NativePGBinary, "CREATE TABLE t (id int PRIMARY KEY, u text UNIQUE)", tb)
	st.begin(10)
	st.batch(tb, nil, ch('I', "1", "1|x"), ch('I', "2", "2|y"))
	st.end(10, true)
	st.begin(10)
	st.batch(tb, nil, ch('U', "1", "1|y"), ch('U', "2", "2|x"))
	st.end(10, true)
	wantRows(t, url, "SELECT count(*) FROM t", "0")
	st.begin(10)
	st.batch(tb, nil, ch('I', "3", "3|z"))
	st.end(10, false)
	if ack := st.committed(); ack.Rows != 5 {
		t.Errorf("%d rows acknowledged", ack.Rows)
	}
	wantRows(t, url, allRows, "(1,y) (2,x) (3,z)")
	st.begin(20)
	st.batch(tb, nil, ch('D', "1", "1"))
	st.end(20, true)
	st.close()
	wantRows(t, url, allRows, "(1,y) (2,x) (3,z)")
	if r := recovered(t, s, 3, nil); !bytes.Equal(r.Position, position(10, 11)) {
		t.Errorf("position %x", r.Position)
	}
}

func TestApply_FencesAZombieEvenWithAnOpenTransaction(t *testing.T) {
	tb := testTable(0, "t", 1, "id int4", "a text")
	url, s, st := startApply(t, arrowio.NativePGBinary, "CREATE TABLE t (id int PRIMARY KEY, a text)", tb)
	st.round(10, tb, ch('I', "1", "1|a"))
	recovered(t, s, 2, nil)
	st.begin(20)
	st.batch(tb, nil, ch('I', "2", "2|zombie"))
	st.end(20, false)
	wantCode(t, st.fails(), diag.FencedOut)

	st = applyStream(t, s, 2, arrowio.NativePGBinary, tb)
	st.begin(20)
	st.batch(tb, nil, ch('I', "2", "2|open"))
	st.end(20, true)
	st.begin(20)
	st.batch(tb, nil, ch('I', "3", "3|open"))
	st.end(20, true)
	if r := recovered(t, s, 3, nil); !bytes.Equal(r.Position, position(10, 11)) {
		t.Errorf("position %x", r.Position)
	}
	st.begin(20)
	st.end(20, false)
	wantCode(t, st.fails(), diag.ConnLost)
	wantRows(t, url, allRows, "(1,a)")
	_, err := s.Recover(t.Context(), recoverRequest(2))
	wantCode(t, err, diag.FencedOut)
}

func TestApply_IdleMovesThePositionAndNeverBack(t *testing.T) {
	tb := testTable(0, "t", 1, "id int4")
	_, s, st := startApply(t, arrowio.NativePGBinary, "CREATE TABLE t (id int PRIMARY KEY)", tb)
	for _, n := range []uint64{30, 20} {
		st.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_Idle{Idle: &rowv1.Idle{Position: position(n, n)}}}, nil)
		if ack := st.committed(); !bytes.Equal(ack.Position, position(n, n)) {
			t.Errorf("ack %x", ack.Position)
		}
	}
	st.close()
	if r := recovered(t, s, 2, nil); !bytes.Equal(r.Position, position(30, 30)) {
		t.Errorf("position %x", r.Position)
	}
}

func TestApply_EqualityOfAnExtensionInItsOwnSchema(t *testing.T) {
	tb := testTable(0, "t", 1, "k citext", "a text")
	url, _, st := startApply(t, arrowio.NativePGBinary, `CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
		CREATE TABLE t (k ext.citext PRIMARY KEY, a text); INSERT INTO t VALUES ('Abc', 'x'), ('d', 'y')`, tb)
	st.round(10, tb, ch('U', "aBC", "aBC|new"), ch('D', "D", "D"))
	wantRows(t, url, allRows, "(Abc,new)")
	st.close()
}
