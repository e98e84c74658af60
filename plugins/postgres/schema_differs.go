package postgres

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// difference is something in which a table of the target is not that of the source, and the statement that makes it equal.
type difference struct {
	what, sql string
	// refuses: rows would be others than at the source, or refused. Otherwise every row arrives as it is.
	refuses bool
}

// sorted parts what refuses rows from what is only named.
func sorted(all []difference) (refused, named []difference) {
	for _, d := range all {
		if d.refuses {
			refused = append(refused, d)
		} else {
			named = append(named, d)
		}
	}
	return refused, named
}

func said(list []difference) string {
	words := make([]string, len(list))
	for i, d := range list {
		words[i] = d.what
	}
	return strings.Join(words, "; ")
}

func statements(list []difference) []string {
	sql := make([]string, len(list))
	for i, d := range list {
		sql[i] = d.sql
	}
	return sql
}

// comparison gathers the differences between the table that a step would make and the one that is there.
type comparison struct {
	want, have *tableDef
	found      []difference
}

// tableDiffers compares a table's step with the statements that would make what is there. Copy and doctor ask the same.
func tableDiffers(st *connectorv1.SchemaStep, there []string) []difference {
	want, ok := takeApart(st.Sql)
	have, known := takeApart(there)
	if !ok || !known {
		return []difference{{"it cannot be compared", "-- drop it or rename it; the copy makes it anew", true}}
	}
	c := &comparison{want: want, have: have}
	c.kind()
	for _, col := range want.columns {
		c.column(col, have.column(col.name))
	}
	for _, col := range have.columns {
		if want.column(col.name) == nil {
			c.extra(col)
		}
	}
	c.checks()
	c.storage()
	c.settings()
	return c.found
}

func (c *comparison) refuse(what, sql string) { c.found = append(c.found, difference{what, sql, true}) }
func (c *comparison) name(what, sql string) {
	c.found = append(c.found, difference{what, sql, false})
}

// alter is a statement about the table.
func (c *comparison) alter(words string) string {
	return "ALTER TABLE " + c.have.name + " " + words + ";"
}

// kind compares what no statement about a column can change. A plain table may be partitioned at the target: its rows find their place.
func (c *comparison) kind() {
	want, have := c.want, c.have
	anew := "-- drop it or rename it; the copy makes it anew"
	switch {
	case want.partition == have.partition:
	case want.partition == "":
		c.name("it is partitioned by "+have.partition, anew)
	default:
		c.refuse(fmt.Sprintf("it is partitioned by %s and at the source by %s", cmp.Or(have.partition, "nothing"), want.partition), anew)
	}
	if want.ofType != have.ofType {
		c.refuse(fmt.Sprintf("it is of type %s and at the source of %s", cmp.Or(have.ofType, "no"), cmp.Or(want.ofType, "none")), anew)
	}
	if want.inherits == have.inherits {
		return
	}
	var sql []string
	theirs, ours := splitTop(have.inherits), splitTop(want.inherits)
	for _, p := range theirs {
		if p != "" && !slices.Contains(ours, p) {
			sql = append(sql, c.alter("NO INHERIT "+p))
		}
	}
	for _, p := range ours {
		if p != "" && !slices.Contains(theirs, p) {
			sql = append(sql, c.alter("INHERIT "+p))
		}
	}
	c.refuse(fmt.Sprintf("it inherits from %s and at the source from %s", cmp.Or(have.inherits, "nothing"), cmp.Or(want.inherits, "nothing")),
		cmp.Or(strings.Join(sql, " "), anew))
}

// inherited: the columns of a table that inherits may be its own, its parents' or both.
func (c *comparison) inherited() bool { return c.want.inherits != "" || c.have.inherits != "" }

func (c *comparison) column(want, have *columnPart) {
	switch {
	case have == nil && c.inherited():
	case have == nil:
		c.refuse("it lacks column "+want.name, c.alter("ADD COLUMN "+want.sql))
	case want.generated != have.generated:
		c.generated(want, have)
	default:
		c.typed(want, have)
		c.filled(want, have)
	}
}

func (c *comparison) typed(want, have *columnPart) {
	at := "ALTER COLUMN " + want.name + " "
	if want.kind != have.kind || want.collation != have.collation {
		typed := func(p *columnPart) string {
			if p.collation == "" {
				return p.kind
			}
			return p.kind + " COLLATE " + p.collation
		}
		c.refuse(fmt.Sprintf("column %s is %s and at the source %s", want.name, typed(have), typed(want)), c.alter(at+"TYPE "+typed(want)))
	}
	switch {
	case want.notNull == have.notNull:
	case have.notNull:
		c.refuse("column "+want.name+" is NOT NULL, and at the source it may be null", c.alter(at+"DROP NOT NULL"))
	default:
		c.name("column "+want.name+" may be null, and at the source it may not", c.alter(at+"SET NOT NULL"))
	}
	if want.compression != have.compression {
		c.name(fmt.Sprintf("column %s is compressed by %s and at the source by %s", want.name, cmp.Or(have.compression, "default"), cmp.Or(want.compression, "default")),
			c.alter(at+"SET COMPRESSION "+cmp.Or(want.compression, "DEFAULT")))
	}
}

// generated columns are computed at the target: by another expression they are other values.
func (c *comparison) generated(want, have *columnPart) {
	said := func(p *columnPart) string {
		if p.generated == "" {
			return "not generated"
		}
		return "GENERATED " + p.generated
	}
	sql := c.alter("DROP COLUMN "+want.name) + " " + c.alter("ADD COLUMN "+want.sql)
	if want.generated == "" && strings.HasSuffix(have.generated, " STORED") {
		sql = c.alter("ALTER COLUMN " + want.name + " DROP EXPRESSION")
	}
	c.refuse(fmt.Sprintf("column %s is %s and at the source %s", want.name, said(have), said(want)), sql)
}

// filled compares what a column gets when nobody says what. Rows that are copied bring their own.
func (c *comparison) filled(want, have *columnPart) {
	at := "ALTER COLUMN " + want.name + " "
	if want.identity != have.identity {
		said := func(p *columnPart) string {
			if p.identity == "" {
				return "no identity column"
			}
			return "GENERATED " + p.identity
		}
		c.name(fmt.Sprintf("column %s is %s and at the source %s", want.name, said(have), said(want)), c.setIdentity(at, want, have))
	}
	switch {
	case want.fill == have.fill, want.identity != "" && have.identity == "":
	case want.fill == "":
		c.name("column "+want.name+" has DEFAULT "+have.fill+" and at the source none", c.alter(at+"DROP DEFAULT"))
	case have.identity != "": // it is gone by then
		c.name("column "+want.name+" has at the source DEFAULT "+want.fill, c.alter(at+"SET DEFAULT "+want.fill))
	default:
		c.name(fmt.Sprintf("column %s has %s and at the source DEFAULT %s", want.name, cmp.Or(have.fill, "no default"), want.fill), c.alter(at+"SET DEFAULT "+want.fill))
	}
}

func (c *comparison) setIdentity(at string, want, have *columnPart) string {
	switch {
	case want.identity == "":
		return c.alter(at + "DROP IDENTITY")
	case have.identity == "" && have.fill != "":
		return c.alter(at+"DROP DEFAULT") + " " + c.alter(at+"ADD GENERATED "+want.identity)
	case have.identity == "":
		return c.alter(at + "ADD GENERATED " + want.identity)
	}
	how, options, _ := strings.Cut(want.identity, " AS IDENTITY")
	options = strings.NewReplacer("(", "SET ", " INCREMENT", " SET INCREMENT", " MINVALUE", " SET MINVALUE", " MAXVALUE", " SET MAXVALUE", " CACHE", " SET CACHE",
		" NO CYCLE", " SET NO CYCLE", " CYCLE", " SET CYCLE", ")", "").Replace(options)
	return c.alter(at + "SET GENERATED " + how + options)
}

// extra is a column that only the target has.
func (c *comparison) extra(have *columnPart) {
	switch {
	case c.inherited():
	case have.notNull && have.fill == "" && have.generated == "" && have.identity == "":
		c.refuse("it has column "+have.name+", which is NOT NULL without a default, and the source has not", c.alter("ALTER COLUMN "+have.name+" DROP NOT NULL"))
	default:
		c.name("it has column "+have.name+", and the source has not", "-- "+c.alter("DROP COLUMN "+have.name))
	}
}

func (c *comparison) checks() {
	for _, k := range c.want.checks {
		add := c.alter("ADD CONSTRAINT " + k.name + " " + k.def)
		switch def := c.have.check(k.name); def {
		case k.def:
		case "":
			c.name("it lacks check "+k.name, add)
		default:
			c.name(fmt.Sprintf("check %s is %s and at the source %s", k.name, def, k.def), c.alter("DROP CONSTRAINT "+k.name)+" "+add)
		}
	}
	for _, k := range c.have.checks {
		if c.want.check(k.name) == "" {
			c.name("it has check "+k.name+" and the source has not: rows that it does not hold for are refused", c.alter("DROP CONSTRAINT "+k.name))
		}
	}
}
