package postgres

import "context"

// What publications of PostgreSQL 15 and later can say.
const (
	publishedColumns = `coalesce(' (' || (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
	                   FROM pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[])) || ')', '')`
	publishedRows    = `coalesce(' WHERE (' || pg_get_expr(r.prqual, r.prrelid) || ')', '')`
	publishedSchemas = `(SELECT string_agg('TABLES IN SCHEMA ' || quote_ident(n.nspname), ', ' ORDER BY n.nspname) FROM pg_publication_namespace s
	            JOIN pg_namespace n ON n.oid = s.pnnspid WHERE s.pnpubid = p.oid)`
)

// cutoverSQL finds what would act on the work of applying changes, or on what it writes.
const cutoverSQL = `
	SELECT 'pg_event_trigger'::regclass::oid, e.oid, 'event trigger', quote_ident(e.evtname), 'CREATE EVENT TRIGGER ' || quote_ident(e.evtname) || ' ON ' || e.evtevent
	       || coalesce(' WHEN TAG IN (' || (SELECT string_agg(quote_literal(t), ', ') FROM unnest(e.evttags) t) || ')', '')
	       || ' EXECUTE FUNCTION ' || e.evtfoid::regproc || '()'
	       || CASE e.evtenabled WHEN 'D' THEN E';\nALTER EVENT TRIGGER ' || quote_ident(e.evtname) || ' DISABLE'
	            WHEN 'R' THEN E';\nALTER EVENT TRIGGER ' || quote_ident(e.evtname) || ' ENABLE REPLICA'
	            WHEN 'A' THEN E';\nALTER EVENT TRIGGER ' || quote_ident(e.evtname) || ' ENABLE ALWAYS' ELSE '' END
	FROM pg_event_trigger e WHERE NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_event_trigger'::regclass AND x.objid = e.oid AND x.deptype = 'e')
	UNION ALL
	SELECT 'pg_publication'::regclass, p.oid, 'publication', quote_ident(p.pubname), 'CREATE PUBLICATION ' || quote_ident(p.pubname)
	       || CASE WHEN p.puballtables THEN ' FOR ALL TABLES' ELSE coalesce(' FOR ' || nullif(concat_ws(', ', 'TABLE ' || (SELECT string_agg('ONLY ' || r.prrelid::regclass || ` + publishedColumns + ` || ` + publishedRows + `, ', ' ORDER BY r.prrelid::regclass::text)
	            FROM pg_publication_rel r WHERE r.prpubid = p.oid), ` + publishedSchemas + `), ''), '') END
	       || ' WITH (publish = ' || quote_literal(concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END, CASE WHEN p.pubupdate THEN 'update' END,
	            CASE WHEN p.pubdelete THEN 'delete' END, CASE WHEN p.pubtruncate THEN 'truncate' END))
	       || CASE WHEN p.pubviaroot THEN ', publish_via_partition_root = true' ELSE '' END
	       || CASE to_jsonb(p) ->> 'pubgencols' WHEN 's' THEN ', publish_generated_columns = stored' ELSE '' END || ')'
	FROM pg_publication p WHERE p.pubname !~ '^drover_'
	ORDER BY 1, 2`

// readCutover carries what has to wait until nothing is applied any more.
func (c *catalog) readCutover(ctx context.Context) error {
	found, err := list[struct {
		Class, Oid        uint32
		Kind, Object, SQL string
	}](ctx, c.tx, cutoverSQL)
	for _, o := range found {
		c.add(objRef{o.Class, o.Oid}, &node{phase: inCutover, kind: o.Kind, object: o.Object, sql: []string{o.SQL}})
	}
	return err
}

// enabledAs is what ALTER TABLE says for tgenabled and ev_enabled.
var enabledAs = map[string]string{"O": "ENABLE ", "D": "DISABLE ", "R": "ENABLE REPLICA ", "A": "ENABLE ALWAYS "}

// stateSteps make a trigger or rule as loud as it is at the source. One that acts while changes are applied
// (session_replication_role = replica) stays in the usual mode, which is silent then, until the cutover.
func (c *catalog) stateSteps(n *node, state, table, what string) {
	sql := "ALTER TABLE " + table + " " + enabledAs[state] + what
	switch state {
	case "O":
	case "D":
		n.sql = append(n.sql, sql)
	default:
		mode := c.add(objRef{}, &node{phase: inCutover, kind: n.kind + " mode", object: n.object, deps: []*node{n}, sql: []string{sql}})
		mode.of, mode.table = n.of, n.table
	}
}

// readTriggerClones finds triggers of partitions that are not as loud as that of their parent.
func (c *catalog) readTriggerClones(ctx context.Context) error {
	found, err := list[struct {
		Rel, Root     uint32
		Name, Enabled string
	}](ctx, c.tx, `
		WITH RECURSIVE clone AS (
			SELECT t.oid, t.oid AS root FROM pg_trigger t WHERE t.tgparentid = 0 AND NOT t.tgisinternal
			UNION ALL SELECT t.oid, clone.root FROM pg_trigger t JOIN clone ON t.tgparentid = clone.oid)
		SELECT t.tgrelid, clone.root, t.tgname, t.tgenabled::text FROM clone JOIN pg_trigger t ON t.oid = clone.oid
		JOIN pg_trigger r ON r.oid = clone.root WHERE t.tgenabled <> r.tgenabled ORDER BY t.oid`)
	for _, t := range found {
		root, r := c.byRef[objRef{pgTriggerClass, t.Root}], c.rels[t.Rel]
		if root == nil || r == nil || c.skipped[t.Rel] != nil {
			continue
		}
		phase := inFinish
		if t.Enabled == "A" || t.Enabled == "R" {
			phase = inCutover
		}
		c.addTo(objRef{pgClassClass, t.Rel}, objRef{}, &node{phase: phase, kind: "trigger mode", object: r.display() + "." + t.Name, deps: []*node{root},
			sql: []string{"ALTER TABLE " + r.sql() + " " + enabledAs[t.Enabled] + "TRIGGER " + ident(t.Name)}})
	}
	return err
}
