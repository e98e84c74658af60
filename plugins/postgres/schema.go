package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

const (
	// schemaGroup is how many steps share a transaction and a round trip: far fewer locks than any server allows,
	// far fewer commits than steps.
	schemaGroup = 128
	// ourMemory is what an index build may sort in. More is slower: runs are then sorted outside the processor's cache, and
	// one merge is enough either way (10M int keys, three processes: 2.05 s with 64 or 96 MB, 2.3 s with 256 MB, 3 s with 16 MB).
	ourMemory = 96 << 20
	// oneMerge is the size of an index up to which that holds: three processes with 32 MB each merge about 118 runs of theirs at
	// once, some 11 GB of sorted rows, which are twice as large as an index of short keys; that is 300M rows of them.
	oneMerge = 6 << 30
	// schemaSettings: names in steps are qualified, bodies of functions are checked by whoever calls them, and
	// the sink's pause limit must not end a session that waits for its next step.
	schemaSettings = "SET search_path = pg_catalog; SET check_function_bodies = off; SET maintenance_work_mem = '96MB'; " +
		"SET default_tablespace = ''; SET default_table_access_method = heap; SET idle_in_transaction_session_timeout = 0; " +
		"SET row_security = off"
	compressionSetting = "; SET default_toast_compression = pglz" // since PostgreSQL 14
)

// ApplySchema runs steps in the order of their phases and dependencies. Done steps are marked in the same transaction and
// skipped when they come again; only values of sequences are always set. A step that fails, and what needs it, is reported.
func (s *Sink) ApplySchema(ctx context.Context, req *connectorv1.ApplySchemaRequest, report func(*connectorv1.ApplySchemaResponse) error) error {
	r := &schemaRun{s: s, req: req, report: report, failed: map[uint32]failure{}, done: map[string]bool{},
		needed: neededByRows(req.Steps), pool: make(chan *pgx.Conn, 64), headway: headway{last: time.Now(), since: map[*pgx.Conn]time.Time{}}}
	defer r.close(context.WithoutCancel(ctx))
	if err := r.load(ctx); err != nil {
		return err
	}
	for _, phase := range phases(forMajor(r.major, req.Steps)) {
		for _, wave := range waves(phase) {
			if err := r.wave(ctx, wave); err != nil {
				return err
			}
		}
	}
	return nil
}

// schemaRun is one call.
type schemaRun struct {
	s       *Sink
	req     *connectorv1.ApplySchemaRequest
	pool    chan *pgx.Conn
	mu      sync.Mutex // guards report, failed and open
	report  func(*connectorv1.ApplySchemaResponse) error
	failed  map[uint32]failure
	needed  map[uint32]bool
	open    []*pgx.Conn
	done    map[string]bool
	user    string
	major   int
	headway headway
	// beside: changes are being applied to the tables meanwhile.
	beside   bool
	lockWait time.Duration
	// memory is the server's own maintenance_work_mem, in bytes.
	memory int64
	// kept tells a session what was there before; empty where no default privileges act.
	kept string

	reading sync.Mutex // guards theirs
	theirs  theirs
}

// failure is a step that is not there. Spared: the rest is complete without it, and without what needs it.
type failure struct {
	step   string
	spared bool
}

func stepKey(st *connectorv1.SchemaStep) string {
	sum := sha256.Sum256([]byte(strings.Join(st.Sql, ";\n")))
	return hex.EncodeToString(sum[:])
}

func (r *schemaRun) load(ctx context.Context) error {
	conn, err := r.conn(ctx)
	if err != nil {
		return err
	}
	defer r.put(conn)
	if err := r.s.books(ctx, conn); err != nil {
		return err
	}
	rows, err := conn.Query(ctx, "SELECT step FROM drover.step WHERE pipeline = $1", r.req.Pipeline)
	if err != nil {
		return mapError(err, "target › schema drover")
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, k := range keys {
		r.done[k] = true
	}
	var deadlock int64
	if err == nil {
		err = conn.QueryRow(ctx, `SELECT current_user, EXISTS (SELECT FROM drover.stream WHERE pipeline = $1 AND position IS NOT NULL),
			(SELECT reset_val::int8 FROM pg_settings WHERE name = 'deadlock_timeout'),
			(SELECT reset_val::int8 * 1024 FROM pg_settings WHERE name = 'maintenance_work_mem')`, r.req.Pipeline).Scan(&r.user, &r.beside, &deadlock, &r.memory)
	}
	r.beside = r.beside && slices.ContainsFunc(r.req.Steps, afterLoad)
	if err == nil {
		err = r.keep(ctx, conn)
	}
	r.major = majorOf(conn.PgConn())
	r.lockWait = lockWait(time.Duration(deadlock) * time.Millisecond) // the others', not what this session may have set for itself
	return mapError(err, "target › schema drover")
}

// afterLoad: the step may be run while changes are applied. Tables and keys never are: they are made before the stream starts,
// for each attempt.
func afterLoad(st *connectorv1.SchemaStep) bool { return st.Phase > inKeys }

// conn takes a free session or opens one; there are never more than parallel.
func (r *schemaRun) conn(ctx context.Context) (*pgx.Conn, error) {
	select {
	case c := <-r.pool:
		return c, nil
	default:
	}
	c, err := connect(ctx, r.s.cfg, "schema", connectorv1.Role_ROLE_SINK)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.open = append(r.open, c)
	r.mu.Unlock()
	settings := r.kept + schemaSettings
	if majorOf(c.PgConn()) >= 14 {
		settings += compressionSetting
	}
	if _, err = c.PgConn().Exec(ctx, settings).ReadAll(); err != nil {
		return c, mapError(err, "target")
	}
	// Where it is allowed: who waits in a circle finds it out before the stream does.
	_, _ = c.PgConn().Exec(ctx, "SET deadlock_timeout = '10ms'").ReadAll()
	return c, nil
}

func (r *schemaRun) put(c *pgx.Conn) {
	if !c.IsClosed() {
		r.pool <- c
	}
}

func (r *schemaRun) close(ctx context.Context) {
	for _, c := range r.open {
		_ = c.Close(ctx)
	}
}

// wave runs steps that do not need each other, side by side where they do not lock each other out.
func (r *schemaRun) wave(ctx context.Context, steps []*connectorv1.SchemaStep) error {
	var todo []*connectorv1.SchemaStep
	for _, st := range steps {
		switch {
		case r.blocked(st):
		case st.Kind != "sequence value" && r.done[stepKey(st)], st.Kind == "owner" && st.Object == r.user:
			if err := r.tell(&connectorv1.ApplySchemaResponse{Step: st.Id, Skipped: true}); err != nil {
				return err
			}
		default:
			todo = append(todo, st)
		}
	}
	all := jobs(todo, r.beside)
	workers := min(max(int(r.req.Parallel), 1), len(all), cap(r.pool))
	work := make(chan job)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for j := range work {
				for _, g := range j.groups {
					if ctx.Err() != nil {
						break
					}
					if err := r.group(ctx, g); err != nil {
						cancel(err)
					}
				}
			}
		})
	}
	for _, j := range all {
		work <- j
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

// blocked reports a step whose predecessor failed. Owners and grants go on: they name many objects.
func (r *schemaRun) blocked(st *connectorv1.SchemaStep) bool {
	if manyObjects(st) {
		return false
	}
	for _, a := range st.After {
		if f, bad := r.failed[a]; bad {
			r.failed[st.Id] = f
			p := problem(diag.StepFailed, "target", st.Kind+" "+st.Object, "it needs "+f.step+", which failed")
			if f.spared {
				p = spare(st, "it needs "+f.step+", which is not carried")
			}
			_ = r.tell(&connectorv1.ApplySchemaResponse{Step: st.Id, Problem: p})
			return true
		}
	}
	return false
}

func (r *schemaRun) tell(resp *connectorv1.ApplySchemaResponse) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report(resp)
}

// group runs steps in one transaction; if that fails, one by one, so that the error names the one object, and that a lock
// held by somebody else delays only who needs it.
func (r *schemaRun) group(ctx context.Context, steps []*connectorv1.SchemaStep) error {
	conn, err := r.conn(ctx)
	if err != nil {
		return err
	}
	defer r.put(conn)
	if len(steps) == 1 {
		return r.single(ctx, conn, steps[0])
	}
	start := time.Now()
	err = r.transact(ctx, conn, steps)
	if err == nil {
		for _, st := range steps {
			if err := r.tell(&connectorv1.ApplySchemaResponse{Step: st.Id, Seconds: time.Since(start).Seconds() / float64(len(steps))}); err != nil {
				return err
			}
		}
		return nil
	}
	if lost(conn, err) {
		return mapError(err, "target")
	}
	for _, st := range steps {
		if err := r.single(ctx, conn, st); err != nil {
			return err
		}
	}
	return nil
}

func lost(conn *pgx.Conn, err error) bool {
	var pe *pgconn.PgError
	return conn.IsClosed() || !errors.As(err, &pe)
}
