package postgres

import "context"

// builtSQL makes one statement per object from the catalog's columns, where the server has no function that prints it: class, oid,
// kind, object as people write it, SQL.
var builtSQL = `
	SELECT 'pg_cast'::regclass::oid, k.oid, 'cast', i.identity, 'CREATE CAST (' || format_type(k.castsource, NULL) || ' AS ' || format_type(k.casttarget, NULL) || ')'
	       || CASE k.castmethod WHEN 'i' THEN ' WITH INOUT' WHEN 'b' THEN ' WITHOUT FUNCTION' ELSE ' WITH FUNCTION ' || k.castfunc::regprocedure END
	       || CASE k.castcontext WHEN 'a' THEN ' AS ASSIGNMENT' WHEN 'i' THEN ' AS IMPLICIT' ELSE '' END
	FROM pg_cast k, pg_identify_object('pg_cast'::regclass, k.oid, 0) i
	WHERE k.oid >= 16384 AND ` + ofItself("pg_cast", "k.oid") + `
	UNION ALL
	SELECT 'pg_operator'::regclass, o.oid, 'operator', i.identity, 'CREATE OPERATOR ' || quote_ident(n.nspname) || '.' || o.oprname || ' (FUNCTION = ' || o.oprcode
	       || CASE WHEN o.oprleft <> 0 THEN ', LEFTARG = ' || format_type(o.oprleft, NULL) ELSE '' END
	       || ', RIGHTARG = ' || format_type(o.oprright, NULL)
	       || coalesce((SELECT ', COMMUTATOR = OPERATOR(' || quote_ident(x.nspname) || '.' || c.oprname || ')' FROM pg_operator c
	                    JOIN pg_namespace x ON x.oid = c.oprnamespace WHERE c.oid = o.oprcom), '')
	       || coalesce((SELECT ', NEGATOR = OPERATOR(' || quote_ident(x.nspname) || '.' || c.oprname || ')' FROM pg_operator c
	                    JOIN pg_namespace x ON x.oid = c.oprnamespace WHERE c.oid = o.oprnegate), '')
	       || CASE WHEN o.oprrest <> 0 THEN ', RESTRICT = ' || o.oprrest ELSE '' END || CASE WHEN o.oprjoin <> 0 THEN ', JOIN = ' || o.oprjoin ELSE '' END
	       || CASE WHEN o.oprcanhash THEN ', HASHES' ELSE '' END || CASE WHEN o.oprcanmerge THEN ', MERGES' ELSE '' END || ')'
	FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace, pg_identify_object('pg_operator'::regclass, o.oid, 0) i
	WHERE o.oprcode <> 0 AND ` + userSchema + ` AND ` + ofItself("pg_operator", "o.oid") + `
	UNION ALL
	SELECT 'pg_ts_dict'::regclass, d.oid, 'text search dictionary', i.identity, 'CREATE TEXT SEARCH DICTIONARY ' || i.identity || ' (TEMPLATE = '
	       || quote_ident(tn.nspname) || '.' || quote_ident(t.tmplname) || coalesce(', ' || d.dictinitoption, '') || ')'
	FROM pg_ts_dict d JOIN pg_namespace n ON n.oid = d.dictnamespace JOIN pg_ts_template t ON t.oid = d.dicttemplate
	JOIN pg_namespace tn ON tn.oid = t.tmplnamespace, pg_identify_object('pg_ts_dict'::regclass, d.oid, 0) i
	WHERE ` + userSchema + ` AND ` + ofItself("pg_ts_dict", "d.oid") + `
	UNION ALL
	SELECT 'pg_ts_config'::regclass, k.oid, 'text search configuration', i.identity, 'CREATE TEXT SEARCH CONFIGURATION ' || i.identity || ' (PARSER = '
	       || quote_ident(pn.nspname) || '.' || quote_ident(p.prsname) || ')'
	       || coalesce((SELECT string_agg(E';\nALTER TEXT SEARCH CONFIGURATION ' || i.identity || ' ADD MAPPING FOR ' || m.token || ' WITH ' || m.dicts, '' ORDER BY m.token)
	            FROM (SELECT quote_ident(tt.alias) AS token, string_agg(m.mapdict::regdictionary::text, ', ' ORDER BY m.mapseqno) AS dicts
	                  FROM pg_ts_config_map m JOIN ts_token_type(k.cfgparser) tt ON tt.tokid = m.maptokentype WHERE m.mapcfg = k.oid GROUP BY 1) m), '')
	FROM pg_ts_config k JOIN pg_namespace n ON n.oid = k.cfgnamespace JOIN pg_ts_parser p ON p.oid = k.cfgparser
	JOIN pg_namespace pn ON pn.oid = p.prsnamespace, pg_identify_object('pg_ts_config'::regclass, k.oid, 0) i
	WHERE ` + userSchema + ` AND ` + ofItself("pg_ts_config", "k.oid") + `
	ORDER BY 1, 2`

// ofItself: neither part of an extension nor made by the server along with something else.
func ofItself(class, oid string) string {
	return ` NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = '` + class + `'::regclass AND x.objid = ` + oid + ` AND x.deptype IN ('e', 'i')) `
}

// readBuilt carries casts, operators, and the dictionaries and configurations of text search.
func (c *catalog) readBuilt(ctx context.Context) error { return c.addBuilt(ctx, builtSQL) }

func (c *catalog) addBuilt(ctx context.Context, sql string) error {
	found, err := list[struct {
		Class, Oid        uint32
		Kind, Object, SQL string
	}](ctx, c.tx, sql)
	for _, b := range found {
		c.add(objRef{b.Class, b.Oid}, &node{phase: inTables, kind: b.Kind, object: b.Object, sql: []string{b.SQL}})
	}
	return err
}
