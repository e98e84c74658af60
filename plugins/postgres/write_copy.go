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

// maxCopyData bounds one CopyData message: large enough to make the header and the system call cheap, small
// enough that the server does not have to hold megabytes per session.
const maxCopyData = 1 << 20

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
	head   [5]byte
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
	for at := 0; at < len(payload); {
		n, size := at, 0
		for n < len(payload) && (n == at || size+payload[n].Len() <= maxCopyData) {
			size += payload[n].Len()
			n++
		}
		if c.failed.Load() {
			return errCopyFailed
		}
		c.bufs = append(c.bufs[:0], c.header('d', size))
		for _, b := range payload[at:n] {
			c.bufs = append(c.bufs, b.ReadOnlyData())
		}
		bufs := c.bufs // WriteTo eats the slice
		if _, err := bufs.WriteTo(c.pg.Conn()); err != nil {
			return err
		}
		at = n
	}
	return nil
}

func (c *copyIn) writeBytes(b []byte) error { return c.write(mem.BufferSlice{mem.SliceBuffer(b)}) }

func (c *copyIn) header(kind byte, size int) []byte {
	c.head[0] = kind
	binary.BigEndian.PutUint32(c.head[1:], uint32(size+4))
	return c.head[:]
}

// finish ends COPY and returns how many rows the server stored.
func (c *copyIn) finish() (int64, error) {
	_, werr := c.pg.Conn().Write(c.header('c', 0))
	<-c.done
	if c.err != nil {
		return 0, c.err
	}
	return c.tag.RowsAffected(), werr
}

// abort ends COPY without storing anything and returns what the server says was wrong, or cause.
func (c *copyIn) abort(cause error) error {
	if !c.failed.Load() {
		reason := []byte("the sender stopped\x00")
		_, _ = c.pg.Conn().Write(append(append([]byte(nil), c.header('f', len(reason))...), reason...))
	} else {
		// A failed COPY still reads until it is told that nothing more comes.
		_, _ = c.pg.Conn().Write(c.header('c', 0))
	}
	refused := c.failed.Load()
	<-c.done
	if c.err != nil && (refused || errors.Is(cause, errCopyFailed)) {
		return c.err
	}
	return cause
}
