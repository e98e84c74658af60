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

// beginCopy sends the statement and waits for nothing: data may follow at once, and so may the next COPY of the session,
// with this one as its predecessor. What the server has to say shows at finish; it skips the data of what it refused.
func beginCopy(ctx context.Context, pg *pgconn.PgConn, sql string, after *copyIn) (*copyIn, error) {
	c := &copyIn{pg: pg, ctx: ctx, done: make(chan struct{})}
	if err := c.send('Q', append([]byte(sql), 0)); err != nil {
		return nil, err
	}
	go func() {
		defer close(c.done)
		if after != nil {
			<-after.done // answers come in order
		}
		c.listen()
	}()
	return c, nil
}

// listen reads until the server is ready for the next statement.
func (c *copyIn) listen() {
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

// end says that nothing more comes; result waits for what the server makes of it.
func (c *copyIn) end() error { return c.send('c', nil) }

// result is how many rows the server stored.
func (c *copyIn) result() (int64, error) {
	<-c.done
	if c.err != nil {
		return 0, c.err
	}
	return c.tag.RowsAffected(), nil
}

// finish ends COPY and returns how many rows the server stored.
func (c *copyIn) finish() (int64, error) {
	werr := c.end()
	rows, err := c.result()
	if err != nil {
		return 0, err
	}
	return rows, werr
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
