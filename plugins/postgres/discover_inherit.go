package postgres

import (
	"cmp"
	"slices"
)

// inParents are the columns of that name of those that a table inherits from. A partition inherits no default.
func (c *catalog) inParents(r *pgRel, name string) []*column {
	if r.Partition {
		return nil
	}
	var out []*column
	for _, p := range r.Parents {
		for _, of := range c.columns[p] {
			if of.Name == name {
				out = append(out, of)
			}
		}
	}
	return out
}

// sameInParent: a column is generated as that of a parent is, so that it is inherited with its expression.
func (c *catalog) sameInParent(r *pgRel, col *column) bool {
	return slices.ContainsFunc(c.inParents(r, col.Name), func(of *column) bool { return of.Generated == col.Generated && of.Default == col.Default })
}

func (c *catalog) parentHasDefault(r *pgRel, col *column) bool {
	return slices.ContainsFunc(c.inParents(r, col.Name), (*column).hasDefault)
}

func (col *column) hasDefault() bool { return col.Default != "" && col.Generated == "" }

// settleDefaults: a table cannot be made under parents whose defaults of one column differ, unless it names the column itself. Such
// defaults, which parents got after the child was made, come after it.
func (c *catalog) settleDefaults() {
	for _, r := range c.order {
		child := c.byRef[objRef{pgClassClass, r.Oid}]
		if len(r.Parents) < 2 || child == nil {
			continue
		}
		for _, col := range c.columns[r.Oid] {
			if of := c.inParents(r, col.Name); !col.Local && differ(of) {
				c.defaultsAfter(child, of)
			}
		}
	}
}

// differ reports whether not all columns that have a default have the same.
func differ(cols []*column) bool {
	first := ""
	return slices.ContainsFunc(cols, func(col *column) bool {
		if !col.hasDefault() {
			return false
		}
		first = cmp.Or(first, col.Default)
		return col.Default != first
	})
}

// defaultsAfter makes the defaults of columns steps of their own, after the child.
func (c *catalog) defaultsAfter(child *node, cols []*column) {
	for _, col := range cols {
		whole := c.byRef[objRef{pgClassClass, col.Rel}]
		if !col.hasDefault() || whole == nil {
			continue
		}
		ref := objRef{pgAttrdefClass, col.DefaultOid}
		late := c.byRef[ref]
		if !col.Late {
			late = c.apart(ref, whole)
		}
		late.deps = append(late.deps, child)
	}
}
