package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// The target decides whose a pipeline is: coordinators that do not share their state have the same name for the same pair,
// count epochs from the same start and plan chunks of the same numbers. Everything that is written is written under an
// owner, in the transaction that asks whether it still is the owner (Invariant 25). A lock that a session of the owner
// holds tells others that it is at work; who finds no such session may take the pipeline over.

const (
	whatOwner = "owner"
	// ownerKey is the lock of a pipeline, in pg_locks the classid and objid of it.
	ownerKey = "1685221238, hashtext($1)" // "drov"
)

// ownerLock is the session that holds the owner's lock: shared, for several agents work for one owner. It ends with the connector.
type ownerLock struct {
	mu   sync.Mutex
	once sync.Once
	conn *pgx.Conn
}

func (h *ownerLock) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	conn := h.conn
	h.conn = nil
	if conn == nil {
		return nil
	}
	return conn.Close(context.Background())
}

// own makes sure that the pipeline is ours, or may be made so. others: it is of an owner that is not at work, and nobody
// else can take it until settled has been called, after the change is committed.
func (s *Sink) own(ctx context.Context, conn *pgx.Conn, req *connectorv1.RecoverRequest) (others bool, settled func() error, err error) {
	settled = func() error { return nil }
	if s.cfg.Owner == "" {
		return false, settled, nil
	}
	found, owner, err := ownerOf(ctx, conn, req.Pipeline)
	switch {
	case err != nil:
		return false, settled, mapError(err, "target › drover.pipeline")
	case !req.Take && (!found || owner != "" && owner != s.cfg.Owner):
		return false, settled, takenOver(req.Pipeline, found)
	}
	others = owner != "" && owner != s.cfg.Owner
	s.held.once.Do(func() { s.base.onClose(s.held.close) })
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	lock, err := s.holding(ctx)
	if err != nil || !others && s.held.conn == lock {
		return false, settled, err
	}
	if err := lockOwner(ctx, lock, req.Pipeline, others); err != nil {
		_ = lock.Close(context.WithoutCancel(ctx))
		return false, settled, err
	}
	s.held.conn = lock
	if others {
		settled = func() error {
			_, err := lock.Exec(ctx, "SELECT pg_advisory_lock_shared("+ownerKey+"), pg_advisory_unlock("+ownerKey+")", req.Pipeline)
			return mapError(err, "target")
		}
	}
	return others, settled, nil
}

// holding is the session that holds the lock, if it still lives, or a new one that is to take it.
func (s *Sink) holding(ctx context.Context) (*pgx.Conn, error) {
	if s.held.conn != nil && s.held.conn.Ping(ctx) == nil {
		return s.held.conn, nil
	}
	s.held.conn = nil
	conn, err := connect(ctx, s.cfg, whatOwner, connectorv1.Role_ROLE_UNSPECIFIED)
	if err != nil {
		return nil, err
	}
	// A machine that is gone must not look as if it were at work for hours. On a unix socket this has no effect.
	_, _ = conn.PgConn().Exec(ctx, "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4").ReadAll()
	return conn, nil
}

// lockOwner takes the lock, alone or together with others of the same owner, or tells who is in the way.
func lockOwner(ctx context.Context, conn *pgx.Conn, pipeline string, alone bool) error {
	lock := "pg_try_advisory_lock_shared"
	if alone {
		lock = "pg_try_advisory_lock"
	}
	var got bool
	if err := conn.QueryRow(ctx, "SELECT "+lock+"("+ownerKey+")", pipeline).Scan(&got); err != nil {
		return mapError(err, "target")
	}
	if got {
		return nil
	}
	return whoWorks(ctx, conn, pipeline)
}

// whoWorks names the sessions that hold the lock.
func whoWorks(ctx context.Context, conn *pgx.Conn, pipeline string) error {
	rows, err := conn.Query(ctx, `SELECT a.pid, format('session %s (%s) of user %s from %s since %s', a.pid, a.application_name, a.usename,
			coalesce(host(a.client_addr), 'the server itself'), coalesce(to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ'), 'an unknown time'))
		FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_database d ON d.oid = l.database
		WHERE l.locktype = 'advisory' AND d.datname = current_database() AND l.classid = 1685221238
			AND l.objid::bigint = hashtext($1)::bigint & 4294967295 AND l.granted AND a.pid <> pg_backend_pid() ORDER BY a.pid`, pipeline)
	if err != nil {
		return mapError(err, "target")
	}
	type session struct {
		PID  int32
		Text string
	}
	who, err := pgx.CollectRows(rows, pgx.RowToStructByPos[session])
	if err != nil {
		return mapError(err, "target")
	}
	var names []string
	fix := []string{"Wait until it has ended, or end it where it was started; then run the same command again: it goes on from the target."}
	for _, w := range who {
		names = append(names, w.Text)
		fix = append(fix, fmt.Sprintf("SELECT pg_terminate_backend(%d);  -- only if the machine that it was started on is gone", w.PID))
	}
	if len(names) == 0 { // it has ended meanwhile
		names = []string{"another process, which has just ended"}
	}
	return diag.AtWork.New("target › pipeline "+pipeline, nil, "%s", strings.Join(names, ", ")).WithFix(fix...)
}

// ownerOf reads whose a pipeline is; found: the target knows of it.
func ownerOf(ctx context.Context, conn querier, pipeline string) (found bool, owner string, err error) {
	err = conn.QueryRow(ctx, "SELECT owner FROM drover.pipeline WHERE name = $1", pipeline).Scan(&owner)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, "", nil
	}
	return err == nil, owner, err
}

// querier is a session or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// stillOurs keeps the owner as it is until the transaction ends; it is an error when that is not us.
func (s *Sink) stillOurs(ctx context.Context, conn querier, pipeline string) error {
	if s.cfg.Owner == "" {
		return nil
	}
	var ours bool
	err := conn.QueryRow(ctx, "SELECT owner IN ('', $2) FROM drover.pipeline WHERE name = $1 FOR SHARE", pipeline, s.cfg.Owner).Scan(&ours)
	if none := errors.Is(err, pgx.ErrNoRows); none || err == nil && !ours {
		return takenOver(pipeline, !none)
	}
	return mapError(err, "target › drover.pipeline")
}

// books makes sure that the tables of tokens are there. Under an owner only Recover makes them: where they are gone, the
// pipeline was released by somebody else.
func (s *Sink) books(ctx context.Context, conn *pgx.Conn) error {
	if s.cfg.Owner == "" {
		return s.ensureBookkeeping(ctx, conn)
	}
	return s.stillOurs(ctx, conn, s.cfg.Pipeline)
}

// ownerGuard is what a transaction that is sent as one string ends with: it fails unless the pipeline is still ours.
func (s *Sink) ownerGuard(pipeline string) string {
	if s.cfg.Owner == "" {
		return ""
	}
	return "SELECT 1 / count(*)::int FROM (SELECT FROM drover.pipeline WHERE name = " + literal(pipeline) + " AND owner = " + literal(s.cfg.Owner) + " FOR SHARE) AS ours;\n"
}

func takenOver(pipeline string, found bool) error {
	why := "the target says that another coordinator has taken it over"
	if !found {
		why = "the target does not know of it any more: another coordinator has ended it, or the schema drover was dropped"
	}
	return diag.TakenOver.New("target › pipeline "+pipeline, nil, "%s", why)
}

// tokensGone: the server misses a table of tokens, and no object of anybody's.
func tokensGone(pe *pgconn.PgError) bool {
	return pe.Code == "42P01" && strings.Contains(pe.Message, `"drover.`)
}
