package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/plural"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// manyObjects are steps that name many objects, each of which may be refused.
func manyObjects(st *connectorv1.SchemaStep) bool { return st.Kind == "owner" || st.Kind == "grant" }

// absent: the object is not there. It was named when it was not carried; its owner and rights need no line of their own.
func absent(err error, sql string) bool {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return false
	}
	switch pe.Code {
	case "42P01", "42883", "3F000": // table, function, schema
		return true
	case "42704": // anything else; default privileges name a second role
		return !strings.HasPrefix(sql, "ALTER DEFAULT PRIVILEGES")
	}
	return false
}

// piece runs one statement in a transaction of its own: an owner's tables are locked one after the other.
func (r *schemaRun) piece(ctx context.Context, conn *pgx.Conn, sql string) error {
	return r.patiently(ctx, func() error {
		_, err := conn.PgConn().Exec(ctx, r.waitingFor()+sql).ReadAll()
		return err
	})
}

// piecewise gives what can be given of owners and grants, and says how much could not.
func (r *schemaRun) piecewise(ctx context.Context, conn *pgx.Conn, st *connectorv1.SchemaStep) (*connectorv1.Problem, error) {
	var known bool
	if err := conn.QueryRow(ctx, "SELECT $1 = 'PUBLIC' OR EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", st.Object).Scan(&known); err != nil {
		return nil, mapError(err, "target › roles")
	}
	word := map[string]string{"owner": "own", "grant": "get rights on"}[st.Kind]
	if !known {
		return problem(diag.NotCarried, "target", st.Kind+" "+st.Object,
			fmt.Sprintf("the role does not exist at the target; it would %s %s", word, plural.Of(len(st.Sql), "object")),
			append([]string{"-- after CREATE ROLE " + ident(st.Object) + ";"}, ended(st.Sql)...)...), nil
	}
	var refused []string
	var why error
	for _, sql := range st.Sql {
		err := r.piece(ctx, conn, sql)
		if err == nil {
			continue
		}
		if lost(conn, err) {
			return nil, mapError(err, "target › "+st.Kind+" "+st.Object)
		}
		if own, ok := inOwnName(sql); ok {
			_ = r.piece(ctx, conn, own) // the right is there then, though by another hand, which is told
		}
		if !absent(err, sql) {
			refused, why = append(refused, sql), err
		}
	}
	if len(refused) == 0 {
		return nil, nil
	}
	var pe *pgconn.PgError
	errors.As(why, &pe)
	return problem(diag.NotCarried, "target", st.Kind+" "+st.Object,
		fmt.Sprintf("%d of %d were refused: %s", len(refused), len(st.Sql), serverError{pe}), ended(refused)...), nil
}

// ended are statements as people run them.
func ended(sql []string) []string {
	out := make([]string, len(sql))
	for i, s := range sql {
		out[i] = s + ";"
	}
	return out
}
