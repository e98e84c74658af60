package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// exists decides whether a step failed only because somebody made the same thing before. why tells a difference.
func (r *schemaRun) exists(ctx context.Context, conn *pgx.Conn, st *connectorv1.SchemaStep, failure error) (there bool, why string, err error) {
	var pe *pgconn.PgError
	if !errors.As(failure, &pe) {
		return false, "", nil
	}
	switch pe.Code {
	case "42P07", "42710", "42P16", "42723", "42P06": // duplicate table, object, second primary key, function, schema
	default:
		return false, "", nil
	}
	switch st.Kind {
	case "table", "partitioned table":
		return sameTable(ctx, conn, st)
	case "index", "statistics":
		return sameDefinition(ctx, conn, st.Sql[0], `
			SELECT pg_get_indexdef(indexrelid) FROM pg_index UNION ALL SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext`)
	case "primary key", "unique constraint", "exclusion constraint":
		return sameDefinition(ctx, conn, st.Sql[0], `
			SELECT 'ALTER TABLE ONLY ' || format('"%s"."%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""'))
			  || ' ADD CONSTRAINT ' || format('"%s" ', replace(k.conname, '"', '""')) || pg_get_constraintdef(k.oid)
			FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace`)
	case "foreign key", "check":
		return sameDefinition(ctx, conn, st.Sql[0], `
			SELECT 'ALTER TABLE ' || format('"%s"."%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""'))
			  || ' ADD CONSTRAINT ' || format('"%s" ', replace(k.conname, '"', '""')) || pg_get_constraintdef(k.oid)
			FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace`)
	case "enum":
		return sameDefinition(ctx, conn, st.Sql[0], `
			SELECT 'CREATE TYPE ' || format('"%s"."%s"', replace(n.nspname, '"', '""'), replace(t.typname, '"', '""'))
			  || ' AS ENUM (' || (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid) || ')'
			FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype = 'e'`)
	}
	return false, "something of that name exists already; drop it, or leave it out", nil
}

func sameDefinition(ctx context.Context, conn *pgx.Conn, sql, catalog string) (there bool, why string, err error) {
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM ("+catalog+") AS d(def) WHERE def = $1)", sql).Scan(&there)
	return there, "an object of that name with another definition exists", err
}

// sameTable makes the wanted table as a temporary one and compares columns: the server itself says what the statement means.
func sameTable(ctx context.Context, conn *pgx.Conn, st *connectorv1.SchemaStep) (there bool, why string, err error) {
	name, rest, ok := createdName(st.Sql[0])
	if !ok {
		return false, "a table of that name exists", nil
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return false, "", err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // nothing to keep
	if i := strings.Index(rest, " PARTITION BY "); i >= 0 && st.Kind == "partitioned table" {
		rest = rest[:i]
	}
	if _, err := conn.PgConn().Exec(ctx, "CREATE TEMPORARY TABLE drover_wanted"+withoutSequenceNames(rest)).ReadAll(); err != nil {
		return false, "a table of that name exists and cannot be compared", nil
	}
	var rows, differ bool
	err = tx.QueryRow(ctx, `
		WITH cols AS (SELECT attrelid, attname, format_type(atttypid, atttypmod) AS t, attnotnull, attgenerated FROM pg_attribute
		              WHERE attnum > 0 AND NOT attisdropped)
		SELECT EXISTS (SELECT FROM `+name+`), EXISTS (
			(SELECT attname, t, attgenerated FROM cols WHERE attrelid = $1::text::regclass
			 EXCEPT SELECT attname, t, attgenerated FROM cols WHERE attrelid = 'pg_temp.drover_wanted'::regclass)
			UNION ALL
			(SELECT attname, t, attgenerated FROM cols WHERE attrelid = 'pg_temp.drover_wanted'::regclass
			 EXCEPT SELECT attname, t, attgenerated FROM cols WHERE attrelid = $1::text::regclass))`, name).Scan(&rows, &differ)
	switch {
	case err != nil:
		return false, "", err
	case differ:
		return false, "a table of that name with other columns exists", nil
	case rows:
		return false, "a table of that name exists and is not empty", nil
	}
	return true, "", nil
}

// withoutSequenceNames lets an identity column of the temporary table choose its own sequence.
func withoutSequenceNames(sql string) string {
	for {
		i := strings.Index(sql, "(SEQUENCE NAME ")
		j := strings.Index(sql[max(i, 0):], " START WITH ")
		if i < 0 || j < 0 {
			return sql
		}
		sql = sql[:i] + "(" + sql[i+j+1:]
	}
}

// createdName splits CREATE TABLE "s"."t" … behind the name.
func createdName(sql string) (name, rest string, ok bool) {
	sql, ok = strings.CutPrefix(strings.Replace(sql, "CREATE UNLOGGED ", "CREATE ", 1), "CREATE TABLE ")
	if !ok {
		return "", "", false
	}
	quoted := false
	for i, ch := range sql {
		switch {
		case ch == '"':
			quoted = !quoted
		case ch == ' ' && !quoted:
			return sql[:i], sql[i:], true
		}
	}
	return sql, "", true
}
