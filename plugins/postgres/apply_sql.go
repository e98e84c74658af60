package postgres

import (
	"fmt"
	"strings"
)

// guard turns "not as many rows as expected" into an error of the server (22012, division by zero), so that a
// whole round with its COMMIT can be sent in one piece: what follows a failed statement is not executed.
const guard = " RETURNING 1) SELECT 1 / (count(*) = %s)::int FROM n"

// source writes the derived table s that holds what was sent: columns c<i> in the target's types, then those of extra.
func (a *applyTable) source(cols []int, ordinal bool, extra ...string) string {
	var params, names, out []string
	for n, i := range cols {
		c := &a.columns[i]
		params = append(params, fmt.Sprintf("$%d", n+1))
		names = append(names, fmt.Sprintf("c%d", i))
		expr := fmt.Sprintf("u.c%d", i)
		if c.cast {
			expr += "::" + c.resolved
		}
		out = append(out, fmt.Sprintf("%s AS c%d", expr, i))
	}
	for n, name := range extra {
		params = append(params, fmt.Sprintf("$%d", len(cols)+n+1))
		names, out = append(names, name), append(out, "u."+name)
	}
	with := ""
	if ordinal {
		with = " WITH ORDINALITY"
		names, out = append(names, "ord"), append(out, "u.ord")
	}
	return "(SELECT " + strings.Join(out, ", ") + " FROM unnest(" + strings.Join(params, ", ") + ")" + with +
		" AS u(" + strings.Join(names, ", ") + ")) AS s"
}

func (a *applyTable) keyColumns() []int {
	var out []int
	for i := range a.columns {
		if a.columns[i].key {
			out = append(out, i)
		}
	}
	return out
}

func (a *applyTable) allColumns() []int {
	out := make([]int, len(a.columns))
	for i := range out {
		out[i] = i
	}
	return out
}

// matchKey finds rows of t by what was sent. A list of one leaves the planner nothing but to look each row up through the
// index of the key: an equality it could also use the other way round, all that was sent for each row of the table,
// which it does when the statistics say that a table of many pages has no rows.
func (a *applyTable) matchKey() string {
	var out []string
	for _, i := range a.keyColumns() {
		form := "t.%s = s.c%d"
		if a.columns[i].listed {
			form = "t.%s = ANY (ARRAY[s.c%d])"
		}
		out = append(out, fmt.Sprintf(form, ident(a.columns[i].name), i))
	}
	return strings.Join(out, " AND ")
}

func (a *applyTable) deleteSQL() string {
	return "DELETE FROM " + a.from + " AS t USING " + a.source(a.keyColumns(), false) + " WHERE " + a.matchKey()
}

// updateSQL sets cols; the last parameter is the number of rows.
func (a *applyTable) updateSQL(cols []int) string {
	var set []string
	for _, i := range cols {
		if !a.columns[i].key {
			set = append(set, fmt.Sprintf("%s = s.c%d", ident(a.columns[i].name), i))
		}
	}
	if len(set) == 0 { // nothing but the key: only see that the rows are there
		return fmt.Sprintf("WITH n AS (SELECT FROM %s AS t JOIN %s ON %s) SELECT 1 / (count(*) = $%d)::int FROM n",
			a.from, a.source(cols, false), a.matchKey(), len(cols)+1)
	}
	return "WITH n AS (UPDATE " + a.from + " AS t SET " + strings.Join(set, ", ") + " FROM " + a.source(cols, false) +
		" WHERE " + a.matchKey() + fmt.Sprintf(guard, fmt.Sprintf("$%d", len(cols)+1))
}

func (a *applyTable) insertSQL() string {
	if len(a.columns) == 0 {
		return "INSERT INTO " + targetName(a.table) + " DEFAULT VALUES"
	}
	var names, values []string
	for i, c := range a.columns {
		names = append(names, ident(c.name))
		values = append(values, fmt.Sprintf("s.c%d", i))
	}
	return "INSERT INTO " + targetName(a.table) + " (" + strings.Join(names, ", ") + ") OVERRIDING SYSTEM VALUE SELECT " +
		strings.Join(values, ", ") + " FROM " + a.source(a.allColumns(), false)
}

func (a *applyTable) copySQL() string { return a.copyFrom("binary") }

func (a *applyTable) copyTextSQL() string { return a.copyFrom("text") }

func (a *applyTable) copyFrom(format string) string {
	var names []string
	for _, c := range a.columns {
		names = append(names, ident(c.name))
	}
	return "COPY " + targetName(a.table) + " (" + strings.Join(names, ", ") + ") FROM STDIN (FORMAT " + format + ")"
}

// maxFetch bounds the rows that are fetched at once. What is beyond it is read again at the source instead, in pieces.
const maxFetch = 16 << 20

// fetchSQL reads whole rows by key, up to maxFetch. Values come in the form in which the source sends them.
func (a *applyTable) fetchSQL() string {
	var values, sizes, out []string
	for i, c := range a.columns {
		values = append(values, fmt.Sprintf("t.%s AS c%d", ident(c.name), i))
		sizes = append(sizes, sizeSQL("t."+ident(c.name), c.at))
		out = append(out, fmt.Sprintf("CASE WHEN size <= %d THEN c%d END", maxFetch, i))
	}
	return "SELECT ord, size, " + strings.Join(out, ", ") + " FROM (SELECT s.ord, " + strings.Join(values, ", ") + ", sum(" + strings.Join(sizes, " + ") +
		") OVER (ORDER BY s.ord)::bigint AS size FROM " + a.source(a.keyColumns(), true) + " JOIN " + a.from + " AS t ON " + a.matchKey() + ") AS r"
}
