package postgres

import (
	"fmt"
	"strings"

	"github.com/droverdb/drover/plugins/sdk/apply"
)

// matching tells how the values of a column are compared when a row is matched as a whole. Equal means equal to a
// reader: 1.0 and 1.00, -0 and 0, or the same document spaced differently, are different rows.
type matching string

const (
	matchText  matching = "text"  // letters: they are their own form
	matchBytes matching = "bytes" // bytea
	matchForm  matching = "form"  // compared by its text form: json, xml, point, arrays, composites …
	// Anything else is the function that hashes the type; values are compared bit by bit.
)

// matchingSQL finds the matching of a type t. Only plain types with a seeded hash that takes just this type are hashed
// as they are: whether the elements of an array or a composite have one shows only when it runs.
const matchingSQL = `CASE WHEN t.typcategory = 'S' THEN 'text' WHEN t.oid = 'bytea'::regtype THEN 'bytes'
	WHEN t.typtype = 'e' THEN 'hashenumextended'
	ELSE coalesce((SELECT quote_ident(n.nspname) || '.' || quote_ident(f.proname) FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod
		JOIN pg_amproc p ON p.amprocfamily = o.opcfamily AND p.amproclefttype = o.opcintype AND p.amprocnum = 2
		JOIN pg_proc f ON f.oid = p.amproc JOIN pg_namespace n ON n.oid = f.pronamespace
		WHERE o.opcdefault AND o.opcintype = t.oid AND m.amname = 'hash' AND f.proargtypes[0] = t.oid AND t.typtype = 'b'), 'form') END`

// longValue bytes and more enter the hash by their number alone: a long value may be stored apart from its row, and a
// look at every row of the table must not fetch them all.
const longValue = 2000

// form is what is compared of a value.
func (c *applyColumn) form(expr string) string {
	switch c.match {
	case matchText:
		return expr + `::text COLLATE "C"`
	case matchForm:
		return expr + "::text"
	}
	return expr
}

// hashed is the hash of a value. It depends on nothing but the value and the column's number.
func (c *applyColumn) hashed(expr string, seed int) string {
	form, hash := c.form(expr), "hashtextextended"
	switch c.match {
	case matchText, matchBytes:
		form = fmt.Sprintf("CASE WHEN octet_length(%[1]s) < %[2]d THEN %[1]s::text ELSE octet_length(%[1]s)::text END", form, longValue)
	case matchForm:
	default:
		hash = string(c.match)
	}
	return fmt.Sprintf("coalesce(%s(%s, %d), %[3]d)", hash, form, seed)
}

// rowOf writes the row that is compared, over the values of a table alias.
func (a *applyTable) rowOf(value func(int) string) string {
	out := make([]string, len(a.columns))
	for i := range a.columns {
		out[i] = a.columns[i].form(value(i))
	}
	return "ROW(" + strings.Join(out, ", ") + ")::record"
}

// hashOf writes the hash of such a row.
func (a *applyTable) hashOf(value func(int) string) string {
	out := []string{"0::bigint"}
	for i := range a.columns {
		out = append(out, a.columns[i].hashed(value(i), i))
	}
	return strings.Join(out, " # ")
}

// deleteRowsSQL deletes rows that are equal in all columns, each row sent as many times as it was sent with ($n),
// and fails unless the total ($n+1) was found. One pass over the table, whatever the number of rows: a hash of the
// row finds the candidates, the comparison of the whole row (*= needs no operator of the types, and NULLs are equal)
// decides, and the physical place tells equal rows apart. A place is unique within one partition only.
//
// Rows sent may be equal to each other in the target's eyes: they draw on the same rows, so all of them together
// decide how many of these go.
func (a *applyTable) deleteRowsSQL() string {
	n := len(a.columns)
	cols := a.allColumns()
	there := func(i int) string { return "t." + ident(a.columns[i].name) }
	sent := func(i int) string { return fmt.Sprintf("s.c%d", i) }
	only := ""
	if a.partitioned {
		only = " AND (d.tableoid, d.ctid) IN (SELECT p, c FROM g)"
	}
	return "WITH s AS MATERIALIZED (SELECT s.*, " + a.hashOf(sent) + " AS h FROM " + a.source(cols, true, "times") + ")," +
		" m AS (SELECT t.tableoid AS p, t.ctid AS c, row_number() OVER (PARTITION BY s.ord ORDER BY t.tableoid, t.ctid) AS k," +
		" sum(s.times) OVER (PARTITION BY t.tableoid, t.ctid) AS times" +
		" FROM " + a.from + " AS t JOIN s ON " + a.hashOf(there) + " = s.h AND " + a.rowOf(there) + " *= " + a.rowOf(sent) + ")," +
		" g AS MATERIALIZED (SELECT p, c FROM m WHERE k <= times)," +
		" n AS (DELETE FROM " + a.from + " AS d WHERE d.ctid = ANY (ARRAY(SELECT c FROM g))" + only +
		fmt.Sprintf(guard, fmt.Sprintf("$%d", n+2))
}

// Statements in a table without a key read all of it: the settings for finding rows by their key would make that
// one pass per row.
const (
	scanSettings = `SELECT set_config('enable_seqscan', 'on', true), set_config('enable_hashjoin', 'on', true), set_config('enable_nestloop', 'off', true)`
	keySettings  = `SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_nestloop', 'on', true)`
)

// deleteRows deletes by the whole row.
func (s *applySession) deleteRows(t *applyTable, e *apply.Effect) error {
	cols := t.allColumns()
	if err := s.refParams(t, e, cols, e.Deletes); err != nil {
		return err
	}
	times, total := beginArray(nil, oidInt8, len(e.Counts)), int64(0)
	for _, n := range e.Counts {
		times = appendSizedInt8(times, int64(n))
		total += int64(n)
	}
	s.params = append(s.params, times, int8Param(total))
	s.simple(sentOther, scanSettings)
	s.exec(sentRow, atTable(e.Table), t.statement("rows", t.deleteRowsSQL), t.arrayOIDs(cols, oidInt8Array, oidInt8), s.params)
	s.simple(sentOther, keySettings)
	return nil
}
