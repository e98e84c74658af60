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

func (c *comparison) storage() {
	want, have := c.want, c.have
	if want.unlogged != have.unlogged {
		if have.unlogged {
			c.name("it is unlogged, and at the source it is not: a crash of the target empties it", c.alter("SET LOGGED"))
		} else {
			c.name("it is logged, and at the source it is not", c.alter("SET UNLOGGED"))
		}
	}
	if want.method != have.method {
		c.name(fmt.Sprintf("its access method is %s and at the source %s", cmp.Or(have.method, "heap"), cmp.Or(want.method, "heap")),
			c.alter("SET ACCESS METHOD "+cmp.Or(want.method, "heap")))
	}
	lacks := without(want.options, have.options)
	if len(lacks) > 0 {
		c.name("it is without "+strings.Join(lacks, ", "), c.alter("SET ("+strings.Join(lacks, ", ")+")"))
	}
	var reset []string
	for _, o := range without(have.options, want.options) {
		name, _, _ := strings.Cut(o, "=")
		if !slices.ContainsFunc(lacks, func(l string) bool { return strings.HasPrefix(l, name+"=") }) {
			reset = append(reset, name)
		}
	}
	if len(reset) > 0 {
		c.name("it has its own "+strings.Join(reset, ", "), c.alter("RESET ("+strings.Join(reset, ", ")+")"))
	}
}

// without are those of a list that the other does not hold.
func without(list, other []string) (out []string) {
	for _, s := range list {
		if !slices.Contains(other, s) {
			out = append(out, s)
		}
	}
	return out
}

// settings compares the statements that follow CREATE TABLE: partitions' places, storage and sampling of columns, replica identity.
func (c *comparison) settings() {
	theirs := without(c.have.after, c.want.after)
	for _, sql := range without(c.want.after, c.have.after) {
		switch words := settingOf(sql); {
		case ofSequence.MatchString(sql), c.ofOneSide(words):
		case strings.Contains(sql, " ATTACH PARTITION "):
			c.attach(sql, theirs)
		case strings.HasPrefix(sql, "ALTER SEQUENCE "):
			c.name("sequence "+strings.TrimPrefix(sql, "ALTER SEQUENCE ")+" is not said", sql+";")
		default:
			c.name("it is without "+words, sql+";")
		}
	}
	for _, sql := range theirs {
		switch words := settingOf(sql); {
		case strings.HasPrefix(sql, "ALTER SEQUENCE "), c.ofOneSide(words):
		case strings.Contains(sql, " ATTACH PARTITION "):
			if !slices.ContainsFunc(c.want.after, func(s string) bool { return strings.Contains(s, " ATTACH PARTITION ") }) {
				c.refuse("it is a partition, and at the source it is not", detach(sql))
			}
		case strings.HasSuffix(words, " SET NOT NULL"):
			c.refuse("it has "+words+", and at the source it may be null", c.alter(strings.TrimSuffix(words, "SET NOT NULL")+"DROP NOT NULL"))
		case strings.HasPrefix(words, "REPLICA IDENTITY "):
			if !slices.ContainsFunc(c.want.after, func(s string) bool { return strings.HasPrefix(settingOf(s), "REPLICA IDENTITY ") }) {
				c.name("it has "+words, c.alter("REPLICA IDENTITY DEFAULT"))
			}
		case strings.Contains(words, " SET STATISTICS "):
			if at, _, _ := strings.Cut(words, "SET STATISTICS "); !c.says(at + "SET STATISTICS ") {
				c.name("it has "+words, c.alter(at+"SET STATISTICS -1"))
			}
		default:
			if at, _, _ := strings.Cut(words, " SET "); !c.says(at + " SET ") {
				c.name("it has "+words, "-- decide about "+words)
			}
		}
	}
}

// ofOneSide: the words are about a column that only one side lists as the table's own. It was told, or is inherited at the other.
func (c *comparison) ofOneSide(words string) bool {
	rest, ok := strings.CutPrefix(words, "ALTER COLUMN ")
	name, _, _ := cutTop(rest, " ")
	return ok && (c.want.column(name) == nil) != (c.have.column(name) == nil)
}

// says: the source has a setting of that kind, whose statement is told already.
func (c *comparison) says(words string) bool {
	return slices.ContainsFunc(c.want.after, func(s string) bool { return strings.HasPrefix(settingOf(s), words) })
}

// attach: the table is not the partition that it is at the source.
func (c *comparison) attach(sql string, theirs []string) {
	_, words, _ := strings.Cut(sql, " ATTACH PARTITION ")
	what, fix := "it is not attached as partition "+words, sql+";"
	if i := slices.IndexFunc(theirs, func(s string) bool { return strings.Contains(s, " ATTACH PARTITION ") }); i >= 0 {
		_, other, _ := strings.Cut(theirs[i], " ATTACH PARTITION ")
		what, fix = fmt.Sprintf("it is attached as partition %s and at the source as %s", other, words), detach(theirs[i])+" "+fix
	}
	c.refuse(what, fix)
}

// detach undoes ALTER TABLE parent ATTACH PARTITION child bounds.
func detach(attach string) string {
	parent, rest, _ := strings.Cut(attach, " ATTACH PARTITION ")
	child, _, _ := cutTop(rest, " ")
	return strings.Replace(parent, "ALTER TABLE ONLY ", "ALTER TABLE ", 1) + " DETACH PARTITION " + child + ";"
}

// settingOf is ALTER TABLE ONLY name words without the name.
func settingOf(sql string) string {
	rest, ok := strings.CutPrefix(sql, "ALTER TABLE ONLY ")
	if !ok {
		return sql
	}
	_, words, _ := cutTop(rest, " ")
	return words
}
