package postgres

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

const (
	// maxIdle readers are kept: logging in costs more than reading a small table.
	maxIdle      = 8
	closeTimeout = 5 * time.Second
)

// readers keeps idle sessions of one kind. The zero value is ready; close may be followed by further use.
type readers struct {
	mu   sync.Mutex
	idle []*pgx.Conn
}

// take returns an idle session or a new one.
func (r *readers) take(ctx context.Context, cfg Config, what string) (*pgx.Conn, error) {
	r.mu.Lock()
	for len(r.idle) > 0 {
		conn := r.idle[len(r.idle)-1]
		r.idle = r.idle[:len(r.idle)-1]
		if !conn.IsClosed() {
			r.mu.Unlock()
			return conn, nil
		}
	}
	r.mu.Unlock()
	return connect(ctx, cfg, what, connectorv1.Role_ROLE_SOURCE)
}

// give takes a session back. One that failed, or is still in a transaction, is closed.
func (r *readers) give(conn *pgx.Conn, err error) {
	if err == nil && !conn.IsClosed() && conn.PgConn().TxStatus() == 'I' {
		r.mu.Lock()
		if len(r.idle) < maxIdle {
			r.idle = append(r.idle, conn)
			conn = nil
		}
		r.mu.Unlock()
	}
	if conn != nil {
		_ = hangUp(conn)
	}
}

func (r *readers) close() error {
	r.mu.Lock()
	idle := r.idle
	r.idle = nil
	r.mu.Unlock()
	var errs []error
	for _, conn := range idle {
		errs = append(errs, hangUp(conn))
	}
	return errors.Join(errs...)
}

// hangUp closes a session whatever state it is in, without waiting long.
func hangUp(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := conn.Close(ctx)
	<-conn.PgConn().CleanupDone()
	return err
}

// script runs statements in one round trip and returns the cells of the last row.
func script(ctx context.Context, conn *pgx.Conn, sql string) ([]string, error) {
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	for i := len(results) - 1; i >= 0; i-- {
		rows := results[i].Rows
		if len(rows) == 0 {
			continue
		}
		var cells []string
		for _, cell := range rows[len(rows)-1] {
			cells = append(cells, string(cell))
		}
		return cells, nil
	}
	return nil, nil
}
