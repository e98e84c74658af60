package postgres

import (
	"context"
	"encoding/binary"
	"io"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/droverdb/drover/internal/diag"
)

const (
	// copyBuffer is small enough for the second level cache and large enough to make reads rare.
	copyBuffer = 512 << 10
	copyMark   = 256 << 10
	// maxMessage bounds what is read of a message that is not a row.
	maxMessage = 16 << 20
)

// copyStream reads the answers to COPY … TO STDOUT straight from the socket: pgconn would wake up for every
// packet and copy every row. The session belongs to it during run; after an error it must be closed.
type copyStream struct {
	conn *pgconn.PgConn
	in   *gather
	buf  []byte
	r, w int // unread bytes are buf[r:w]
	seen int64
}

func newCopyStream(conn *pgconn.PgConn) *copyStream {
	return &copyStream{conn: conn, in: newGather(conn.Conn(), copyMark), buf: make([]byte, copyBuffer)}
}

// run sends one query, which may hold several statements, and hands the rows of the n-th COPY among them to
// outs(n). ended is called when a COPY is complete and counted.
func (c *copyStream) run(ctx context.Context, sql string, outs func(n int) (*copyOut, error), ended func(n int) error) error {
	if err := c.conn.SyncConn(ctx); err != nil {
		return err
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		c.interrupt()
	})
	err := c.exchange(sql, outs, ended)
	if !stop() {
		<-interrupted
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// interrupt closes the socket, the one way to end a read that does not depend on who set the deadline last, and
// asks the server to stop: it would notice the closed socket only when it has something to send.
func (c *copyStream) interrupt() {
	_ = c.conn.Conn().Close()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = c.conn.CancelRequest(ctx)
}

func (c *copyStream) exchange(sql string, outs func(int) (*copyOut, error), ended func(int) error) error {
	msg, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err != nil {
		return err
	}
	if _, err := c.conn.Conn().Write(msg); err != nil {
		return err
	}
	c.r, c.w, c.seen = 0, 0, 0
	a := answer{outs: outs, ended: ended}
	for !a.ready {
		if err := c.message(&a); err != nil {
			return err
		}
	}
	if a.failed != nil {
		return a.failed
	}
	return c.in.done()
}

// answer is the state of one query's answer.
type answer struct {
	outs   func(int) (*copyOut, error)
	ended  func(int) error
	out    *copyOut // the COPY that runs
	n      int
	failed error
	ready  bool
}

// message reads messages up to and including one that is not a row.
func (c *copyStream) message(a *answer) error {
	for {
		if err := c.need(5); err != nil {
			return err
		}
		kind, size := c.buf[c.r], int(binary.BigEndian.Uint32(c.buf[c.r+1:]))-4
		if size < 0 {
			return diag.Internal.New("source", nil, "malformed message")
		}
		c.r += 5
		if kind != 'd' {
			body, err := c.take(size)
			if err != nil {
				return err
			}
			return a.control(kind, body)
		}
		if a.out == nil {
			return diag.Internal.New("source", nil, "a row outside COPY")
		}
		if size > len(c.buf) {
			if err := c.long(a.out, size); err != nil {
				return err
			}
			continue
		}
		if err := c.need(size); err != nil {
			return err
		}
		if err := a.out.row(c.buf[c.r : c.r+size]); err != nil {
			return err
		}
		c.r += size
	}
}

// long passes a row on that is larger than the buffer.
func (c *copyStream) long(out *copyOut, size int) error {
	whole := size
	for size > 0 {
		// At least a header's worth, so that the binary header is never cut.
		if err := c.need(min(size, 1<<10)); err != nil {
			return err
		}
		n := min(size, c.w-c.r)
		size -= n
		if err := out.piece(c.buf[c.r:c.r+n], whole, size == 0); err != nil {
			return err
		}
		c.r += n
	}
	return nil
}

// take returns the body of a message that is not a row; valid until the next read.
func (c *copyStream) take(size int) ([]byte, error) {
	if size > maxMessage {
		return nil, diag.Internal.New("source", nil, "a message of %d bytes", size)
	}
	if size <= len(c.buf) {
		if err := c.need(size); err != nil {
			return nil, err
		}
		c.r += size
		return c.buf[c.r-size : c.r], nil
	}
	body := make([]byte, size)
	n := copy(body, c.buf[c.r:c.w])
	c.r += n
	_, err := io.ReadFull(c.in, body[n:])
	return body, err
}

// need reads until n bytes are unread in the buffer.
func (c *copyStream) need(n int) error {
	if c.w-c.r >= n {
		return nil
	}
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	for c.w < n {
		got, err := c.in.Read(c.buf[c.w:])
		c.w += got
		if err != nil {
			if c.w >= n {
				return nil
			}
			return err
		}
		// Gather only once the answer has proved to be long: short ones must not wait for more.
		if c.seen += int64(got); c.seen > copyMark && c.in.low == 1 {
			if err := c.in.bulk(); err != nil {
				return err
			}
		}
	}
	return nil
}

// control handles everything that is not a row.
func (a *answer) control(kind byte, body []byte) error {
	switch kind {
	case 'H':
		out, err := a.outs(a.n)
		if err != nil {
			return err
		}
		a.out = out
	case 'C':
		if a.out == nil {
			return nil
		}
		out := a.out
		a.out = nil
		if err := out.finish(copied(body)); err != nil {
			return err
		}
		a.n++
		return a.ended(a.n - 1)
	case 'E':
		var e pgproto3.ErrorResponse
		if err := e.Decode(body); err != nil {
			return err
		}
		a.failed = pgconn.ErrorResponseToPgError(&e)
		if e.Severity == "FATAL" || e.Severity == "PANIC" {
			return a.failed
		}
	case 'Z':
		a.ready = true
	case 'c', 'N', 'S', 'A', 'T', 'D', 'I':
		// CopyDone, notices, changed settings, notifications, and answers of statements that are no COPY.
	default:
		return diag.Internal.New("source", nil, "unknown message %q", kind)
	}
	return nil
}

// copied reads the count of a command tag "COPY n"; -1 for anything else, which never equals a count.
func copied(body []byte) int64 {
	tag, ok := strings.CutPrefix(strings.TrimRight(string(body), "\x00"), "COPY ")
	if !ok {
		return -1
	}
	n, err := strconv.ParseInt(tag, 10, 64)
	if err != nil {
		return -1
	}
	return n
}
