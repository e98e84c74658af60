package postgres

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// maxIdleWriters is how many sessions wait for the next chunk.
const maxIdleWriters = 16

// writers keeps sessions between chunks: a login costs as much as a small table.
type writers struct {
	mu     sync.Mutex
	idle   []*pgx.Conn
	closed bool
	once   sync.Once
}

// WriteChunks writes the chunks of one write_open frame and their tokens in one transaction: fence, rows,
// results, commit. Repeated with chunks the target has, it answers with what is stored. Nothing is left
// behind when it fails. A fence of a newer epoch makes it FencedOut.
func (s *Sink) WriteChunks(ctx context.Context, next func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error) {
	open, err := writeOpen(next)
	if err != nil {
		return nil, err
	}
	conn, err := s.writer(ctx)
	if err != nil {
		return nil, err
	}
	s.flusher.start(s)
	w := &chunkWriter{sink: s, conn: conn, pg: conn.PgConn(), open: open, tables: map[uint32]*rowv1.Table{}}
	for _, t := range open.Tables {
		w.tables[t.Index] = t
	}
	resp, err := w.run(ctx, next)
	s.putWriter(ctx, conn, err)
	return resp, err
}

func writeOpen(next func() (*sdk.Frame, error)) (*rowv1.WriteOpen, error) {
	f, err := next()
	if err != nil {
		return nil, err
	}
	defer f.Free()
	open := f.Header.GetWriteOpen()
	if open == nil || len(open.Chunks) == 0 {
		return nil, diag.Internal.New("target", nil, "a write stream must start with write_open and name its chunks")
	}
	return open, nil
}

// writer takes an idle session or opens one.
func (s *Sink) writer(ctx context.Context) (*pgx.Conn, error) {
	s.writers.once.Do(func() { s.base.onClose(s.closeWriters) })
	for {
		s.writers.mu.Lock()
		n := len(s.writers.idle)
		if n == 0 {
			s.writers.mu.Unlock()
			break
		}
		conn := s.writers.idle[n-1]
		s.writers.idle = s.writers.idle[:n-1]
		s.writers.mu.Unlock()
		if conn.Ping(ctx) == nil {
			return conn, nil
		}
		_ = conn.Close(ctx)
	}
	conn, err := connect(ctx, s.cfg, "write", connectorv1.Role_ROLE_SINK)
	if err != nil {
		return nil, err
	}
	if err := s.books(ctx, conn); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return conn, nil
}

// putWriter keeps a session whose transaction ended well; any other one is closed, which rolls back.
func (s *Sink) putWriter(ctx context.Context, conn *pgx.Conn, err error) {
	if err == nil && !conn.IsClosed() {
		s.writers.mu.Lock()
		if !s.writers.closed && len(s.writers.idle) < maxIdleWriters {
			s.writers.idle = append(s.writers.idle, conn)
			conn = nil
		}
		s.writers.mu.Unlock()
	}
	if conn != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
	}
}

func (s *Sink) closeWriters() error {
	s.writers.mu.Lock()
	idle := s.writers.idle
	s.writers.idle, s.writers.closed = nil, true
	s.writers.mu.Unlock()
	var errs []error
	for _, c := range idle {
		errs = append(errs, c.Close(context.Background()))
	}
	return errors.Join(errs...)
}

// drain reads what is left of a stream.
func drain(next func() (*sdk.Frame, error)) error {
	for {
		f, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		f.Free()
	}
}

// copyError codes a refusal of COPY.
func copyError(t *rowv1.Table, err error) error {
	var pe *pgconn.PgError
	switch {
	case diag.Find(err) != nil || !errors.As(err, &pe): // whoever sent the rows has failed
		return mapError(err, tableWhere(t))
	case pe.Code == "23505":
		err = diag.NotEmpty.New(tableWhere(t), nil, "a row of the chunk is there already, constraint %s", ident(pe.ConstraintName))
	default:
		err = rowError(err, tableWhere(t))
	}
	return diag.About(err, t.GetIndex())
}
