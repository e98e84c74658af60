package postgres

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// grantKey is what one step of grants is for: a grantee, and how many hands the privileges have passed from the owner to who gives them.
type grantKey struct {
	turn int
	who  string
}

type grantSteps map[grantKey]*node

func (c *catalog) grantTo(steps grantSteps, to grantKey, sql string) {
	n := steps[to]
	if n == nil {
		n = &node{phase: inFinish, kind: "grant", object: cmp.Or(to.who, "PUBLIC")}
		n.deps = slices.Clone(c.owners)
		if len(c.owners) == 0 {
			n.deps = slices.DeleteFunc(slices.Clone(c.nodes), func(m *node) bool { return m.phase != inFinish })
		}
		steps[to] = n
	}
	n.sql = append(n.sql, sql)
}

// addGrants puts what is handed on after all that was given before.
func (c *catalog) addGrants(steps grantSteps) {
	byTurn := func(a, b grantKey) int { return cmp.Or(cmp.Compare(a.turn, b.turn), cmp.Compare(a.who, b.who)) }
	keys := slices.SortedFunc(maps.Keys(steps), byTurn)
	for _, key := range keys {
		for _, k := range keys {
			if k.turn < key.turn {
				steps[key].deps = append(steps[key].deps, steps[k])
			}
		}
		c.add(objRef{}, steps[key])
	}
}

// held is a privilege on an object that a role may hand on.
type held struct {
	class, oid uint32
	privilege  string
	role       string
}

// turns tells of each grant through how many hands the privilege had come to who gave it: 0 for the owner, 1 for who has it from the
// owner, and so on.
func turns(found []*grant) map[*grant]int {
	from := map[held][]*grant{}
	for _, g := range found {
		if g.Option {
			for _, p := range g.privileges() {
				by := held{g.Class, g.Oid, p, g.Grantee}
				from[by] = append(from[by], g)
			}
		}
	}
	out := map[*grant]int{}
	var turn func(g *grant) int
	turn = func(g *grant) int {
		if n, known := out[g]; known || g.Grantor == "" {
			return n
		}
		out[g] = 1 // ends a circle: the server allows none in one privilege, but this holds several
		n := 0
		for _, p := range g.privileges() {
			for _, before := range from[held{g.Class, g.Oid, p, g.Grantor}] {
				n = max(n, turn(before))
			}
		}
		out[g] = n + 1
		return n + 1
	}
	for _, g := range found {
		out[g] = turn(g)
	}
	return out
}

func (g *grant) privileges() []string { return strings.Split(g.Privileges, ",") }

// inNameOf runs a statement as another role, which takes a member of it.
func inNameOf(name, sql string) string {
	if name == "" {
		return sql
	}
	return "SET ROLE " + ident(name) + "; " + sql + "; RESET ROLE"
}

var inOtherName = regexp.MustCompile(`(?s)^SET ROLE "(?:[^"]|"")*"; (.*); RESET ROLE$`)

// inOwnName is the statement of inNameOf for a session that may not be that role.
func inOwnName(sql string) (own string, ok bool) {
	m := inOtherName.FindStringSubmatch(sql)
	if m == nil {
		return "", false
	}
	return m[1], true
}
