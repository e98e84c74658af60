package postgres

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// commentClasses are catalogs whose comments travel with objects that are carried.
const commentClasses = `'pg_class'::regclass, 'pg_type'::regclass, 'pg_proc'::regclass, 'pg_namespace'::regclass,
	'pg_constraint'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_rewrite'::regclass, 'pg_statistic_ext'::regclass,
	'pg_collation'::regclass, 'pg_extension'::regclass, 'pg_cast'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass,
	'pg_opfamily'::regclass, 'pg_ts_dict'::regclass, 'pg_ts_config'::regclass, 'pg_ts_parser'::regclass, 'pg_ts_template'::regclass,
	'pg_event_trigger'::regclass, 'pg_publication'::regclass, 'pg_language'::regclass, 'pg_transform'::regclass, 'pg_am'::regclass,
	'pg_conversion'::regclass, 'pg_foreign_data_wrapper'::regclass, 'pg_foreign_server'::regclass`

// publicOID is the schema public: the system makes it, users change it.
const publicOID = 2200

func (c *catalog) readComments(ctx context.Context) error {
	found, err := list[struct {
		Class, Oid     uint32
		Type, Identity string
		Text           string
	}](ctx, c.tx, `
		SELECT d.classoid, d.objoid, i.type, i.identity, d.description FROM pg_description d,
		       pg_identify_object(d.classoid, d.objoid, d.objsubid) i
		WHERE d.objoid >= 16384 AND d.classoid IN (`+commentClasses+`) AND i.identity IS NOT NULL
		UNION ALL SELECT 'pg_namespace'::regclass, n.oid, 'schema', 'public', coalesce(obj_description(n.oid, 'pg_namespace'), '')
		FROM pg_namespace n WHERE n.oid = `+fmt.Sprint(publicOID)+` AND obj_description(n.oid, 'pg_namespace') IS DISTINCT FROM 'standard public schema'
		ORDER BY 1, 2, 4`)
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
	return c.databaseComment(ctx)
}

func (c *catalog) databaseComment(ctx context.Context) error {
	found, err := list[struct{ Text string }](ctx, c.tx, `
		SELECT d.description FROM pg_shdescription d JOIN pg_database b ON b.oid = d.objoid
		WHERE d.classoid = 'pg_database'::regclass AND b.datname = current_database()`)
	for _, d := range found {
		c.add(objRef{}, &node{phase: inFinish, kind: "comment", object: "database",
			sql: []string{onDatabase("COMMENT ON DATABASE " + thisDatabase + " IS " + literal(d.Text))}})
	}
	return err
}

// readLabels carries the labels of security modules; whether the target has the module only it can tell.
func (c *catalog) readLabels(ctx context.Context) error {
	found, err := list[struct {
		Class, Oid                      uint32
		Type, Identity, Provider, Label string
	}](ctx, c.tx, `
		SELECT l.classoid, l.objoid, i.type, i.identity, l.provider, l.label FROM pg_seclabel l, pg_identify_object(l.classoid, l.objoid, l.objsubid) i
		UNION ALL SELECT l.classoid, l.objoid, i.type, i.identity, l.provider, l.label FROM pg_shseclabel l, pg_identify_object(l.classoid, l.objoid, 0) i
		WHERE l.classoid = 'pg_database'::regclass AND l.objoid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1, 2, 4, 5`)
	if err != nil {
		return err
	}
	carried := c.carried()
	for _, l := range found {
		object, label := l.Identity+" for "+l.Provider, " IS "+literal(l.Label)
		sql := "SECURITY LABEL FOR " + ident(l.Provider) + " ON "
		on := c.byRef[objRef{l.Class, l.Oid}]
		switch {
		case l.Type == "database":
			c.add(objRef{}, &node{phase: inFinish, kind: "security label", object: "database for " + l.Provider,
				sql: []string{onDatabase(sql + "DATABASE " + thisDatabase + label)}})
		case on == nil || !carried[on]:
			c.leave("security label", object, "what it is on is not carried", sql+commentTarget(l.Type, l.Identity)+label+";")
		default:
			c.add(objRef{}, &node{phase: max(inFinish, on.phase), kind: "security label", object: object, deps: []*node{on},
				sql: []string{sql + commentTarget(l.Type, l.Identity) + label}})
		}
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
	cut := func(word string) (before, after string, ok bool) { // the last one is the server's: names with it inside are quoted
		i := strings.LastIndex(identity, word)
		if i < 0 {
			return "", "", false
		}
		return identity[:i], identity[i+len(word):], true
	}
	switch {
	case strings.HasSuffix(kind, " column"):
		return "COLUMN " + identity
	case kind == "table constraint":
		return "CONSTRAINT " + identity
	case kind == "domain constraint":
		if name, domain, ok := cut(" on "); ok {
			return "CONSTRAINT " + name + " ON DOMAIN " + domain
		}
	case kind == "transform":
		what, language, ok := cut(" on language ")
		if !ok { // PostgreSQL 18 says it so
			what, language, ok = cut(" language ")
		}
		if ok {
			return "TRANSFORM " + strings.ToUpper(what[:4]) + what[4:] + " LANGUAGE " + language
		}
	}
	return ownerTarget(kind, identity)
}

// ownedSQL lists objects with an owner; sequences of columns follow their tables.
var ownedSQL = `
	SELECT 'pg_class'::regclass::oid AS class, c.oid, c.relowner AS owner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p', 'v', 'm', 'c', 'f', 'S') AND c.relpersistence <> 't' AND ` + userSchema + `
	  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND c.relkind = 'S'
	                  AND d.deptype IN ('a', 'i') AND d.refclassid = 'pg_class'::regclass)
	UNION ALL SELECT 'pg_namespace'::regclass, n.oid, n.nspowner FROM pg_namespace n WHERE ` + userSchema + `
	UNION ALL SELECT 'pg_proc'::regclass, p.oid, p.proowner FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE ` + userSchema + `
	UNION ALL SELECT 'pg_type'::regclass, t.oid, t.typowner FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
	WHERE (t.typtype IN ('e', 'd', 'r') OR t.typtype IN ('b', 'p') AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)) AND ` + userSchema + `
	UNION ALL SELECT 'pg_collation'::regclass, o.oid, o.collowner FROM pg_collation o JOIN pg_namespace n ON n.oid = o.collnamespace WHERE ` + userSchema + `
	UNION ALL SELECT 'pg_operator'::regclass, o.oid, o.oprowner FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE ` + userSchema + `
	UNION ALL SELECT 'pg_ts_dict'::regclass, o.oid, o.dictowner FROM pg_ts_dict o JOIN pg_namespace n ON n.oid = o.dictnamespace WHERE ` + userSchema + `
	UNION ALL SELECT 'pg_ts_config'::regclass, o.oid, o.cfgowner FROM pg_ts_config o JOIN pg_namespace n ON n.oid = o.cfgnamespace WHERE ` + userSchema + `
	UNION ALL SELECT 'pg_opclass'::regclass, o.oid, o.opcowner FROM pg_opclass o
	UNION ALL SELECT 'pg_opfamily'::regclass, o.oid, o.opfowner FROM pg_opfamily o
	UNION ALL SELECT 'pg_conversion'::regclass, o.oid, o.conowner FROM pg_conversion o
	UNION ALL SELECT 'pg_language'::regclass, o.oid, o.lanowner FROM pg_language o
	UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, o.oid, o.fdwowner FROM pg_foreign_data_wrapper o
	UNION ALL SELECT 'pg_foreign_server'::regclass, o.oid, o.srvowner FROM pg_foreign_server o
	UNION ALL SELECT 'pg_event_trigger'::regclass, o.oid, o.evtowner FROM pg_event_trigger o
	UNION ALL SELECT 'pg_publication'::regclass, o.oid, o.pubowner FROM pg_publication o
	UNION ALL SELECT 'pg_statistic_ext'::regclass, e.oid, e.stxowner FROM pg_statistic_ext e JOIN pg_namespace n ON n.oid = e.stxnamespace WHERE ` + userSchema

// readOwners makes one step per role, the last but grants: a role that the target lacks costs one warning, not one per object.
func (c *catalog) readOwners(ctx context.Context) error {
	found, err := list[struct {
		Class, Oid uint32
		Owner      string
		// Preset: initdb chose it, the owner of the database since PostgreSQL 15, before that the first superuser.
		Preset         bool
		Type, Identity string
	}](ctx, c.tx, `SELECT o.class, o.oid, pg_get_userbyid(o.owner), o.owner = 6171 OR o.owner = 10 AND current_setting('server_version_num')::int < 150000, i.type, i.identity FROM (`+ownedSQL+`) o,
		pg_identify_object(o.class, o.oid, 0) i WHERE i.identity IS NOT NULL ORDER BY 1, 2`)
	if err != nil {
		return err
	}
	carried := c.carried()
	type group struct {
		phase connectorv1.Phase
		role  string
	}
	steps := map[group]*node{}
	for _, o := range found {
		on := c.byRef[objRef{o.Class, o.Oid}]
		if on == nil || !carried[on] || on.kind == "extension" || on.object == "public" && o.Preset {
			continue
		}
		g := group{max(inFinish, on.phase), o.Owner}
		n := steps[g]
		if n == nil {
			n = &node{phase: g.phase, kind: "owner", object: o.Owner}
			steps[g] = n
		}
		n.sql = append(n.sql, "ALTER "+ownerTarget(o.Type, o.Identity)+" OWNER TO "+ident(o.Owner))
	}
	for _, g := range slices.SortedFunc(maps.Keys(steps), func(a, b group) int { return cmp.Or(cmp.Compare(a.phase, b.phase), cmp.Compare(a.role, b.role)) }) {
		steps[g].deps = slices.DeleteFunc(slices.Clone(c.nodes), func(n *node) bool { return n.phase != g.phase || lastKinds[n.kind] })
		n := c.add(objRef{}, steps[g])
		if g.phase == inFinish {
			c.owners = append(c.owners, n)
		}
	}
	return nil
}

// lastKinds are steps that owners need not wait for.
var lastKinds = map[string]bool{"comment": true, "security label": true, "owner": true, "setting": true}

// ownerTarget is the same for ALTER … OWNER TO.
func ownerTarget(kind, identity string) string {
	switch kind {
	case "composite type":
		return "TYPE " + identity
	case "statistics object":
		return "STATISTICS " + identity
	case "foreign-data wrapper":
		return "FOREIGN DATA WRAPPER " + identity
	case "aggregate":
		return "AGGREGATE " + strings.Replace(identity, "()", "(*)", 1)
	}
	return strings.ToUpper(kind) + " " + identity
}
