package postgres

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// gatherQuiet is how long a gathered read may go without progress before what has arrived is taken.
const gatherQuiet = 3 * time.Millisecond

// gather reads a connection in large pieces. PostgreSQL pushes many small packets; a reader that is woken for
// each of them costs both sides more than the data does. A receive low-water mark lets the kernel collect
// first (engine-facts.md, section 11). TLS and unix sockets are read plainly: there the mark has no meaning.
//
// Reads use the connection's read deadline; whoever wants to interrupt one closes the connection.
type gather struct {
	conn net.Conn
	raw  syscall.RawConn // nil: read plainly
	mark int             // what to gather when there is much to come
	low  int             // the mark the socket has now
}

func newGather(conn net.Conn, mark int) *gather {
	g := &gather{conn: conn, mark: mark, low: 1}
	if tcp, ok := conn.(*net.TCPConn); ok && canGather {
		if raw, err := tcp.SyscallConn(); err == nil {
			g.raw = raw
		}
	}
	return g
}

// relax makes the next byte wake the reader: for the start of an answer and for its end.
func (g *gather) relax() error { return g.set(1) }

// bulk says that much is to come.
func (g *gather) bulk() error { return g.set(g.mark) }

func (g *gather) set(low int) error {
	if g.raw == nil || g.low == low {
		return nil
	}
	if err := setReceiveMark(g.raw, low); err != nil {
		g.raw = nil // the system does not have it: read plainly from now on
		return g.conn.SetReadDeadline(time.Time{})
	}
	g.low = low
	return nil
}

// Read returns once the mark is reached, or with less when nothing more came for a moment.
func (g *gather) Read(p []byte) (int, error) {
	if g.raw == nil || g.low == 1 {
		return g.conn.Read(p)
	}
	if err := g.conn.SetReadDeadline(time.Now().Add(gatherQuiet)); err != nil {
		return 0, err
	}
	n, err := g.conn.Read(p)
	if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	if err := errors.Join(g.relax(), g.conn.SetReadDeadline(time.Time{})); err != nil {
		return 0, err
	}
	n, err = g.conn.Read(p)
	return n, errors.Join(err, g.bulk())
}

// done leaves the socket as it was found.
func (g *gather) done() error {
	if g.raw == nil {
		return nil
	}
	return errors.Join(g.relax(), g.conn.SetReadDeadline(time.Time{}))
}
