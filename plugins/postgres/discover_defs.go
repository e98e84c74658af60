package postgres

import (
	"context"
	"strings"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

const (
	inTables      = connectorv1.Phase_PHASE_TABLES
	inKeys        = connectorv1.Phase_PHASE_KEYS
	inIndexes     = connectorv1.Phase_PHASE_INDEXES
	inConstraints = connectorv1.Phase_PHASE_CONSTRAINTS
	inFinish      = connectorv1.Phase_PHASE_FINISH
	inCutover     = connectorv1.Phase_PHASE_CUTOVER
)

// named is an object and the statement that makes it.
type named struct {
	Oid          uint32
	Schema, Name string
	SQL          string
}

func (c *catalog) readSchemas(ctx context.Context) error {
	found, err := list[named](ctx, c.tx, `
		SELECT n.oid, '', n.nspname, '' FROM pg_namespace n WHERE `+userSchema+` AND `+notMember("pg_namespace", "n.oid")+` ORDER BY 3`)
	if err != nil {
		return err
	}
	for _, n := range found {
		c.add(objRef{pgNamespaceClass, n.Oid}, &node{phase: inTables, kind: "schema", object: n.Name,
			sql: []string{"CREATE SCHEMA IF NOT EXISTS " + ident(n.Name)}})
	}
	found, err = list[named](ctx, c.tx, `
		SELECT e.oid, n.nspname, e.extname, coalesce(array_to_string(e.extconfig, ','), '') FROM pg_extension e
		JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname <> 'plpgsql' ORDER BY e.oid`)
	if err != nil {
		return err
	}
	for _, e := range found {
		n := c.add(objRef{pgExtensionClass, e.Oid}, &node{phase: inTables, kind: "extension", object: e.Name,
			sql: []string{"CREATE EXTENSION IF NOT EXISTS " + ident(e.Name) + " WITH SCHEMA " + ident(e.Schema)}})
		if e.SQL != "" {
			c.leave("rows of extension", e.Name, "the extension keeps its own tables, whose rows are not copied",
				"pg_dump --extension writes them; restore them by hand if they were changed")
		}
		if err := c.aliasMembers(ctx, e.Oid, n); err != nil {
			return err
		}
	}
	return nil
}

// aliasMembers lets what uses an extension's types and functions wait for the extension.
func (c *catalog) aliasMembers(ctx context.Context, ext uint32, n *node) error {
	members, err := list[objRefRow](ctx, c.tx, `
		SELECT classid, objid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND refobjid = $1 AND deptype = 'e'
		UNION SELECT 'pg_type'::regclass, t.typarray FROM pg_depend d JOIN pg_type t ON t.oid = d.objid
		WHERE d.classid = 'pg_type'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = $1 AND d.deptype = 'e'`, ext)
	for _, m := range members {
		c.alias(objRef{m.Class, m.Oid}, n)
	}
	return err
}

type objRefRow struct{ Class, Oid uint32 }

type typeDef struct {
	Oid, Array, Rel uint32
	Schema, Name    string
	Kind            string
	// Labels are an enum's; Body is the rest of a domain or range definition; Constraints a domain's with their oids.
	Labels         []string
	Body           string
	Constraints    []string
	ConstraintOids []uint32
}

const typeDefsSQL = `
	SELECT t.oid, t.typarray, t.typrelid, n.nspname, t.typname, t.typtype::text,
	       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder),
	       CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod)
	            || CASE WHEN t.typcollation <> b.typcollation THEN ' COLLATE ' || quote_ident(cn.nspname) || '.' || quote_ident(co.collname) ELSE '' END
	            || CASE WHEN t.typdefaultbin IS NOT NULL THEN ' DEFAULT ' || pg_get_expr(t.typdefaultbin, 0)
	                    WHEN t.typdefault IS NOT NULL THEN ' DEFAULT ' || quote_literal(t.typdefault) ELSE '' END
	            || CASE WHEN t.typnotnull THEN ' NOT NULL' ELSE '' END
	          WHEN 'r' THEN 'subtype = ' || format_type(r.rngsubtype, NULL)
	            || ', subtype_opclass = ' || quote_ident(opn.nspname) || '.' || quote_ident(op.opcname)
	            || CASE WHEN r.rngcollation <> 0 AND r.rngcollation <> sub.typcollation
	                    THEN ', collation = ' || quote_ident(rcn.nspname) || '.' || quote_ident(rc.collname) ELSE '' END
	            || CASE WHEN r.rngsubdiff::oid <> 0 THEN ', subtype_diff = ' || r.rngsubdiff::text ELSE '' END
	            || CASE WHEN r.rngcanonical::oid <> 0 THEN ', canonical = ' || r.rngcanonical::text ELSE '' END
	            || ', multirange_type_name = ' || format_type(r.rngmultitypid, NULL)
	          ELSE '' END,
	       ARRAY(SELECT 'CONSTRAINT ' || quote_ident(k.conname) || ' ' || pg_get_constraintdef(k.oid)
	             FROM pg_constraint k WHERE k.contypid = t.oid ORDER BY k.conname),
	       ARRAY(SELECT k.oid FROM pg_constraint k WHERE k.contypid = t.oid ORDER BY k.conname)
	FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
	LEFT JOIN pg_type b ON b.oid = t.typbasetype
	LEFT JOIN pg_collation co ON co.oid = t.typcollation LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
	LEFT JOIN pg_range r ON r.rngtypid = t.oid LEFT JOIN pg_type sub ON sub.oid = r.rngsubtype
	LEFT JOIN pg_opclass op ON op.oid = r.rngsubopc LEFT JOIN pg_namespace opn ON opn.oid = op.opcnamespace
	LEFT JOIN pg_collation rc ON rc.oid = r.rngcollation LEFT JOIN pg_namespace rcn ON rcn.oid = rc.collnamespace
	WHERE (t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'c' AND EXISTS (SELECT FROM pg_class k WHERE k.oid = t.typrelid AND k.relkind = 'c'))
	       OR (t.typtype = 'b' AND t.typelem = 0)) AND `

func (c *catalog) readTypeSteps(ctx context.Context) error {
	defs, err := list[typeDef](ctx, c.tx, typeDefsSQL+userSchema+" AND "+notMember("pg_type", "t.oid")+" ORDER BY t.oid")
	if err != nil {
		return err
	}
	for _, t := range defs {
		c.typeStep(t)
	}
	return c.aliasMultiranges(ctx)
}

func (c *catalog) typeStep(t *typeDef) {
	n := &node{phase: inTables, object: display(t.Schema, t.Name)}
	head := "CREATE TYPE " + ident(t.Schema, t.Name) + " AS "
	switch t.Kind {
	case "e":
		quotedLabels := make([]string, len(t.Labels))
		for i, l := range t.Labels {
			quotedLabels[i] = literal(l)
		}
		n.kind, n.sql = "enum", []string{head + "ENUM (" + strings.Join(quotedLabels, ", ") + ")"}
	case "d":
		body := append([]string{t.Body}, t.Constraints...)
		n.kind, n.sql = "domain", []string{"CREATE DOMAIN " + ident(t.Schema, t.Name) + " AS " + strings.Join(body, " ")}
	case "r":
		n.kind, n.sql = "range type", []string{head + "RANGE (" + t.Body + ")"}
	case "c":
		n.kind, n.sql = "composite type", []string{head + "(" + c.compositeColumns(t.Rel) + ")"}
		c.alias(objRef{pgClassClass, t.Rel}, n)
	default:
		n.kind, n.gone = "base type", "base types are made of C functions"
	}
	c.add(objRef{pgTypeClass, t.Oid}, n)
	c.alias(objRef{pgTypeClass, t.Array}, n)
	for _, k := range t.ConstraintOids {
		c.alias(objRef{pgConstraintClass, k}, n)
	}
}

func (c *catalog) compositeColumns(rel uint32) string {
	parts := make([]string, 0, len(c.columns[rel]))
	for _, col := range c.columns[rel] {
		part := ident(col.Name) + " " + col.TypeName
		if col.Collation != "" {
			part += " COLLATE " + col.Collation
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

func (c *catalog) aliasMultiranges(ctx context.Context) error {
	found, err := list[struct{ Range, Multi, Array uint32 }](ctx, c.tx, `
		SELECT r.rngtypid, r.rngmultitypid, t.typarray FROM pg_range r JOIN pg_type t ON t.oid = r.rngmultitypid WHERE r.rngtypid >= 16384`)
	for _, m := range found {
		n := c.byRef[objRef{pgTypeClass, m.Range}]
		c.alias(objRef{pgTypeClass, m.Multi}, n)
		c.alias(objRef{pgTypeClass, m.Array}, n)
	}
	return err
}
