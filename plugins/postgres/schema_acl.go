package postgres

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// privilegedSQL is what default privileges of a role act on when the role makes it, and what has privileges of its own.
const privilegedSQL = `
	SELECT 'pg_class'::regclass::oid AS class, oid, relowner AS owner, CASE relkind WHEN 'S' THEN 's' ELSE 'r' END AS kind, relacl AS acl, xmin AS made FROM pg_class WHERE relacl IS NOT NULL
	UNION ALL SELECT 'pg_proc'::regclass, oid, proowner, 'f', proacl, xmin FROM pg_proc WHERE proacl IS NOT NULL
	UNION ALL SELECT 'pg_type'::regclass, oid, typowner, 'T', typacl, xmin FROM pg_type WHERE typacl IS NOT NULL
	UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner, 'n', nspacl, xmin FROM pg_namespace WHERE nspacl IS NOT NULL`

const me = "(SELECT oid FROM pg_roles WHERE rolname = current_user)"

// keptSQL is what somebody has made before and given privileges, if default privileges would act on what this session makes.
const keptSQL = `SELECT coalesce(array_agg(o.oid)::text, '{}') FROM (` + privilegedSQL + `) o WHERE o.oid >= 16384
	HAVING EXISTS (SELECT FROM pg_default_acl WHERE defaclrole = ` + me + `)`

// asBuiltIn takes back what default privileges of the target did to what this transaction has made: the source's own privileges are told
// apart from the built-in ones, and given later. What an extension gives itself stays. Rows that the transaction
// has only changed are younger than it too, so what was there before is told by name.
const asBuiltIn = `DO $drover$ DECLARE say text; BEGIN
	FOR say IN
		WITH made AS (SELECT o.*, CASE o.kind WHEN 'r' THEN 'TABLE ' WHEN 's' THEN 'SEQUENCE ' WHEN 'f' THEN 'ROUTINE ' WHEN 'T' THEN 'TYPE ' ELSE 'SCHEMA ' END || i.identity AS what
			FROM (` + privilegedSQL + `) o, pg_identify_object(o.class, o.oid, 0) i
			WHERE o.oid >= 16384 AND o.made = pg_current_xact_id()::xid AND o.owner = ` + me + ` AND o.oid <> ALL (current_setting('drover.kept')::oid[])
			  AND NOT EXISTS (SELECT FROM pg_init_privs x WHERE x.classoid = o.class AND x.objoid = o.oid)),
		said AS (SELECT 1 AS turn, 'REVOKE ALL ON ' || what || ' FROM ' AS words, x.grantee FROM made, aclexplode(acl) x
			UNION SELECT 2, 'GRANT ' || x.privilege_type || ' ON ' || what || ' TO ', x.grantee FROM made, aclexplode(acldefault(kind::"char", owner)) x)
		SELECT words || CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END FROM said ORDER BY turn
	LOOP EXECUTE say; END LOOP; END $drover$`

// keep remembers what was there before, where default privileges act at all. Sessions opened later are told by conn.
func (r *schemaRun) keep(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, keptSQL)
	if err != nil {
		return err
	}
	kept, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(kept) == 0 {
		return err
	}
	r.kept = "SET drover.kept = " + literal(kept[0]) + "; "
	_, err = conn.PgConn().Exec(ctx, r.kept).ReadAll()
	return err
}

// withoutDefaults is what a transaction of these steps ends with where default privileges act.
func (r *schemaRun) withoutDefaults(steps []*connectorv1.SchemaStep) string {
	makes := func(st *connectorv1.SchemaStep) bool {
		return len(st.Sql) > 0 && strings.HasPrefix(st.Sql[0], "CREATE ")
	}
	if r.kept == "" || !slices.ContainsFunc(steps, makes) {
		return ""
	}
	return asBuiltIn + ";\n"
}
