package postgres

import (
	"cmp"
	"slices"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// objRef is an object's address as pg_depend has it.
type objRef struct{ class, oid uint32 }

// Catalogs by their fixed oids.
const (
	pgTypeClass        = 1247
	pgProcClass        = 1255
	pgClassClass       = 1259
	pgUserMappingClass = 1418
	pgAmopClass        = 2602
	pgAmprocClass      = 2603
	pgAttrdefClass     = 2604
	pgConstraintClass  = 2606
	pgNamespaceClass   = 2615
	pgOpclassClass     = 2616
	pgRewriteClass     = 2618
	pgTriggerClass     = 2620
	pgOpfamilyClass    = 2753
	pgExtensionClass   = 3079
	pgPolicyClass      = 3256
	pgStatisticClass   = 3381
	pgCollationClass   = 3456
)

// node is a step in the making.
type node struct {
	phase  connectorv1.Phase
	kind   string
	object string
	value  string
	table  uint32
	sql    []string
	weight int64
	deps   []*node
	// of is the table that this belongs to.
	of *node
	// gone says why the node is not carried after all, todo what to do then when it is not to make it by hand.
	gone, todo string
	// chosen: wanted by the include patterns, directly or because something wanted needs it.
	chosen bool
	id     uint32
	mark   int
	// fill is the step that fills this materialised view.
	fill *node
	// whole is the view that this is the shape of.
	whole *node
}

// addTo makes a node known that belongs to a table, whose number its step bears.
func (c *catalog) addTo(table, ref objRef, n *node) *node {
	if n.of = c.byRef[table]; n.of != nil {
		n.table = n.of.table
	}
	return c.add(ref, n)
}

// add makes a node known under its address; ref may be zero.
func (c *catalog) add(ref objRef, n *node) *node {
	c.nodes = append(c.nodes, n)
	if ref.oid != 0 {
		c.byRef[ref] = n
	}
	return n
}

// alias lets dependencies on a part of an object count as dependencies on the whole.
func (c *catalog) alias(ref objRef, n *node) {
	if n != nil && ref.oid != 0 {
		c.byRef[ref] = n
	}
}

// orderFills: a materialised view over another one, directly or through views, is filled after it. One over a foreign table is left
// empty: a copy must not wait for a server that it knows nothing of.
func (c *catalog) orderFills() {
	far := c.farTables()
	for _, n := range c.nodes {
		if n.fill == nil {
			continue
		}
		seen := map[*node]bool{n: true}
		var below func(*node)
		below = func(m *node) {
			for _, d := range m.deps {
				if seen[d] {
					continue
				}
				seen[d] = true
				switch {
				case d.fill != nil:
					n.fill.deps = append(n.fill.deps, d.fill)
				case far[d] != "" && n.fill.gone == "":
					n.fill.gone, n.fill.todo = "it reads foreign table "+far[d]+", whose server may ask for a password", n.fill.sql[0]+";"
				}
				below(d)
			}
		}
		below(n)
	}
}

// farTables are foreign tables and what reads them along with its own rows: tables that they inherit from or are partitions of.
func (c *catalog) farTables() map[*node]string {
	far := map[*node]string{}
	var mark func(uint32, string)
	mark = func(oid uint32, name string) {
		r, n := c.rels[oid], c.byRef[objRef{pgClassClass, oid}]
		if r == nil || n == nil || far[n] != "" {
			return
		}
		far[n] = name
		for _, p := range r.Parents {
			mark(p, name)
		}
	}
	for _, r := range c.order {
		if r.Kind == "f" {
			mark(r.Oid, r.display())
		}
	}
	return far
}

// dropGone takes out what was given up, and everything that needs it.
func (c *catalog) dropGone() {
	for again := true; again; {
		again = false
		for _, n := range c.nodes {
			for _, d := range n.needs() {
				if d.gone != "" && n.gone == "" {
					n.gone, again = "it needs "+d.kind+" "+d.object+", which is not carried", true
				}
			}
		}
	}
	for _, n := range c.nodes {
		if n.gone != "" && n.kind != foreignKeyRows { // the key itself is listed
			c.leave(n.kind, n.object, n.gone, cmp.Or(n.todo, "create it by hand once what it needs is there"))
		}
	}
	c.nodes = slices.DeleteFunc(c.nodes, func(n *node) bool { return n.gone != "" })
}

// needs are the steps without which this one is of no use.
func (n *node) needs() []*node {
	if n.whole != nil {
		return append(slices.Clone(n.deps), n.whole)
	}
	return n.deps
}

// choose keeps, when tables are named, those tables, what belongs to them and what they need.
func (c *catalog) choose() {
	if len(c.filter.include) == 0 {
		return
	}
	var want func(*node)
	want = func(n *node) {
		if n.chosen {
			return
		}
		n.chosen = true
		for _, d := range n.needs() {
			want(d)
		}
	}
	for _, n := range c.nodes {
		if n.of == nil && (n.table > 0 || n.kind == "partitioned table") {
			want(n)
		}
	}
	for _, n := range c.nodes {
		if n.of != nil && n.of.chosen {
			want(n)
		}
	}
	dropped := map[string]bool{}
	c.nodes = slices.DeleteFunc(c.nodes, func(n *node) bool {
		if !n.chosen && !dropped[n.kind+n.object] {
			dropped[n.kind+n.object] = true
			c.leave(n.kind, n.object, "no chosen table needs it", "widen the table patterns if it is wanted")
		}
		return !n.chosen
	})
}

// raise moves what needs something of a later phase into that phase: a function that returns a view's rows.
func (c *catalog) raise() {
	for again := true; again; {
		again = false
		for _, n := range c.nodes {
			for _, d := range n.deps {
				if d.phase > n.phase {
					n.phase, again = d.phase, true
				}
			}
		}
	}
}

func byPlace(a, b *node) int {
	return cmp.Or(cmp.Compare(a.phase, b.phase), cmp.Compare(a.kind, b.kind), cmp.Compare(a.object, b.object), cmp.Compare(b.weight, a.weight))
}

// steps numbers the nodes so that every step comes after those it needs; a cycle is cut where it closes.
func (c *catalog) steps() []*connectorv1.SchemaStep {
	slices.SortStableFunc(c.nodes, func(a, b *node) int { return cmp.Compare(a.phase, b.phase) })
	var out []*connectorv1.SchemaStep
	var visit func(*node)
	visit = func(n *node) {
		n.mark = 1
		for _, d := range n.deps {
			if d.mark == 0 && d.phase == n.phase {
				visit(d)
			}
		}
		n.mark, n.id = 2, uint32(len(out)+1)
		step := &connectorv1.SchemaStep{
			Id: n.id, Phase: n.phase, Kind: n.kind, Object: n.object, Table: n.table, Dialect: Dialect, Sql: n.sql, Weight: n.weight, Value: n.value,
		}
		for _, d := range n.deps {
			if d.mark == 2 {
				step.After = append(step.After, d.id)
			}
		}
		out = append(out, step)
	}
	for _, n := range c.nodes {
		if n.mark == 0 {
			visit(n)
		}
	}
	return out
}
