package postgres

import "context"

// handledSQL finds what stands on handler functions and belongs to no schema, or to one but in name: class, oid, kind, object, SQL.
var handledSQL = `
	SELECT 'pg_language'::regclass::oid, l.oid, 'language', i.identity, 'CREATE ' || CASE WHEN l.lanpltrusted THEN 'TRUSTED ' ELSE '' END || 'LANGUAGE ' || i.identity
	       || ' HANDLER ' || l.lanplcallfoid::regproc || CASE WHEN l.laninline <> 0 THEN ' INLINE ' || l.laninline::regproc ELSE '' END
	       || CASE WHEN l.lanvalidator <> 0 THEN ' VALIDATOR ' || l.lanvalidator::regproc ELSE '' END
	FROM pg_language l, pg_identify_object('pg_language'::regclass, l.oid, 0) i WHERE l.lanispl AND ` + usersOwn("pg_language", "l.oid") + `
	UNION ALL
	SELECT 'pg_transform'::regclass, t.oid, 'transform', 'for ' || format_type(t.trftype, NULL) || ' on language ' || quote_ident(l.lanname), 'CREATE TRANSFORM FOR ' || format_type(t.trftype, NULL) || ' LANGUAGE ' || quote_ident(l.lanname) || ' ('
	       || concat_ws(', ', CASE WHEN t.trffromsql <> 0 THEN 'FROM SQL WITH FUNCTION ' || t.trffromsql::regprocedure END,
	                    CASE WHEN t.trftosql <> 0 THEN 'TO SQL WITH FUNCTION ' || t.trftosql::regprocedure END) || ')'
	FROM pg_transform t JOIN pg_language l ON l.oid = t.trflang WHERE ` + usersOwn("pg_transform", "t.oid") + `
	UNION ALL
	SELECT 'pg_am'::regclass, a.oid, 'access method', i.identity, 'CREATE ACCESS METHOD ' || i.identity || CASE a.amtype WHEN 'i' THEN ' TYPE INDEX' ELSE ' TYPE TABLE' END
	       || ' HANDLER ' || a.amhandler
	FROM pg_am a, pg_identify_object('pg_am'::regclass, a.oid, 0) i WHERE ` + usersOwn("pg_am", "a.oid") + `
	UNION ALL
	SELECT 'pg_conversion'::regclass, k.oid, 'conversion', i.identity, 'CREATE ' || CASE WHEN k.condefault THEN 'DEFAULT ' ELSE '' END || 'CONVERSION ' || i.identity
	       || ' FOR ' || quote_literal(pg_encoding_to_char(k.conforencoding)) || ' TO ' || quote_literal(pg_encoding_to_char(k.contoencoding)) || ' FROM ' || k.conproc
	FROM pg_conversion k, pg_identify_object('pg_conversion'::regclass, k.oid, 0) i WHERE ` + usersOwn("pg_conversion", "k.oid") + `
	UNION ALL
	SELECT 'pg_ts_parser'::regclass, p.oid, 'text search parser', i.identity, 'CREATE TEXT SEARCH PARSER ' || i.identity || ' (START = ' || p.prsstart || ', GETTOKEN = ' || p.prstoken
	       || ', END = ' || p.prsend || CASE WHEN p.prsheadline <> 0 THEN ', HEADLINE = ' || p.prsheadline ELSE '' END || ', LEXTYPES = ' || p.prslextype || ')'
	FROM pg_ts_parser p, pg_identify_object('pg_ts_parser'::regclass, p.oid, 0) i WHERE ` + usersOwn("pg_ts_parser", "p.oid") + `
	UNION ALL
	SELECT 'pg_ts_template'::regclass, t.oid, 'text search template', i.identity, 'CREATE TEXT SEARCH TEMPLATE ' || i.identity || ' ('
	       || CASE WHEN t.tmplinit <> 0 THEN 'INIT = ' || t.tmplinit || ', ' ELSE '' END || 'LEXIZE = ' || t.tmpllexize || ')'
	FROM pg_ts_template t, pg_identify_object('pg_ts_template'::regclass, t.oid, 0) i WHERE ` + usersOwn("pg_ts_template", "t.oid") + `
	UNION ALL
	SELECT 'pg_foreign_data_wrapper'::regclass, w.oid, 'foreign data wrapper', i.identity, 'CREATE FOREIGN DATA WRAPPER ' || i.identity
	       || CASE WHEN w.fdwhandler <> 0 THEN ' HANDLER ' || w.fdwhandler::regproc ELSE '' END || CASE WHEN w.fdwvalidator <> 0 THEN ' VALIDATOR ' || w.fdwvalidator::regproc ELSE '' END
	       || coalesce(' OPTIONS (' || ` + openOptions("w.fdwoptions") + ` || ')', '')
	FROM pg_foreign_data_wrapper w, pg_identify_object('pg_foreign_data_wrapper'::regclass, w.oid, 0) i WHERE ` + usersOwn("pg_foreign_data_wrapper", "w.oid") + `
	UNION ALL
	SELECT 'pg_foreign_server'::regclass, s.oid, 'foreign server', i.identity, 'CREATE SERVER ' || i.identity || coalesce(' TYPE ' || quote_literal(s.srvtype), '')
	       || coalesce(' VERSION ' || quote_literal(s.srvversion), '') || ' FOREIGN DATA WRAPPER ' || quote_ident(w.fdwname) || coalesce(' OPTIONS (' || ` + openOptions("s.srvoptions") + ` || ')', '')
	FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw, pg_identify_object('pg_foreign_server'::regclass, s.oid, 0) i WHERE ` + usersOwn("pg_foreign_server", "s.oid") + `
	ORDER BY 1, 2`

// usersOwn: made by a user, and not along with an extension.
func usersOwn(class, oid string) string { return ` ` + oid + ` >= 16384 AND ` + notMember(class, oid) }

// readHandled carries languages, transforms, access methods, conversions, parsers and templates of text search, and where foreign
// tables come from.
func (c *catalog) readHandled(ctx context.Context) error {
	if err := c.addBuilt(ctx, handledSQL); err != nil {
		return err
	}
	return c.readUserMappings(ctx)
}
