package postgres

import (
	"context"
	"slices"
)

type dependency struct {
	Class, Oid, RefClass, RefOid uint32
}

// edge says that a step needs another one, and by what part of it.
type edge struct {
	from, to *node
	part     objRef
}

// link joins the nodes by pg_depend, decides what the patterns leave out, and puts everything in order. Edges from an
// owned sequence to its table are left out: the table's default needs the sequence, and OWNED BY comes after both.
func (c *catalog) link(ctx context.Context) error {
	deps, err := list[dependency](ctx, c.tx, `
		SELECT DISTINCT d.classid, d.objid, d.refclassid, d.refobjid FROM pg_depend d
		WHERE d.objid >= 16384 AND d.refobjid >= 2200 AND d.deptype IN ('n', 'a', 'i', 'P', 'S')
		  AND NOT (d.deptype = 'a' AND d.refobjsubid <> 0 AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
		           AND EXISTS (SELECT FROM pg_sequence q WHERE q.seqrelid = d.objid))`)
	if err != nil {
		return err
	}
	for _, e := range c.postpone(c.shapeViews(c.edges(deps))) {
		e.from.deps = append(e.from.deps, e.to)
	}
	c.orderFills()
	for _, n := range c.nodes {
		slices.SortFunc(n.deps, byPlace)
		n.deps = slices.Compact(n.deps)
	}
	c.dropGone()
	c.choose()
	c.raise()
	return nil
}

// edges finds the nodes of dependencies. The functions that a type is made of need only its shell.
func (c *catalog) edges(deps []*dependency) []edge {
	parts := map[[2]uint32]bool{} // type, function
	for _, d := range deps {
		if d.Class == pgTypeClass && d.RefClass == pgProcClass && c.shells[d.Oid] != nil {
			parts[[2]uint32{d.Oid, d.RefOid}] = true
		}
	}
	var out []edge
	for _, d := range deps {
		part := objRef{d.Class, d.Oid}
		from, to := c.byRef[part], c.byRef[objRef{d.RefClass, d.RefOid}]
		if d.Class == pgProcClass && d.RefClass == pgTypeClass && parts[[2]uint32{d.RefOid, d.Oid}] {
			to = c.shells[d.RefOid]
		}
		switch {
		case from == nil || from == to:
		case to != nil:
			out = append(out, edge{from, to, part})
		case from.gone == "":
			from.gone = c.missing(objRef{d.RefClass, d.RefOid})
		}
	}
	return out
}

// steppedClasses are catalogs whose objects have steps unless the system or an extension made them: operator classes and
// families, parsers and templates of text search, languages, servers, wrappers, access methods.
var steppedClasses = map[uint32]bool{2616: true, 2753: true, 3601: true, 3764: true, 2612: true, 1417: true, 2328: true, 2601: true}

// missing says why something that others need has no step, or nothing when it is the system's own.
func (c *catalog) missing(ref objRef) string {
	switch r := c.rels[ref.oid]; {
	case ref.oid < firstUserOID:
	case ref.class == pgClassClass && c.skipped[ref.oid] != nil:
		return "it needs " + r.display() + ", which is left out"
	case steppedClasses[ref.class]:
		return "it needs an object in a schema that is not carried"
	}
	return ""
}

// postpone takes defaults and checks out of tables which, by them, need something that needs the table: a function of its rows.
// They become steps of their own.
func (c *catalog) postpone(edges []edge) []edge {
	below := map[*node][]*node{}
	for _, e := range edges {
		below[e.from] = append(below[e.from], e.to)
	}
	late := map[objRef]*node{}
	for i, e := range edges {
		if e.part.class != pgAttrdefClass && e.part.class != pgConstraintClass || !holdsParts[e.from.kind] {
			continue
		}
		if late[e.part] == nil && reaches(below, e.to, e.from) {
			late[e.part] = c.apart(e.part, e.from)
		}
		if n := late[e.part]; n != nil {
			edges[i].from = n
		}
	}
	return edges
}

var holdsParts = map[string]bool{"table": true, "partitioned table": true, "foreign table": true}

func reaches(below map[*node][]*node, from, to *node) bool {
	seen := map[*node]bool{}
	var look func(*node) bool
	look = func(n *node) bool {
		if n == to {
			return true
		}
		seen[n] = true
		return slices.ContainsFunc(below[n], func(d *node) bool { return !seen[d] && look(d) })
	}
	return look(from)
}

// apart makes a step of a default or check, or none of what cannot be told apart: the expression of a generated column.
func (c *catalog) apart(part objRef, whole *node) *node {
	for oid, cols := range c.columns {
		for _, col := range cols {
			if r := c.rels[oid]; part == (objRef{pgAttrdefClass, col.DefaultOid}) && col.Generated == "" {
				col.Late = true
				whole.sql = c.tableSQL(r)
				return c.add(part, &node{phase: inTables, kind: "default", object: r.display() + "." + col.Name, deps: []*node{whole},
					sql: []string{"ALTER TABLE ONLY " + r.sql() + " ALTER COLUMN " + ident(col.Name) + " SET DEFAULT " + col.Default}})
			}
		}
	}
	for oid, checks := range c.checks {
		for _, k := range checks {
			if r := c.rels[oid]; part == (objRef{pgConstraintClass, k.Oid}) {
				k.Late = true
				whole.sql = c.tableSQL(r)
				return c.add(part, &node{phase: inTables, kind: "check", object: r.display() + "." + k.Name, deps: []*node{whole},
					sql: []string{"ALTER TABLE " + r.sql() + " ADD " + k.sql()}})
			}
		}
	}
	return nil
}
