package postgres

import (
	"context"

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
