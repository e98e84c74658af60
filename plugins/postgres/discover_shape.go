package postgres

import (
	"slices"
	"strings"
)

// shapeViews: a table of a view's rows needs the view before it is loaded, and the view may need what is made after the load, such
// as a primary key. A shape, a view with the same columns and no rows, stands for it until then.
func (c *catalog) shapeViews(edges []edge) []edge {
	needed, views := neededByTables(edges)
	if len(views) == 0 {
		return edges
	}
	shapes := map[*node]*node{}
	for _, oid := range c.order {
		if v := c.byRef[objRef{pgClassClass, oid.Oid}]; v != nil && views[v] {
			shapes[v] = c.shape(oid, v)
		}
	}
	var out []edge
	for _, e := range edges {
		shape, ofShape := shapes[e.to], shapes[e.from] != nil && describes(e)
		if ofShape { // its columns
			other := e
			other.from = shapes[e.from]
			if shape != nil {
				other.to = shape
			}
			out = append(out, other)
		}
		if shape != nil && (needed[e.from] || ofShape) {
			e.to = shape
		}
		out = append(out, e)
	}
	return out
}

// describes: a view needs something by its columns or its schema, not by its query.
func describes(e edge) bool { return e.part.class == pgClassClass }

// neededByTables finds what tables need, themselves among it, and apart from that the views whose rows they need.
func neededByTables(edges []edge) (needed, views map[*node]bool) {
	below := map[*node][]edge{}
	for _, e := range edges {
		below[e.from] = append(below[e.from], e)
	}
	needed, views = map[*node]bool{}, map[*node]bool{}
	var look func(*node)
	look = func(n *node) {
		if needed[n] || views[n] {
			return
		}
		view := n.kind == "view"
		if view {
			views[n] = true
		} else {
			needed[n] = true
		}
		if n.kind == "materialised view" { // it is made without rows, and so as early
			n.phase = inTables
		}
		for _, e := range below[n] {
			if !view || describes(e) {
				look(e.to)
			}
		}
	}
	for n := range below {
		if holdsParts[n.kind] {
			look(n)
		}
	}
	return needed, views
}

// shape makes the step of a view's shape; the view then replaces it.
func (c *catalog) shape(r *pgRel, view *node) *node {
	cols := make([]string, len(c.columns[r.Oid]))
	for i, col := range c.columns[r.Oid] {
		cols[i] = "NULL::" + col.TypeName
		if col.Collation != "" {
			cols[i] += " COLLATE " + col.Collation
		}
		cols[i] += " AS " + ident(col.Name)
	}
	n := c.add(objRef{}, &node{phase: inTables, kind: "view shape", object: view.object, whole: view,
		sql: []string{"CREATE VIEW " + r.sql() + " AS SELECT " + strings.Join(cols, ", ")}})
	view.sql = slices.Clone(view.sql)
	view.sql[0] = strings.Replace(view.sql[0], "CREATE VIEW", "CREATE OR REPLACE VIEW", 1)
	view.deps = append(view.deps, n)
	return n
}
