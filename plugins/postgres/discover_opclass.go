package postgres

import "context"

// opGroup is an operator family, what was added to one, or an operator class. Ops and Procs are the members that came with it: the
// server keeps what they need under their own numbers.
type opGroup struct {
	Oid, Family uint32
	Object, SQL string
	Ops, Procs  []uint32
}

// Members as ALTER OPERATOR FAMILY and CREATE OPERATOR CLASS want to hear them.
const (
	amopText = `'OPERATOR ' || o.amopstrategy || ' ' || o.amopopr::regoperator || coalesce((SELECT ' FOR ORDER BY ' || quote_ident(sn.nspname) || '.' || quote_ident(s.opfname)
		FROM pg_opfamily s JOIN pg_namespace sn ON sn.oid = s.opfnamespace WHERE s.oid = o.amopsortfamily), '')`
	amprocText = `'FUNCTION ' || o.amprocnum || ' (' || format_type(o.amproclefttype, NULL) || ', ' || format_type(o.amprocrighttype, NULL) || ') ' || o.amproc::regprocedure`
)

// membersOf lists the members that the server holds to be part of one object of a catalog.
func membersOf(class, oid string) string {
	return `SELECT 1 AS part, o.oid, o.amopstrategy AS at, ` + amopText + ` AS text FROM pg_depend d JOIN pg_amop o ON o.oid = d.objid
			WHERE d.classid = 'pg_amop'::regclass AND d.refclassid = '` + class + `'::regclass AND d.refobjid = ` + oid + `
			UNION ALL SELECT 2, o.oid, o.amprocnum, ` + amprocText + ` FROM pg_depend d JOIN pg_amproc o ON o.oid = d.objid
			WHERE d.classid = 'pg_amproc'::regclass AND d.refclassid = '` + class + `'::regclass AND d.refobjid = ` + oid
}

const membersFolded = `string_agg(m.text, ', ' ORDER BY m.part, m.at, m.text), coalesce(array_agg(m.oid) FILTER (WHERE m.part = 1), '{}'),
	coalesce(array_agg(m.oid) FILTER (WHERE m.part = 2), '{}')`

var familiesSQL = `
	SELECT f.oid, f.oid, i.identity, 'CREATE OPERATOR FAMILY ' || i.identity, '{}'::oid[], '{}'::oid[]
	FROM pg_opfamily f JOIN pg_namespace n ON n.oid = f.opfnamespace, pg_identify_object('pg_opfamily'::regclass, f.oid, 0) i
	WHERE ` + userSchema + ` AND ` + notMember("pg_opfamily", "f.oid") + ` ORDER BY f.oid`

// looseSQL finds members that belong to no class, also those that users, and not extensions, added to the server's own families.
var looseSQL = `
	SELECT 0::oid, f.oid, i.identity, 'ALTER OPERATOR FAMILY ' || i.identity || ' ADD ' || ` + membersFolded + `
	FROM pg_opfamily f CROSS JOIN LATERAL (` + membersOf("pg_opfamily", "f.oid") + `) m, pg_identify_object('pg_opfamily'::regclass, f.oid, 0) i
	WHERE m.oid >= 16384 AND ` + notMember("pg_opfamily", "f.oid") + `
	  AND (f.oid >= 16384 OR NOT EXISTS (SELECT FROM pg_depend y JOIN pg_depend x ON x.classid = y.refclassid AND x.objid = y.refobjid AND x.deptype = 'e'
	                  WHERE y.objid = m.oid AND y.classid IN ('pg_amop'::regclass, 'pg_amproc'::regclass)))
	GROUP BY f.oid, i.identity ORDER BY f.oid`

// A class without members of its own still has to say something: its storage type.
var classesSQL = `
	SELECT c.oid, c.opcfamily, i.identity, 'CREATE OPERATOR CLASS ' || quote_ident(n.nspname) || '.' || quote_ident(c.opcname) || CASE WHEN c.opcdefault THEN ' DEFAULT' ELSE '' END
	       || ' FOR TYPE ' || format_type(c.opcintype, NULL) || ' USING ' || quote_ident(a.amname) || ' FAMILY ' || quote_ident(fn.nspname) || '.' || quote_ident(f.opfname)
	       || ' AS ' || concat_ws(', ', CASE WHEN c.opckeytype <> 0 OR m.all_ IS NULL THEN 'STORAGE ' || format_type(coalesce(nullif(c.opckeytype, 0), c.opcintype), NULL) END, m.all_),
	       m.ops, m.procs
	FROM pg_opclass c JOIN pg_namespace n ON n.oid = c.opcnamespace JOIN pg_am a ON a.oid = c.opcmethod
	JOIN pg_opfamily f ON f.oid = c.opcfamily JOIN pg_namespace fn ON fn.oid = f.opfnamespace
	CROSS JOIN LATERAL (SELECT ` + membersFolded + ` FROM (` + membersOf("pg_opclass", "c.oid") + `) m) m(all_, ops, procs),
	     pg_identify_object('pg_opclass'::regclass, c.oid, 0) i
	WHERE ` + userSchema + ` AND ` + notMember("pg_opclass", "c.oid") + ` ORDER BY c.oid`

// readOperatorClasses carries families, what was added to families, and classes, in this order: an index of a class may
// need what only its family holds.
func (c *catalog) readOperatorClasses(ctx context.Context) error {
	added := map[uint32]*node{}
	for _, group := range []struct{ kind, sql string }{
		{"operator family", familiesSQL}, {"operator family members", looseSQL}, {"operator class", classesSQL},
	} {
		found, err := list[opGroup](ctx, c.tx, group.sql)
		if err != nil {
			return err
		}
		for _, g := range found {
			n := &node{phase: inTables, kind: group.kind, object: g.Object, sql: []string{g.SQL}}
			ref := objRef{}
			switch group.kind {
			case "operator family":
				ref = objRef{pgOpfamilyClass, g.Oid}
			case "operator family members":
				added[g.Family] = n
			case "operator class":
				ref = objRef{pgOpclassClass, g.Oid}
				if m := added[g.Family]; m != nil {
					n.deps = append(n.deps, m)
				}
			}
			c.add(ref, n)
			c.aliasAll(pgAmopClass, g.Ops, n)
			c.aliasAll(pgAmprocClass, g.Procs, n)
		}
	}
	return nil
}

func (c *catalog) aliasAll(class uint32, oids []uint32, n *node) {
	for _, oid := range oids {
		c.alias(objRef{class, oid}, n)
	}
}
