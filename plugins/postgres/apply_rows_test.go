package postgres

import (
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
)

// Types without equality, with a loose one, with several forms of one value, long and NULL.
func TestApply_WholeRowsOfEveryType(t *testing.T) {
	cols := []string{"j json", "x xml", "p point", "a int4[]", "d jsonb", "n numeric", "f float8", "e mood", "c pair", "m domain", "b bytea", "t text",
		"ci citext", "at timestamptz", "o bool", "day date", "u uuid", "ch bpchar", "r int4range"}
	tb := testTable(0, "t", 0, cols...)
	url, _, st := startApply(t, arrowio.NativePGText, `CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b json);
		CREATE DOMAIN word AS text; CREATE TABLE t (j json, x xml, p point, a int[], d jsonb, n numeric, f float8, e mood, c pair, m word, b bytea, t text,
		ci citext, at timestamptz, o bool, day date, u uuid, ch char(5), r int4range)`, tb)
	long := strings.Repeat("long ", 2000)
	rows := []string{
		`{"a": 1}|<x>1</x>|(1,2)|[0:1]={1,2}|{"a": 1}|1.0|0|ok|(1,"{}")|w|\x00ff|` + long + `|Abc|2020-01-01 00:00:00+00|t|2020-01-01|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|ab   |[1,5)`,
		strings.Repeat("-|", 18) + "-",
		`{}|<x/>|(0,0)|{}|{}|NaN|NaN|sad|(,)|-|-|-|x|infinity|f|infinity|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|x|empty`,
	}
	// Near misses of the first row: each differs in one value that something takes for equal.
	for _, near := range []string{`{"a":1}|j`, `<x>1</x >|x`, `{1,2}|a`, `1.00|n`, `-0|f`, `(2,"{}")|c`, `abc|ci`, long[1:] + `|t`} {
		v, col, _ := strings.Cut(near, "|")
		vals := strings.Split(rows[0], "|")
		for i, c := range cols {
			if strings.HasPrefix(c, col+" ") {
				vals[i] = v
			}
		}
		rows = append(rows, strings.Join(vals, "|"))
	}
	var ins, twice, del []change
	for i, r := range rows {
		k := string(rune('a' + i))
		ins, twice, del = append(ins, ch('I', k, r)), append(twice, ch('I', k, r), ch('I', k, r)), append(del, ch('D', k, r))
	}
	st.round(10, tb, ins...)
	st.round(20, tb, twice...)
	st.round(30, tb, del[0], del[0], del[1])
	wantRows(t, url, `SELECT count(*), count(*) FILTER (WHERE t IS NULL), count(*) FILTER (WHERE j::text = '{"a": 1}' AND n::text = '1.0'
		AND f::text = '0' AND ci::text = 'Abc' AND (c).a = 1 AND a::text = '[0:1]={1,2}' AND x::text = '<x>1</x>' AND length(t) = 10000) FROM t`, "30\t5\t1")
	st.round(40, tb, append(del[2:], append(append(del[2:], del[2:]...), del[1], del[1], del[0])...)...)
	wantRows(t, url, "SELECT count(*) FROM t", "0")
	st.close()
}

func TestApply_WholeRowsInPartitionsAndBesideChildren(t *testing.T) {
	tb := testTable(0, "t", 0, "a int4", "b text")
	url, _, st := startApply(t, arrowio.NativePGBinary, `CREATE TABLE t (a int, b text) PARTITION BY LIST (b);
		CREATE TABLE t1 PARTITION OF t FOR VALUES IN ('x'); CREATE TABLE t2 PARTITION OF t FOR VALUES IN ('y')`, tb)
	st.round(10, tb, ch('I', "1x", "1|x"), ch('I', "1y", "1|y"), ch('I', "2x", "2|x"), ch('I', "2y", "2|y"), ch('I', "2y", "2|y"))
	st.round(20, tb, ch('D', "1x", "1|x"), ch('D', "2y", "2|y"))
	wantRows(t, url, allRows, "(1,y) (2,x) (2,y)")
	st.close()

	for keys, sql := range []string{"CREATE TABLE t (a int, b text)", "CREATE TABLE t (a int PRIMARY KEY, b text)"} {
		tb := testTable(0, "t", keys, "a int4", "b text")
		url, _, st := startApply(t, arrowio.NativePGBinary, sql+"; CREATE TABLE child () INHERITS (t); INSERT INTO child VALUES (1, 'x')", tb)
		st.round(10, tb, ch('I', "1", "1|x"), ch('I', "2", "2|x"))
		st.round(20, tb, ch('D', "1", "1|x"))
		if keys > 0 {
			st.round(30, tb, ch('U', "2", "2|y"))
		}
		wantRows(t, url, "SELECT count(*) FROM ONLY t", "1")
		wantRows(t, url, "SELECT string_agg(c::text, ' ') FROM child c", "(1,x)")
		st.close()
	}
}

func TestApply_FullRowsCountAndNullsAreEqual(t *testing.T) {
	tb := testTable(0, "t", 0, "a int4", "b text", "j json")
	url, _, st := startApply(t, arrowio.NativePGBinary, "CREATE TABLE t (a int, b text, j json)", tb)
	dev.MustExec(t, url, "INSERT INTO t VALUES (1,NULL,'{}'),(1,NULL,'{}'),(1,NULL,'{}'),(2,'x',NULL)")
	st.round(10, tb, ch('D', "k1", "1|-|{}"), ch('D', "k1", "1|-|{}"), ch('I', "k2", "2|x|-"), ch('D', "k3", "2|y|-"), ch('I', "k3", "2|y|-"))
	wantRows(t, url, allRows, "(1,,{}) (2,x,) (2,x,)")
	st.begin(20)
	st.batch(tb, nil, ch('D', "k9", "9|-|-"))
	st.end(20, false)
	wantCode(t, st.fails(), diag.MissingRow)
}
