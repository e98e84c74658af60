package postgres

import "context"

// leftSQL finds what has no steps. Each branch: kind, object, reason, what to do.
const leftSQL = `
	SELECT 'foreign table', i.identity, 'its rows are not in this database', 'create the foreign server and the table at the target by hand'
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pg_identify_object('pg_class'::regclass, c.oid, 0) i
	WHERE c.relkind = 'f' AND ` + userSchema + `
	UNION ALL SELECT 'foreign server', quote_ident(s.srvname), 'it holds addresses and passwords', 'CREATE SERVER and CREATE USER MAPPING at the target by hand'
	FROM pg_foreign_server s
	UNION ALL SELECT 'subscription', quote_ident(s.subname), 'it belongs to replication into the source', 'create it at the target after the cutover'
	FROM pg_subscription s WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
	UNION ALL SELECT 'large objects', count(*)::text || ' objects', 'they are not in the log and in no table', 'export them with pg_dump --blobs and restore them'
	FROM pg_largeobject_metadata HAVING count(*) > 0
	UNION ALL SELECT 'setting', coalesce((SELECT rolname FROM pg_roles WHERE oid = s.setrole), 'database') || ': ' || split_part(c, '=', 1),
	       'ALTER DATABASE .. SET and ALTER ROLE .. IN DATABASE .. SET belong to the server', 'set it at the target by hand'
	FROM pg_db_role_setting s, unnest(s.setconfig) c WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
	UNION ALL SELECT i.type, i.identity, 'objects of this kind are not carried', 'create it at the target by hand (pg_dump --schema-only shows it)'
	FROM (SELECT 'pg_opclass'::regclass AS class, oid FROM pg_opclass UNION ALL SELECT 'pg_opfamily'::regclass, oid FROM pg_opfamily
	      UNION ALL SELECT 'pg_ts_parser'::regclass, oid FROM pg_ts_parser UNION ALL SELECT 'pg_ts_template'::regclass, oid FROM pg_ts_template
	      UNION ALL SELECT 'pg_conversion'::regclass, oid FROM pg_conversion UNION ALL SELECT 'pg_am'::regclass, oid FROM pg_am
	      UNION ALL SELECT 'pg_language'::regclass, oid FROM pg_language UNION ALL SELECT 'pg_transform'::regclass, oid FROM pg_transform
	      UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid FROM pg_foreign_data_wrapper) o,
	     pg_identify_object(o.class, o.oid, 0) i
	WHERE o.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = o.class AND x.objid = o.oid AND x.deptype = 'e')
	UNION ALL SELECT 'comment', 'database', 'it belongs to the database itself', 'COMMENT ON DATABASE at the target'
	FROM pg_shdescription d JOIN pg_database b ON b.oid = d.objoid WHERE d.classoid = 'pg_database'::regclass AND b.datname = current_database()
	UNION ALL SELECT 'grant', 'database', 'it belongs to the database itself', 'GRANT the rights ON DATABASE at the target'
	FROM pg_database b WHERE b.datname = current_database() AND b.datacl IS NOT NULL AND NOT (b.datacl @> acldefault('d', b.datdba) AND b.datacl <@ acldefault('d', b.datdba))
	UNION ALL SELECT 'security label', i.identity, 'label providers belong to the server', 'SECURITY LABEL at the target by hand'
	FROM pg_seclabel l, pg_identify_object(l.classoid, l.objoid, l.objsubid) i
	ORDER BY 1, 2`

// readLeft lists what is not carried, so that nothing is left out in silence.
func (c *catalog) readLeft(ctx context.Context) error {
	found, err := list[struct{ Kind, Object, Reason, Todo string }](ctx, c.tx, leftSQL)
	for _, l := range found {
		c.leave(l.Kind, l.Object, l.Reason, l.Todo)
	}
	for _, r := range c.order {
		if c.skipped[r.Oid] != nil {
			c.leave("table", r.display(), "the table patterns leave it out", "widen the patterns if it is wanted")
		}
	}
	return err
}
