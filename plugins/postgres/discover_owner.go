package postgres

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// commentClasses are catalogs whose comments travel with objects that are carried.
const commentClasses = `'pg_class'::regclass, 'pg_type'::regclass, 'pg_proc'::regclass, 'pg_namespace'::regclass,
	'pg_constraint'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_rewrite'::regclass, 'pg_statistic_ext'::regclass,
	'pg_collation'::regclass, 'pg_extension'::regclass, 'pg_cast'::regclass, 'pg_operator'::regclass, 'pg_ts_dict'::regclass,
	'pg_ts_config'::regclass, 'pg_event_trigger'::regclass, 'pg_publication'::regclass`

func (c *catalog) readComments(ctx context.Context) error {
	found, err := list[struct {
		Class, Oid     uint32
		Type, Identity string
		Text           string
	}](ctx, c.tx, `
		SELECT d.classoid, d.objoid, i.type, i.identity, d.description FROM pg_description d,
		       pg_identify_object(d.classoid, d.objoid, d.objsubid) i
		WHERE d.objoid >= 16384 AND d.classoid IN (`+commentClasses+`) AND i.identity IS NOT NULL ORDER BY 1, 2, d.objsubid`)
	if err != nil {
		return err
	}
	carried := c.carried()
	for _, d := range found {
		on := c.byRef[objRef{d.Class, d.Oid}]
		if on == nil || !carried[on] {
			continue
		}
		if on.kind == "extension" && d.Class != pgExtensionClass {
			continue
		}
		c.add(objRef{}, &node{phase: max(inFinish, on.phase), kind: "comment", object: d.Identity, deps: []*node{on},
			sql: []string{"COMMENT ON " + commentTarget(d.Type, d.Identity) + " IS " + literal(d.Text)}})
	}
	return nil
}

// carried is who is still there after link.
func (c *catalog) carried() map[*node]bool {
	out := make(map[*node]bool, len(c.nodes))
	for _, n := range c.nodes {
		out[n] = true
	}
	return out
}

// commentTarget turns what pg_identify_object says into what COMMENT ON wants to hear.
func commentTarget(kind, identity string) string {
	switch {
	case strings.HasSuffix(kind, " column"):
		return "COLUMN " + identity
	case kind == "table constraint":
		return "CONSTRAINT " + identity
	case kind == "domain constraint":
		// "name on schema.domain": the last " on " is ours, names with it inside are quoted.
		if i := strings.LastIndex(identity, " on "); i >= 0 {
			return "CONSTRAINT " + identity[:i] + " ON DOMAIN " + identity[i+4:]
		}
	case kind == "composite type":
		return "TYPE " + identity
	case kind == "statistics object":
		return "STATISTICS " + identity
	case kind == "aggregate":
		return "AGGREGATE " + strings.Replace(identity, "()", "(*)", 1)
	}
	return strings.ToUpper(kind) + " " + identity
}

// ownedSQL lists objects with an owner; sequences of columns follow their tables.
var ownedSQL = `
	SELECT 'pg_class'::regclass::oid AS class, c.oid, c.relowner AS owner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p', 'v', 'm', 'c', 'S') AND c.relpersistence <> 't' AND ` + userSchema + `
	  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND c.relkind = 'S'
	                  AND d.deptype IN ('a', 'i') AND d.refclassid = 'pg_class'::regclass)
	UNION ALL SELECT 'pg_namespace'::regclass, n.oid, n.nspowner FROM pg_namespace n WHERE ` + userSchema + `
	UNION ALL SELECT 'pg_proc'::regclass, p.oid, p.proowner FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE ` + userSchema + `
	UNION ALL SELECT 'pg_type'::regclass, t.oid, t.typowner FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
	WHERE t.typtype IN ('e', 'd', 'r') AND ` + userSchema + `
	UNION ALL SELECT 'pg_collation'::regclass, o.oid, o.collowner FROM pg_collation o JOIN pg_namespace n ON n.oid = o.collnamespace WHERE ` + userSchema + `
	UNION ALL SELECT 'pg_operator'::regclass, o.oid, o.oprowner FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE ` + userSchema + `
	UNION ALL SELECT 'pg_ts_dict'::regclass, o.oid, o.dictowner FROM pg_ts_dict o JOIN pg_namespace n ON n.oid = o.dictnamespace WHERE ` + userSchema + `
	UNION ALL SELECT 'pg_ts_config'::regclass, o.oid, o.cfgowner FROM pg_ts_config o JOIN pg_namespace n ON n.oid = o.cfgnamespace WHERE ` + userSchema + `
	UNION ALL SELECT 'pg_statistic_ext'::regclass, e.oid, e.stxowner FROM pg_statistic_ext e JOIN pg_namespace n ON n.oid = e.stxnamespace WHERE ` + userSchema

// readOwners makes one step per role, the last but grants: a role that the target lacks costs one warning, not one per object.
func (c *catalog) readOwners(ctx context.Context) error {
	found, err := list[struct {
		Class, Oid     uint32
		Owner          string
		Type, Identity string
	}](ctx, c.tx, `SELECT o.class, o.oid, pg_get_userbyid(o.owner), i.type, i.identity FROM (`+ownedSQL+`) o,
		pg_identify_object(o.class, o.oid, 0) i WHERE i.identity IS NOT NULL ORDER BY 1, 2`)
	if err != nil {
		return err
	}
	carried := c.carried()
	steps := map[string]*node{}
	for _, o := range found {
		on := c.byRef[objRef{o.Class, o.Oid}]
		if on == nil || !carried[on] || on.kind == "extension" || on.object == "public" && o.Owner == "pg_database_owner" {
			continue
		}
		n := steps[o.Owner]
		if n == nil {
			n = &node{phase: inFinish, kind: "owner", object: o.Owner}
			steps[o.Owner] = n
		}
		n.sql = append(n.sql, "ALTER "+ownerTarget(o.Type, o.Identity)+" OWNER TO "+ident(o.Owner))
	}
	for _, role := range slices.Sorted(maps.Keys(steps)) {
		steps[role].deps = slices.DeleteFunc(slices.Clone(c.nodes), func(n *node) bool { return n.phase != inFinish || n.kind == "comment" || n.kind == "owner" })
		c.owners = append(c.owners, c.add(objRef{}, steps[role]))
	}
	return nil
}

func ownerTarget(kind, identity string) string {
	switch kind {
	case "composite type":
		return "TYPE " + identity
	case "statistics object":
		return "STATISTICS " + identity
	case "aggregate":
		return "AGGREGATE " + strings.Replace(identity, "()", "(*)", 1)
	}
	return strings.ToUpper(kind) + " " + identity
}
