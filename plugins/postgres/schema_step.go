package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/fault"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// transact sends all statements and their marks as one string: one round trip, one transaction.
func (r *schemaRun) transact(ctx context.Context, conn *pgx.Conn, steps []*connectorv1.SchemaStep) error {
	var b strings.Builder
	b.WriteString("BEGIN; SET LOCAL lock_timeout = '" + stepLockWait + "';\n")
	for _, st := range steps {
		for _, sql := range st.Sql {
			b.WriteString(sql)
			b.WriteString(";\n")
		}
	}
	b.WriteString("INSERT INTO drover.step (pipeline, step) VALUES ")
	for i, st := range steps {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("(" + literal(r.req.Pipeline) + ", '" + stepKey(st) + "')")
	}
	b.WriteString(" ON CONFLICT DO NOTHING;\nCOMMIT")
	if err := fault.Point("schema.before-commit"); err != nil {
		return err
	}
	_, err := conn.PgConn().Exec(ctx, b.String()).ReadAll()
	err = errors.Join(err, fault.Point("schema.after-commit"))
	if err != nil && !conn.IsClosed() {
		if _, back := conn.PgConn().Exec(context.WithoutCancel(ctx), "ROLLBACK").ReadAll(); back != nil {
			return errors.Join(err, back)
		}
	}
	return err
}

const (
	// clashFor bounds how long a step is tried again when it meets other sessions, clashPause how soon.
	clashFor   = 5 * time.Minute
	clashFirst = 20 * time.Millisecond
	clashMost  = 500 * time.Millisecond
	// stepLockWait is below the server's deadlock_timeout of 1 s: a step that waits for the stream, while the stream waits
	// for what the step holds, gives way. Else the server would end one of the two, and an ended round costs an attempt.
	stepLockWait = "500ms"
)

// single runs one step and reports how it went; only a lost connection is an error of the call.
func (r *schemaRun) single(ctx context.Context, conn *pgx.Conn, st *connectorv1.SchemaStep) error {
	start := time.Now()
	var err error
	for pause := clashFirst; ; pause = min(2*pause, clashMost) {
		if err = r.transact(ctx, conn, []*connectorv1.SchemaStep{st}); !clashed(err) || time.Since(start) > clashFor {
			break
		}
		select {
		case <-ctx.Done():
			return mapError(ctx.Err(), "target")
		case <-time.After(pause):
		}
	}
	resp := &connectorv1.ApplySchemaResponse{Step: st.Id, Seconds: time.Since(start).Seconds()}
	if err == nil {
		return r.tell(resp)
	}
	if lost(conn, err) {
		return mapError(err, "target › "+st.Kind+" "+st.Object)
	}
	if st.Kind == "owner" || st.Kind == "grant" {
		resp.Problem, err = r.piecewise(ctx, conn, st)
		if err != nil {
			return err
		}
		return r.tell(resp)
	}
	there, why, lookErr := r.exists(ctx, conn, st, err)
	if lookErr != nil {
		return mapError(lookErr, "target › "+st.Kind+" "+st.Object)
	}
	if there {
		resp.Skipped = true
		return r.tell(resp)
	}
	resp.Problem = r.refused(st, err, why)
	return r.tell(resp)
}

// refused remembers that a step is not there, and says what that means.
func (r *schemaRun) refused(st *connectorv1.SchemaStep, err error, why string) *connectorv1.Problem {
	p, f := stepProblem(st, err, why), failure{step: st.Kind + " " + st.Object}
	var pe *pgconn.PgError
	if errors.As(err, &pe) && spared[st.Kind] && !r.needed[st.Id] && why == "" && lacking(st, pe) {
		p = spare(st, serverError{pe}.Error())
	}
	f.spared = p.Warning
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed[st.Id] = f
	return p
}

// clashed: two sessions changed the same catalog row, or one waited for the other.
func clashed(err error) bool {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return false
	}
	return pe.Code == "40P01" || pe.Code == "40001" || pe.Code == "55P03" || pe.Code == "XX000" && strings.Contains(pe.Message, "concurrently")
}

func stepProblem(st *connectorv1.SchemaStep, err error, why string) *connectorv1.Problem {
	var pe *pgconn.PgError
	errors.As(err, &pe)
	code, reason := diag.StepFailed, serverError{pe}.Error()
	switch pe.Code {
	case "42501":
		code = diag.TargetRights
	case "0A000", "58P01":
		if st.Kind == "extension" {
			code = diag.MissingObject
		}
	case "53100":
		code = diag.DiskFull
	case "55P03":
		code = diag.LockWait
	case "42704":
		if st.Kind == "policy" { // it names a role that the target does not have
			code = diag.NotCarried
		}
	}
	switch {
	case why != "":
		code, reason = diag.NameTaken, reason+"; "+why
	case st.Phase == inCutover: // everything else is there and works without it
		return spare(st, reason)
	}
	return problem(code, "target", st.Kind+" "+st.Object, reason)
}

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

// piecewise gives what can be given of owners and grants, and says how much could not.
func (r *schemaRun) piecewise(ctx context.Context, conn *pgx.Conn, st *connectorv1.SchemaStep) (*connectorv1.Problem, error) {
	var known bool
	if err := conn.QueryRow(ctx, "SELECT $1 = 'PUBLIC' OR EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", st.Object).Scan(&known); err != nil {
		return nil, mapError(err, "target › roles")
	}
	word := map[string]string{"owner": "own", "grant": "get rights on"}[st.Kind]
	if !known {
		return problem(diag.NotCarried, "target", st.Kind+" "+st.Object,
			fmt.Sprintf("the role does not exist at the target; it would %s %d objects", word, len(st.Sql)),
			"CREATE ROLE "+ident(st.Object)+";  -- then run the same command again"), nil
	}
	var refused []string
	var why error
	for _, sql := range st.Sql {
		_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		if err != nil {
			if lost(conn, err) {
				return nil, mapError(err, "target › "+st.Kind+" "+st.Object)
			}
			if !absent(err, sql) {
				refused, why = append(refused, sql+";"), err
			}
		}
	}
	if len(refused) == 0 {
		return nil, nil
	}
	var pe *pgconn.PgError
	errors.As(why, &pe)
	const shown = 5
	return problem(diag.NotCarried, "target", st.Kind+" "+st.Object,
		fmt.Sprintf("%d of %d were refused: %s", len(refused), len(st.Sql), serverError{pe}), refused[:min(len(refused), shown)]...), nil
}
