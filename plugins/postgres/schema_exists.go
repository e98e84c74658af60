package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// taken: the statement failed because something of that name is there, or perhaps is: rights are looked at first, and who has
// them may have made it before.
func taken(err error) (sure, perhaps bool) {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return false, false
	}
	switch pe.Code {
	case "42501":
		return false, true
	case "42P07", "42710", "42P16", "42723", "42P06": // duplicate table, object, second primary key, function, schema
		return true, true
	case "23505": // kinds of objects that leave it to the catalog's own index
		return pe.SchemaName == "pg_catalog", pe.SchemaName == "pg_catalog"
	}
	return false, false
}

// exists decides whether a step failed only because somebody made the same thing before. why tells a difference.
func (r *schemaRun) exists(ctx context.Context, conn *pgx.Conn, st *connectorv1.SchemaStep, failure error) (there bool, why string, err error) {
	sure, perhaps := taken(failure)
	switch {
	case !perhaps:
		return false, "", nil
	case st.Kind == "table", st.Kind == "partitioned table":
		return sameTable(ctx, conn, st)
	}
	have, err := r.have(ctx, conn)
	if err != nil {
		return false, "", err
	}
	switch found, differs := have.differs(st); {
	case differs && (sure || compared[st.Kind]):
		return false, "an object of that name with another definition exists", nil
	case !sure && (differs || !found):
		return false, "", nil
	case !found:
		return false, "something else of that name exists; drop it or rename it", nil
	}
	if slices.Equal(have[stepName(st)], st.Sql) {
		return true, "", nil
	}
	// The object is there; what its step says beyond making it (storage, replica identity, …) is said again.
	for _, sql := range st.Sql[1:] {
		if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			if lost(conn, err) {
				return false, "", err
			}
			return false, "it exists, but not in every respect", nil
		}
	}
	return true, "", nil
}

// have is what the target held when a step first met something: no later step meets anything that is younger.
func (r *schemaRun) have(ctx context.Context, conn *pgx.Conn) (theirs, error) {
	r.reading.Lock()
	defer r.reading.Unlock()
	if r.theirs != nil {
		return r.theirs, nil
	}
	err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		r.theirs, err = readTheirs(ctx, tx)
		return err
	})
	return r.theirs, err
}

// sameTable makes the wanted table as a temporary one and compares columns: the server itself says what the statement means.
func sameTable(ctx context.Context, conn *pgx.Conn, st *connectorv1.SchemaStep) (there bool, why string, err error) {
	name, rest, ok := createdName(st.Sql[0])
	if !ok {
		return false, "a table of that name exists", nil
	}
	if err := conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", name).Scan(&there); err != nil || !there {
		return false, "", err
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
