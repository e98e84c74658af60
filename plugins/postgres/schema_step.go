package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	b.WriteString("BEGIN; " + r.waitingFor() + sortMemory(r.memory, steps))
	for _, st := range steps {
		for _, sql := range st.Sql {
			b.WriteString(sql)
			b.WriteString(";\n")
		}
	}
	b.WriteString(r.withoutDefaults(steps))
	b.WriteString("INSERT INTO drover.step (pipeline, step) VALUES ")
	for i, st := range steps {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("(" + literal(r.req.Pipeline) + ", '" + stepKey(st) + "')")
	}
	b.WriteString(" ON CONFLICT DO NOTHING;\n" + r.s.ownerGuard(r.req.Pipeline) + "COMMIT")
	if err := fault.Point("schema.before-commit"); err != nil {
		return err
	}
	r.headway.begin(conn)
	_, err := conn.PgConn().Exec(ctx, b.String()).ReadAll()
	r.headway.end(conn, err == nil)
	err = errors.Join(err, fault.Point("schema.after-commit"))
	if err != nil && !conn.IsClosed() {
		if _, back := conn.PgConn().Exec(context.WithoutCancel(ctx), "ROLLBACK").ReadAll(); back != nil {
			return errors.Join(err, back)
		}
	}
	return err
}

// sortMemory gives a transaction all the memory that the server allows where less would mean to merge twice. The server's
// setting is in bytes.
func sortMemory(server int64, steps []*connectorv1.SchemaStep) string {
	large := slices.ContainsFunc(steps, func(st *connectorv1.SchemaStep) bool { return st.Weight > oneMerge })
	if !large || server <= ourMemory {
		return ""
	}
	return fmt.Sprintf("SET LOCAL maintenance_work_mem = '%dkB'; ", server>>10)
}

// single runs one step and reports how it went; only a lost connection is an error of the call.
func (r *schemaRun) single(ctx context.Context, conn *pgx.Conn, st *connectorv1.SchemaStep) error {
	start := time.Now()
	pieces := manyObjects(st)
	var err error
	if !pieces || !r.beside {
		err = r.patiently(ctx, func() error { return r.transact(ctx, conn, []*connectorv1.SchemaStep{st}) })
		pieces = pieces && err != nil
	}
	resp := &connectorv1.ApplySchemaResponse{Step: st.Id, Seconds: time.Since(start).Seconds()}
	if err != nil && lost(conn, err) {
		return mapError(err, "target › "+st.Kind+" "+st.Object)
	}
	if err != nil { // the statement may be without fault
		if own := r.s.stillOurs(ctx, conn, r.req.Pipeline); own != nil {
			return own
		}
	}
	switch {
	case pieces:
		if resp.Problem, err = r.piecewise(ctx, conn, st); err != nil {
			return err
		}
		return r.tell(resp)
	case err == nil:
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
	switch unknown := beyond(st, r.major); {
	case unknown == "" || why != "":
	case r.needed[st.Id] || keepsRows(st):
		p = problem(diag.MissingObject, "target", st.Kind+" "+st.Object, unknown)
	default:
		p = spare(st, unknown)
	}
	if errors.As(err, &pe) && spared[st.Kind] && !r.needed[st.Id] && why == "" && lacking(st, pe) {
		p = spare(st, serverError{pe}.Error())
	}
	f.spared = p.Warning
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed[st.Id] = f
	return p
}

func stepProblem(st *connectorv1.SchemaStep, err error, why string) *connectorv1.Problem {
	var pe *pgconn.PgError
	errors.As(err, &pe)
	code, reason := diag.StepFailed, serverError{pe}.Error()
	switch pe.Code {
	case "42501":
		code = diag.TargetRights
	case "58P01", "F0000": // a library, or a file of it
		code = diag.MissingObject
	case "0A000":
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
	if code.ID == diag.NotCarried.ID {
		return spare(st, reason)
	}
	return problem(code, "target", st.Kind+" "+st.Object, reason)
}
