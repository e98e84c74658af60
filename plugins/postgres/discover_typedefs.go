package postgres

import (
	"context"
	"strings"
)

type typeDef struct {
	Oid, Array, Rel, Place uint32
	Schema, Name           string
	Kind                   string
	// Labels are an enum's; Body is the rest of a domain, range or base type's definition.
	Labels []string
	Body   string
	// Cyclic: functions that the definition names take or give the type itself.
	Cyclic bool
}

const typeDefsSQL = `
	SELECT t.oid, t.typarray, t.typrelid, n.oid, n.nspname, t.typname, t.typtype::text,
	       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder),
	       CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod)
	            || CASE WHEN t.typcollation <> b.typcollation THEN ' COLLATE ' || quote_ident(cn.nspname) || '.' || quote_ident(co.collname) ELSE '' END
	            || CASE WHEN t.typdefaultbin IS NOT NULL THEN ' DEFAULT ' || pg_get_expr(t.typdefaultbin, 0)
	                    WHEN t.typdefault IS NOT NULL THEN ' DEFAULT ' || quote_literal(t.typdefault) ELSE '' END
	            || CASE WHEN t.typnotnull THEN coalesce((SELECT ' CONSTRAINT ' || quote_ident(nn.conname) FROM pg_constraint nn
	                    WHERE nn.contypid = t.oid AND nn.contype = 'n' AND nn.conname <> t.typname || '_not_null'), '') || ' NOT NULL' ELSE '' END
	          WHEN 'r' THEN 'subtype = ' || format_type(r.rngsubtype, NULL)
	            || ', subtype_opclass = ' || quote_ident(opn.nspname) || '.' || quote_ident(op.opcname)
	            || CASE WHEN r.rngcollation <> 0 AND r.rngcollation <> sub.typcollation
	                    THEN ', collation = ' || quote_ident(rcn.nspname) || '.' || quote_ident(rc.collname) ELSE '' END
	            || CASE WHEN r.rngsubdiff::oid <> 0 THEN ', subtype_diff = ' || r.rngsubdiff::text ELSE '' END
	            || CASE WHEN r.rngcanonical::oid <> 0 THEN ', canonical = ' || r.rngcanonical::text ELSE '' END
	            || ', multirange_type_name = ' || format_type(r.rngmultitypid, NULL)
	          WHEN 'b' THEN ` + baseTypeBody + `
	          ELSE '' END, t.typtype = 'b' OR coalesce(r.rngcanonical::oid <> 0, false)
	FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
	LEFT JOIN pg_type b ON b.oid = t.typbasetype
	LEFT JOIN pg_collation co ON co.oid = t.typcollation LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
	LEFT JOIN pg_range r ON r.rngtypid = t.oid LEFT JOIN pg_type sub ON sub.oid = r.rngsubtype
	LEFT JOIN pg_opclass op ON op.oid = r.rngsubopc LEFT JOIN pg_namespace opn ON opn.oid = op.opcnamespace
	LEFT JOIN pg_collation rc ON rc.oid = r.rngcollation LEFT JOIN pg_namespace rcn ON rcn.oid = rc.collnamespace
	WHERE (t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'c' AND EXISTS (SELECT FROM pg_class k WHERE k.oid = t.typrelid AND k.relkind = 'c'))
	       OR (t.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)) OR (t.typtype = 'p' AND NOT t.typisdefined)) AND `

// baseTypeBody names what differs from what CREATE TYPE takes for granted.
const baseTypeBody = `concat_ws(', ', 'INPUT = ' || t.typinput::text, 'OUTPUT = ' || t.typoutput::text,
	            CASE WHEN t.typreceive::oid <> 0 THEN 'RECEIVE = ' || t.typreceive::text END, CASE WHEN t.typsend::oid <> 0 THEN 'SEND = ' || t.typsend::text END,
	            CASE WHEN t.typmodin::oid <> 0 THEN 'TYPMOD_IN = ' || t.typmodin::text END, CASE WHEN t.typmodout::oid <> 0 THEN 'TYPMOD_OUT = ' || t.typmodout::text END,
	            CASE WHEN t.typanalyze::oid <> 0 THEN 'ANALYZE = ' || t.typanalyze::text END, CASE WHEN t.typsubscript::oid <> 0 THEN 'SUBSCRIPT = ' || t.typsubscript::text END,
	            'INTERNALLENGTH = ' || CASE WHEN t.typlen < 0 THEN 'VARIABLE' ELSE t.typlen::text END, CASE WHEN t.typbyval THEN 'PASSEDBYVALUE' END,
	            'ALIGNMENT = ' || CASE t.typalign WHEN 'c' THEN 'char' WHEN 's' THEN 'int2' WHEN 'i' THEN 'int4' ELSE 'double' END,
	            'STORAGE = ' || CASE t.typstorage WHEN 'p' THEN 'plain' WHEN 'e' THEN 'external' WHEN 'x' THEN 'extended' ELSE 'main' END,
	            'CATEGORY = ' || quote_literal(t.typcategory::text), CASE WHEN t.typispreferred THEN 'PREFERRED = true' END, 'DEFAULT = ' || quote_literal(t.typdefault),
	            CASE WHEN t.typelem <> 0 THEN 'ELEMENT = ' || format_type(t.typelem, NULL) END, 'DELIMITER = ' || quote_literal(t.typdelim::text),
	            CASE WHEN t.typcollation <> 0 THEN 'COLLATABLE = true' END)`

func (c *catalog) readTypeSteps(ctx context.Context) error {
	defs, err := list[typeDef](ctx, c.tx, typeDefsSQL+userSchema+" AND "+notMember("pg_type", "t.oid")+" ORDER BY t.oid")
	if err != nil {
		return err
	}
	for _, t := range defs {
		c.typeStep(t)
	}
	if err := c.readDomainChecks(ctx); err != nil {
		return err
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
		n.kind, n.sql = "domain", []string{"CREATE DOMAIN " + ident(t.Schema, t.Name) + " AS " + t.Body}
	case "r":
		n.kind, n.sql = "range type", []string{head + "RANGE (" + t.Body + ")"}
	case "c":
		n.kind, n.sql = "composite type", []string{head + "(" + c.compositeColumns(t.Rel) + ")"}
		c.alias(objRef{pgClassClass, t.Rel}, n)
	case "p":
		n.kind, n.sql = "shell type", []string{"CREATE TYPE " + ident(t.Schema, t.Name)}
	default:
		n.kind, n.sql = "base type", []string{"CREATE TYPE " + ident(t.Schema, t.Name) + " (" + t.Body + ")"}
	}
	c.add(objRef{pgTypeClass, t.Oid}, n)
	c.alias(objRef{pgTypeClass, t.Array}, n)
	if t.Cyclic {
		c.shellStep(t, n)
	}
}

// shellStep announces a type, so that the functions it is made of can be made before it. Only they may do with the shell.
func (c *catalog) shellStep(t *typeDef, whole *node) {
	c.shells[t.Oid] = c.add(objRef{}, &node{phase: inTables, kind: "shell type", object: whole.object,
		sql: []string{"CREATE TYPE " + ident(t.Schema, t.Name)}})
	if place := c.byRef[objRef{pgNamespaceClass, t.Place}]; place != nil {
		c.shells[t.Oid].deps = []*node{place}
	}
	whole.deps = append(whole.deps, c.shells[t.Oid])
}

// readDomainChecks adds checks to domains: they may be not valid, or need a function that takes the domain.
func (c *catalog) readDomainChecks(ctx context.Context) error {
	found, err := list[struct {
		Oid, Type uint32
		NotNull   bool
		Name, Def string
	}](ctx, c.tx, `
		SELECT k.oid, k.contypid, k.contype = 'n', k.conname, pg_get_constraintdef(k.oid) FROM pg_constraint k
		WHERE k.contypid >= 16384 AND k.contype IN ('c', 'n') ORDER BY k.contypid, k.conname COLLATE "C"`)
	for _, k := range found {
		on := c.byRef[objRef{pgTypeClass, k.Type}]
		if on == nil || on.kind != "domain" {
			continue
		}
		if k.NotNull { // part of CREATE DOMAIN, and a constraint since PostgreSQL 17
			c.alias(objRef{pgConstraintClass, k.Oid}, on)
			continue
		}
		t := c.types[k.Type]
		c.add(objRef{pgConstraintClass, k.Oid}, &node{phase: inTables, kind: "domain check", object: on.object + "." + k.Name, deps: []*node{on},
			sql: []string{"ALTER DOMAIN " + ident(t.Schema, t.Name) + " ADD CONSTRAINT " + ident(k.Name) + " " + k.Def}})
	}
	return err
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
