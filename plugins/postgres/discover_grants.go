package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// aclSQL lists objects with privileges: class, oid, column number, owner, what acldefault calls the kind, the list, the column.
const aclSQL = `
	SELECT 'pg_class'::regclass::oid AS class, c.oid, 0 AS sub, c.relowner AS owner, CASE WHEN c.relkind = 'S' THEN 's' ELSE 'r' END AS kind, c.relacl AS acl, '' AS col
	FROM pg_class c WHERE c.relacl IS NOT NULL AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relnamespace IS DISTINCT FROM to_regnamespace('information_schema')
	UNION ALL SELECT 'pg_class'::regclass, c.oid, a.attnum, c.relowner, 'c', a.attacl, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE a.attacl IS NOT NULL
	UNION ALL SELECT 'pg_namespace'::regclass, n.oid, 0, n.nspowner, 'n', n.nspacl, '' FROM pg_namespace n WHERE n.nspacl IS NOT NULL AND n.nspname NOT IN ('drover', 'information_schema')
	UNION ALL SELECT 'pg_proc'::regclass, p.oid, 0, p.proowner, 'f', p.proacl, '' FROM pg_proc p WHERE p.proacl IS NOT NULL
	UNION ALL SELECT 'pg_type'::regclass, t.oid, 0, t.typowner, 'T', t.typacl, '' FROM pg_type t WHERE t.typacl IS NOT NULL
	UNION ALL SELECT 'pg_language'::regclass, l.oid, 0, l.lanowner, 'l', l.lanacl, '' FROM pg_language l WHERE l.lanacl IS NOT NULL
	UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, w.oid, 0, w.fdwowner, 'F', w.fdwacl, '' FROM pg_foreign_data_wrapper w WHERE w.fdwacl IS NOT NULL
	UNION ALL SELECT 'pg_foreign_server'::regclass, s.oid, 0, s.srvowner, 'S', s.srvacl, '' FROM pg_foreign_server s WHERE s.srvacl IS NOT NULL
	UNION ALL SELECT 'pg_database'::regclass, d.oid, 0, d.datdba, 'd', d.datacl, '' FROM pg_database d WHERE d.datacl IS NOT NULL AND d.datname = current_database()`

type grant struct {
	Class, Oid uint32
	Kind       string
	Column     string
	Identity   string
	Grantee    string
	Privileges string
	// Option: with grant option. Revoked: a default that was taken away.
	Option, Revoked bool
	// Grantor is empty for the owner.
	Grantor string
}

// grantsSQL compares each list with what the object had when the server or an extension made it, else with the default of its
// kind: both directions are told.
const grantsSQL = `
	WITH o AS (SELECT l.*, coalesce(p.initprivs, acldefault(l.kind::"char", l.owner)) AS before FROM (` + aclSQL + `) l
	           LEFT JOIN pg_init_privs p ON p.classoid = l.class AND p.objoid = l.oid AND p.objsubid = l.sub),
	have AS (SELECT o.*, x.grantor, x.grantee, x.privilege_type, x.is_grantable FROM o, aclexplode(o.acl) x),
	base AS (SELECT o.*, x.grantee, x.privilege_type, x.is_grantable FROM o, aclexplode(o.before) x),
	diff AS (
		SELECT class, oid, kind, col, grantee, privilege_type, is_grantable, false AS revoked, nullif(h.grantor, h.owner) AS grantor FROM have h WHERE h.grantor <> h.owner OR NOT EXISTS (SELECT FROM base b
		 WHERE (b.class, b.oid, b.col, b.grantee, b.privilege_type, b.is_grantable) = (h.class, h.oid, h.col, h.grantee, h.privilege_type, h.is_grantable))
		UNION ALL
		SELECT class, oid, kind, col, grantee, privilege_type, is_grantable, true, NULL FROM base b WHERE NOT EXISTS (SELECT FROM have h
		 WHERE (b.class, b.oid, b.col, b.grantee, b.privilege_type) = (h.class, h.oid, h.col, h.grantee, h.privilege_type) AND h.grantor = h.owner))
	SELECT d.class, d.oid, d.kind, d.col, i.identity, CASE WHEN d.grantee = 0 THEN '' ELSE pg_get_userbyid(d.grantee) END,
	       string_agg(d.privilege_type, ',' ORDER BY d.privilege_type), d.is_grantable, d.revoked, coalesce(pg_get_userbyid(d.grantor), '')
	FROM diff d, pg_identify_object(d.class, d.oid, 0) i
	GROUP BY 1, 2, 3, 4, 5, 6, 8, 9, 10 ORDER BY d.revoked DESC, d.oid, 4, 6, 10`

// readGrants makes one step per grantee, after the owners are set: grants are given in the owner's name, or in that of who gave
// them, after those that let him.
func (c *catalog) readGrants(ctx context.Context) error {
	found, err := list[grant](ctx, c.tx, grantsSQL)
	if err != nil {
		return err
	}
	steps, turn := grantSteps{}, turns(found)
	for _, g := range found {
		if on := c.byRef[objRef{g.Class, g.Oid}]; g.Kind != "d" && g.Oid >= firstUserOID && (on == nil || on.gone != "") {
			continue
		}
		for _, privileges := range c.worded(g.Kind, g.Privileges) {
			g.Privileges = privileges
			c.grantTo(steps, grantKey{turn[g], g.Grantee}, inNameOf(g.Grantor, g.sql()))
		}
	}
	if err := c.readDefaultGrants(ctx, steps); err != nil {
		return err
	}
	if err := c.grantPublic(ctx, steps); err != nil {
		return err
	}
	c.addGrants(steps)
	return nil
}

// grantPublic says whether everybody may create in the schema public: until PostgreSQL 14 they may unless somebody forbids it, since
// then only if somebody allows it.
func (c *catalog) grantPublic(ctx context.Context, steps grantSteps) error {
	if c.major() >= 15 || c.byRef[objRef{pgNamespaceClass, publicOID}] == nil {
		return nil
	}
	found, err := list[struct{ May bool }](ctx, c.tx, fmt.Sprintf(`SELECT EXISTS (SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x
		WHERE x.grantee = 0 AND x.privilege_type = 'CREATE') FROM pg_namespace n WHERE n.oid = %d`, publicOID))
	for _, f := range found {
		c.grantTo(steps, grantKey{}, grantSQL(!f.May, false, "CREATE ON SCHEMA public", ""))
	}
	return err
}

// worded says ALL for every right on a table that the server knows: a newer one knows more. The right that an older one does not know
// is given apart.
func (c *catalog) worded(kind, privileges string) []string {
	const maintain = "MAINTAIN" // since PostgreSQL 17
	parts := strings.Split(privileges, ",")
	all := 7
	if c.major() >= 17 {
		all++
	}
	switch {
	case kind == "r" && len(parts) == all:
		return []string{"ALL"}
	case len(parts) > 1 && slices.Contains(parts, maintain):
		return []string{strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == maintain }), ","), maintain}
	}
	return []string{privileges}
}

func role(name string) string {
	if name == "" {
		return "PUBLIC"
	}
	return ident(name)
}

func (g *grant) sql() string {
	if g.Kind == "d" {
		return onDatabase(grantSQL(g.Revoked, g.Option, g.Privileges+" ON DATABASE "+thisDatabase, g.Grantee))
	}
	what := g.Privileges
	if g.Column != "" {
		parts := strings.Split(g.Privileges, ",")
		for i := range parts {
			parts[i] += " (" + ident(g.Column) + ")"
		}
		what = strings.Join(parts, ", ")
	}
	return grantSQL(g.Revoked, g.Option, what+" ON "+grantWords[g.Kind]+g.Identity, g.Grantee)
}

// grantWords are what GRANT calls the kinds of acldefault.
var grantWords = map[string]string{
	"r": "TABLE ", "c": "TABLE ", "s": "SEQUENCE ", "n": "SCHEMA ", "f": "ROUTINE ", "T": "TYPE ", "l": "LANGUAGE ",
	"F": "FOREIGN DATA WRAPPER ", "S": "FOREIGN SERVER ",
}

func grantSQL(revoked, option bool, what, who string) string {
	switch {
	case revoked:
		return "REVOKE " + what + " FROM " + role(who)
	case option:
		return "GRANT " + what + " TO " + role(who) + " WITH GRANT OPTION"
	}
	return "GRANT " + what + " TO " + role(who)
}

// readDefaultGrants carries ALTER DEFAULT PRIVILEGES. Those without a schema replace the built-in default, those with one add to it.
func (c *catalog) readDefaultGrants(ctx context.Context, steps grantSteps) error {
	found, err := list[struct {
		Owner, Schema, Kind, Grantee, Privileges string
		Option, Revoked                          bool
	}](ctx, c.tx, `
		WITH o AS (SELECT d.oid, d.defaclrole AS owner, coalesce(n.nspname, '') AS schema, d.defaclobjtype AS kind, d.defaclacl AS acl,
		           CASE WHEN d.defaclnamespace = 0 THEN acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END::"char", d.defaclrole)
		                END AS base
		           FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace),
		have AS (SELECT o.oid, o.owner, o.schema, o.kind, x.grantee, x.privilege_type, x.is_grantable FROM o, aclexplode(o.acl) x),
		base AS (SELECT o.oid, o.owner, o.schema, o.kind, x.grantee, x.privilege_type, x.is_grantable FROM o, aclexplode(o.base) x),
		diff AS (SELECT *, false AS revoked FROM (TABLE have EXCEPT TABLE base) a UNION ALL SELECT *, true FROM (TABLE base EXCEPT TABLE have) b)
		SELECT pg_get_userbyid(owner), schema, kind::text, CASE WHEN grantee = 0 THEN '' ELSE pg_get_userbyid(grantee) END,
		       string_agg(privilege_type, ',' ORDER BY privilege_type), is_grantable, revoked
		FROM diff GROUP BY 1, 2, 3, 4, 6, 7 ORDER BY 7 DESC, 1, 2, 3, 4`)
	if err != nil {
		return err
	}
	for _, d := range found {
		sql := "ALTER DEFAULT PRIVILEGES FOR ROLE " + ident(d.Owner)
		if d.Schema != "" {
			sql += " IN SCHEMA " + ident(d.Schema)
		}
		word := map[string]string{"r": "TABLES", "S": "SEQUENCES", "f": "ROUTINES", "T": "TYPES", "n": "SCHEMAS", "L": "LARGE OBJECTS"}[d.Kind]
		for _, privileges := range c.worded(d.Kind, d.Privileges) {
			c.grantTo(steps, grantKey{who: d.Grantee}, sql+" "+grantSQL(d.Revoked, d.Option, privileges+" ON "+word, d.Grantee))
		}
	}
	return nil
}
