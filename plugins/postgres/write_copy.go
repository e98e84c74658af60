package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"google.golang.org/grpc/mem"
)

// maxCopyData bounds one CopyData message. The server reads a message whole before it looks at it: what fits its
// second level cache is parsed much faster than a megabyte, and headers are cheap because one writev carries many.
const maxCopyData = 64 << 10

// copyIn is one COPY … FROM STDIN. Payload goes from the frame's buffers to the socket in one writev, without
// passing through the driver's buffers; a goroutine reads the server's answer meanwhile, so that neither side
// can wait for the other and a refusal is seen before all rows were sent.
type copyIn struct {
	pg     *pgconn.PgConn
	ctx    context.Context
	done   chan struct{}
	failed atomic.Bool
	tag    pgconn.CommandTag
	err    error
	bufs   net.Buffers
	heads  [][5]byte
}

// beginCopy sends the statement and returns once the server is ready for data.
func beginCopy(ctx context.Context, pg *pgconn.PgConn, sql string) (*copyIn, error) {
	pg.Frontend().Send(&pgproto3.Query{String: sql})
	if err := pg.Frontend().Flush(); err != nil {
		return nil, err
	}
	c := &copyIn{pg: pg, ctx: ctx, done: make(chan struct{})}
	for {
		msg, err := pg.ReceiveMessage(ctx)
		if err != nil {
			return nil, err
		}
		switch m := msg.(type) {
		case *pgproto3.CopyInResponse:
			go c.listen()
			return c, nil
		case *pgproto3.ErrorResponse:
			c.err = pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			if c.err == nil {
				c.err = errors.New("server did not start COPY")
			}
			return nil, c.err
		}
	}
}

// listen reads until the server is ready for the next statement.
func (c *copyIn) listen() {
	defer close(c.done)
	for {
		msg, err := c.pg.ReceiveMessage(c.ctx)
		if err != nil {
			if c.err == nil {
				c.err = err
			}
			c.failed.Store(true)
			return
		}
		switch m := msg.(type) {
		case *pgproto3.CommandComplete:
			c.tag = pgconn.NewCommandTag(string(m.CommandTag))
		case *pgproto3.ErrorResponse:
			c.err = pgconn.ErrorResponseToPgError(m)
			c.failed.Store(true)
		case *pgproto3.ReadyForQuery:
			return
		}
	}
}

var errCopyFailed = errors.New("the server ended COPY")

// write sends the buffers; they may be freed when it returns.
func (c *copyIn) write(payload mem.BufferSlice) error {
	if c.failed.Load() {
		return errCopyFailed
	}
	c.bufs, c.heads = c.bufs[:0], c.heads[:0]
	for _, b := range payload {
		for d := b.ReadOnlyData(); len(d) > 0; {
			n := min(len(d), maxCopyData)
			c.heads = append(c.heads, messageHead('d', n))
			c.bufs = append(c.bufs, nil, d[:n])
			d = d[n:]
		}
	}
	for i := range c.heads { // not before: heads moves while it grows
		c.bufs[2*i] = c.heads[i][:]
	}
	bufs := c.bufs // WriteTo eats the slice
	_, err := bufs.WriteTo(c.pg.Conn())
	return err
}

func (c *copyIn) writeBytes(b []byte) error { return c.write(mem.BufferSlice{mem.SliceBuffer(b)}) }

func messageHead(kind byte, size int) (h [5]byte) {
	h[0] = kind
	binary.BigEndian.PutUint32(h[1:], uint32(size+4))
	return h
}

// send sends a message without a writev.
func (c *copyIn) send(kind byte, body []byte) error {
	h := messageHead(kind, len(body))
	_, err := c.pg.Conn().Write(append(h[:], body...))
	return err
}

// finish ends COPY and returns how many rows the server stored.
func (c *copyIn) finish() (int64, error) {
	werr := c.send('c', nil)
	<-c.done
	if c.err != nil {
		return 0, c.err
	}
	return c.tag.RowsAffected(), werr
}

// abort ends COPY without storing anything and returns what the server says was wrong, or cause.
func (c *copyIn) abort(cause error) error {
	if !c.failed.Load() {
		_ = c.send('f', []byte("the sender stopped\x00"))
	} else {
		// A failed COPY still reads until it is told that nothing more comes.
		_ = c.send('c', nil)
	}
	refused := c.failed.Load()
	<-c.done
	if c.err != nil && (refused || errors.Is(cause, errCopyFailed)) {
		return c.err
	}
	return cause
}
