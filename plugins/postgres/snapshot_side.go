package postgres

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

const (
	// patience is how long a read may stand in the way of others before it looks behind itself.
	patience = 2 * time.Second
	lookEach = time.Second
)

// sideSession is one session for short questions, made when first needed and again when it broke.
type sideSession struct {
	mu   sync.Mutex
	conn *pgx.Conn
}

// use runs f with the session, one caller at a time. The session is dropped when f fails.
func (s *sideSession) use(ctx context.Context, cfg Config, f func(*pgx.Conn) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil || s.conn.IsClosed() {
		conn, err := connect(ctx, cfg, "watch", connectorv1.Role_ROLE_SOURCE)
		if err != nil {
			return err
		}
		s.conn = conn
	}
	err := f(s.conn)
	if err != nil {
		_ = hangUp(s.conn)
		s.conn = nil
	}
	return err
}

func (s *sideSession) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = hangUp(s.conn)
		s.conn = nil
	}
}

// giveWay ends reading (by cancel) when another session waits for a lock that session pid holds: a reader that
// blocks someone's DDL blocks everybody who queues behind that DDL. The returned function ends the watch.
func (s *Source) giveWay(ctx context.Context, pid uint32, cancel context.CancelCauseFunc) (stop func()) {
	ctx, end := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for wait := patience; ; wait = lookEach {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			blocked, err := s.blocks(ctx, pid)
			if err == nil && blocked {
				cancel(diag.LockWait.New("source", nil, "a session waited for a table that was being read; the read gave way"))
				return
			}
		}
	}()
	return func() {
		end()
		<-done
	}
}

// blocks reports whether anybody waits for a lock of session pid.
func (s *Source) blocks(ctx context.Context, pid uint32) (bool, error) {
	var blocked bool
	err := s.snap.side.use(ctx, s.cfg, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_locks l WHERE NOT l.granted AND $1 = ANY (pg_blocking_pids(l.pid)))`,
			int32(pid)).Scan(&blocked)
	})
	return blocked, err
}

// causeOf prefers the reason for which ctx was cancelled to what the cancelled call reported.
func causeOf(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}
