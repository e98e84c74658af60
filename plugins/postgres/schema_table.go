package postgres

import (
	"regexp"
	"strings"
)

// tableDef is a table as its step says it, taken apart. Both ends' tables are written by the same code, from the catalog of each.
type tableDef struct {
	name                                string
	unlogged                            bool
	ofType, inherits, partition, method string
	options                             []string
	columns                             []*columnPart
	checks                              []namedPart
	after                               []string
}

// columnPart is a column of CREATE TABLE; sql is all of it.
type columnPart struct {
	name, sql                                               string
	kind, compression, collation, generated, identity, fill string
	notNull                                                 bool
}

// namedPart is a check.
type namedPart struct{ name, def string }

func (d *tableDef) column(name string) *columnPart {
	for _, c := range d.columns {
		if c.name == name {
			return c
		}
	}
	return nil
}

func (d *tableDef) check(name string) string {
	for _, k := range d.checks {
		if k.name == name {
			return k.def
		}
	}
	return ""
}

// takeApart reads the statements of a table's step. It knows only what createTable writes.
func takeApart(sql []string) (*tableDef, bool) {
	if len(sql) == 0 {
		return nil, false
	}
	name, rest, ok := createdName(sql[0])
	if !ok {
		return nil, false
	}
	d := &tableDef{name: name, unlogged: strings.HasPrefix(sql[0], "CREATE UNLOGGED "), after: sql[1:]}
	rest, options, _ := cutTop(rest, " WITH (")
	for _, o := range splitTop(strings.TrimSuffix(options, ")")) {
		if o != "" {
			d.options = append(d.options, o)
		}
	}
	rest, d.method, _ = cutTop(rest, " USING ")
	rest, d.partition, _ = cutTop(rest, " PARTITION BY ")
	rest, d.inherits, _ = cutTop(rest, " INHERITS (")
	d.inherits = strings.TrimSuffix(d.inherits, ")")
	before, items, _ := cutTop(rest, " (")
	d.ofType = strings.TrimPrefix(before, " OF ")
	for _, item := range splitTop(strings.TrimSuffix(items, ")")) {
		d.item(item)
	}
	return d, true
}

func (d *tableDef) item(item string) {
	constraint, isConstraint := strings.CutPrefix(item, "CONSTRAINT ")
	if !isConstraint {
		if item != "" {
			d.columns = append(d.columns, partOf(item))
		}
		return
	}
	name, def, _ := cutTop(constraint, " ")
	if !strings.HasPrefix(def, "NOT NULL ") { // that is said of the columns, too
		d.checks = append(d.checks, namedPart{name, def})
	}
}

// nullCheckName is what a NOT NULL is called when it has a name of its own.
var nullCheckName = regexp.MustCompile(` CONSTRAINT "(?:[^"]|"")*"$`)

// partOf takes a column apart from behind, since only the end of it may hold expressions.
func partOf(item string) *columnPart {
	c := &columnPart{sql: item}
	name, rest, _ := cutTop(item, " ")
	c.name = name
	rest = " " + rest
	if cut, ok := strings.CutSuffix(strings.TrimSuffix(rest, " NO INHERIT"), " NOT NULL"); ok {
		rest, c.notNull = nullCheckName.ReplaceAllString(cut, ""), true
	}
	var generated string
	if rest, generated, _ = cutTop(rest, " GENERATED "); strings.Contains(generated, " AS IDENTITY") {
		c.identity = sequenceName.ReplaceAllString(generated, "(")
	} else {
		c.generated = generated
	}
	rest, c.fill, _ = cutTop(rest, " DEFAULT ")
	rest, c.collation, _ = cutTop(rest, " COLLATE ")
	rest, c.compression, _ = cutTop(rest, " COMPRESSION ")
	c.kind = strings.TrimPrefix(rest, " ")
	return c
}

// sequenceName is how an identity column's sequence is called, which says nothing about its values.
var sequenceName = regexp.MustCompile(`\(SEQUENCE NAME (?:"(?:[^"]|"")*"\.?)+ `)

// cutTop cuts around a word outside of quotes and parentheses.
func cutTop(s, word string) (before, after string, found bool) {
	i := indexTop(s, word)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(word):], true
}

// splitTop splits a list at its commas outside of quotes and parentheses.
func splitTop(s string) (parts []string) {
	for {
		part, rest, more := cutTop(s, ", ")
		parts = append(parts, part)
		if !more {
			return parts
		}
		s = rest
	}
}

func indexTop(s, word string) int {
	depth, quote := 0, byte(0)
	for i := range len(s) {
		ch := s[i]
		if quote == 0 && depth == 0 && strings.HasPrefix(s[i:], word) {
			return i
		}
		switch {
		case quote != 0:
			if ch == quote { // a doubled quote ends and begins again
				quote = 0
			}
		case ch == '\'', ch == '"':
			quote = ch
		case ch == '(', ch == '[':
			depth++
		case ch == ')', ch == ']':
			depth--
		}
	}
	return -1
}
