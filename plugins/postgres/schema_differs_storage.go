package postgres

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// storage compares how a table is kept, which no row depends on.
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
