package postgres

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

const (
	// flushEvery is how many bytes are written between two flushes of the target's log.
	flushEvery = 4 << 20
	// flushIdle is how long the session of an idle flusher is kept.
	flushIdle = 5 * time.Second

	// A transactional message is the smallest transaction whose commit flushes the log; nobody reads it. A standby
	// that the target waits for is the chunks' business, not ours.
	flushSQL = "SET synchronous_commit = local; SELECT pg_logical_emit_message(true, 'drover', '')"
)

// flusher has the target's log flushed while chunks are written. COPY works in a ring of 16 MB of buffers, and
// before it may use a buffer again the log of that page must be on disk (src/backend/storage/buffer/README, "Buffer
// Ring Replacement Strategy"): writers would do that themselves, one after another, holding the lock that lets a
// table grow. Done beside them it costs them nothing: 10 % of a load's time with two writers of one table.
type flusher struct {
	once    sync.Once
	written atomic.Int64
	kick    chan struct{}
}

// start begins the flusher at the first write; its owner is the sink, which ends it when it closes.
func (f *flusher) start(s *Sink) {
	f.once.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		f.kick = make(chan struct{}, 1)
		go func() {
			defer close(done)
			f.run(ctx, s.cfg)
		}()
		s.base.onClose(func() error {
			cancel()
			<-done
			return nil
		})
	})
}

// wrote counts what writers have sent. It never waits.
func (f *flusher) wrote(n int) {
	if after := f.written.Add(int64(n)); after/flushEvery != (after-int64(n))/flushEvery {
		select {
		case f.kick <- struct{}{}:
		default: // one is due already
		}
	}
}

func (f *flusher) run(ctx context.Context, cfg Config) {
	var conn *pgx.Conn
	leave := func() {
		if conn != nil {
			_ = hangUp(conn)
			conn = nil
		}
	}
	defer leave()
	for {
		idle := time.NewTimer(flushIdle)
		select {
		case <-ctx.Done():
			idle.Stop()
			return
		case <-idle.C:
			leave()
		case <-f.kick:
			idle.Stop()
			var err error
			if conn, err = flush(ctx, cfg, conn); err != nil {
				slog.Debug("the target's log is flushed by the writers alone", "err", err)
				return
			}
		}
	}
}

// flush makes one flush, connecting first if need be. Without it everything works, only slower: an error ends it.
func flush(ctx context.Context, cfg Config, conn *pgx.Conn) (*pgx.Conn, error) {
	if conn == nil {
		var err error
		if conn, err = connect(ctx, cfg, "flush", connectorv1.Role_ROLE_SINK); err != nil {
			return nil, err
		}
	}
	_, err := conn.PgConn().Exec(ctx, flushSQL).ReadAll()
	return conn, err
}
