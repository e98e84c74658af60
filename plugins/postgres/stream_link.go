package postgres

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/internal/fault"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// link keeps the source's session alive and the slot moving, whatever the reading side waits for.
type link struct {
	conn     *walConn
	cfg      Config
	side     *pgx.Conn
	watch    *watch
	every    time.Duration
	beat     time.Duration
	acked    atomic.Uint64
	last     atomic.Int64 // when the server was heard, in nanoseconds
	question chan struct{}
}

func newLink(conn *walConn, cfg Config, side *pgx.Conn, watch *watch, from uint64, every, beat time.Duration) *link {
	l := &link{conn: conn, cfg: cfg, side: side, watch: watch, every: every, beat: beat, question: make(chan struct{}, 1)}
	l.acked.Store(from)
	l.heard()
	return l
}

func (l *link) heard() { l.last.Store(time.Now().UnixNano()) }

func (l *link) silent() time.Duration { return time.Since(time.Unix(0, l.last.Load())) }

// answer asks for a status message soon; the server waits for one.
func (l *link) answer() {
	select {
	case l.question <- struct{}{}:
	default:
	}
}

// while runs read with the goroutines beside it and ends them with it.
func (l *link) while(ctx context.Context, acks <-chan []byte, read func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.feedback(ctx, acks); err != nil {
			cancel(err)
		}
	})
	wg.Go(func() {
		if err := l.attend(ctx); err != nil {
			cancel(err)
		}
	})
	err := read(ctx)
	cause := context.Cause(ctx)
	cancel(nil)
	wg.Wait()
	_ = l.conn.status(l.acked.Load(), false) // what was acknowledged last must not be read again
	l.conn.close()
	if cause != nil {
		err = cause
	}
	return mapError(err, "source › change stream")
}

// feedback is the only place that tells the server a position, and it tells acknowledged ones only.
func (l *link) feedback(ctx context.Context, acks <-chan []byte) error {
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			_, err := l.drain(acks)
			return err
		case p, ok := <-acks:
			if !ok {
				acks = nil // no more acks will come; the session stays alive
				continue
			}
			if err := l.ack(p); err != nil {
				return err
			}
		case <-tick.C:
		case <-l.question:
		}
		var err error
		if acks, err = l.drain(acks); err != nil {
			return err
		}
		if err := l.tell(); err != nil {
			return err
		}
	}
}

// tell lets the server move the slot.
func (l *link) tell() error {
	if err := fault.Point("slot.before-feedback"); err != nil {
		return err
	}
	if err := l.conn.status(l.acked.Load(), l.silent() > l.every); err != nil {
		return mapError(err, "source › change stream")
	}
	return fault.Point("slot.after-feedback")
}

// drain takes the acks that are there; a closed channel becomes nil.
func (l *link) drain(acks <-chan []byte) (<-chan []byte, error) {
	for {
		select {
		case p, ok := <-acks:
			if !ok {
				return nil, nil
			}
			if err := l.ack(p); err != nil {
				return acks, err
			}
		default:
			return acks, nil
		}
	}
}

func (l *link) ack(p []byte) error {
	_, end, err := readPosition(p)
	if err != nil {
		return err
	}
	if end > l.acked.Load() {
		l.acked.Store(end)
		l.conn.interrupt() // what has gathered meanwhile may go now
	}
	return nil
}

// attend does what is due on the side session: heartbeats, and looks at what is published. It owns the session, and makes another
// when that is lost; only what a look finds is a reason to stop the stream.
func (l *link) attend(ctx context.Context) error {
	defer func() {
		if l.side != nil {
			_ = l.side.Close(context.WithoutCancel(ctx))
		}
	}()
	beat, look := time.NewTimer(0), time.NewTimer(watchEvery)
	defer beat.Stop()
	defer look.Stop()
	for {
		var found, err error
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
			err = l.onSide(ctx, l.beatOnce)
			beat.Reset(l.beat)
		case <-look.C:
			began := time.Now()
			err = l.onSide(ctx, func(ctx context.Context) (err error) {
				found, err = l.watch.look(ctx, l.side)
				return err
			})
			look.Reset(max(watchEvery, watchShare*time.Since(began)))
		}
		if found != nil {
			return found
		}
		if err != nil && ctx.Err() == nil {
			slog.Warn("the side session of the stream failed", "error", mapError(err, "source"))
		}
	}
}

// onSide runs something on the side session, and lets go of one that it fails on.
func (l *link) onSide(ctx context.Context, f func(context.Context) error) (err error) {
	if l.side == nil {
		if l.side, err = connect(ctx, l.cfg, "heartbeat", connectorv1.Role_ROLE_SOURCE); err != nil {
			l.side = nil
			return err
		}
	}
	if err = f(ctx); err != nil {
		_ = l.side.Close(context.WithoutCancel(ctx))
		l.side = nil
	}
	return err
}

// beatOnce writes a message into the source's log, so that a slot whose tables are idle does not hold back log that other
// tables and databases fill.
func (l *link) beatOnce(ctx context.Context) error {
	_, err := l.side.Exec(ctx, `SELECT pg_logical_emit_message(false, 'drover', '')`)
	return err
}
