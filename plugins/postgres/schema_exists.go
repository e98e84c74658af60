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
	}
	have, err := r.have(ctx, conn)
	switch {
	case err != nil:
		return false, "", err
	case st.Kind == "table", st.Kind == "partitioned table":
		return sameTable(ctx, conn, have, st)
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

// sameTable: a table that somebody made is taken if it is empty and every row arrives in it as it is. What differs besides was
// named by Check.
func sameTable(ctx context.Context, conn *pgx.Conn, have theirs, st *connectorv1.SchemaStep) (there bool, why string, err error) {
	name, _, ok := createdName(st.Sql[0])
	if !ok {
		return false, "a table of that name exists", nil
	}
	if err := conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", name).Scan(&there); err != nil || !there {
		return false, "", err
	}
	sql, known := have.table(st)
	if !known {
		return false, "something else of that name exists; drop it or rename it", nil
	}
	if refused, _ := sorted(tableDiffers(st, sql)); len(refused) > 0 {
		return false, "a table of that name exists: " + said(refused), nil
	}
	var rows bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+name+")").Scan(&rows); err != nil {
		return false, "", err
	}
	if rows {
		return false, "a table of that name exists and is not empty", nil
	}
	return true, "", nil
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
