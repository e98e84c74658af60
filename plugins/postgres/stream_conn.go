package postgres

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	walBuffer = 1 << 20
	// lowWater lets the kernel gather before it wakes us: a walsender sends every change on its own, and
	// waking up for each costs the source as much as decoding them.
	lowWater = 64 << 10
	// gatherWait bounds how long that may hold back what is below the mark.
	gatherWait = 10 * time.Millisecond
	// maxWalMessage is PostgreSQL's own bound.
	maxWalMessage = 1 << 30
	writeWait     = time.Minute
)

// walConn reads a replication session without a parser in between and without allocating per message.
type walConn struct {
	nc   net.Conn
	raw  syscall.RawConn
	buf  []byte
	r, w int
	low  int // the socket's receive mark
	dam  dam
	// whole is the largest message that is read in one piece; cut: one that is larger is being read.
	whole int
	cut   bool

	mu  sync.Mutex // serialises writes
	out [39]byte
}

func newWalConn(pc *pgconn.PgConn) (*walConn, error) {
	h, err := pc.Hijack()
	if err != nil {
		return nil, err
	}
	c := &walConn{nc: h.Conn, buf: make([]byte, walBuffer), low: 1, whole: wholeMessage}
	inner := h.Conn
	if t, ok := inner.(*tls.Conn); ok {
		inner = t.NetConn()
	}
	if s, ok := inner.(syscall.Conn); ok {
		c.raw, _ = s.SyscallConn() // without it we only read in smaller pieces
	}
	c.dam = newDam(h.Conn, c.raw)
	return c, nil
}

// start sends START_REPLICATION and waits until the server streams.
func (c *walConn) start(sql string, wait time.Duration) error {
	msg, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err != nil {
		return err
	}
	if err := c.write(msg); err != nil {
		return err
	}
	for end := time.Now().Add(wait); ; {
		typ, body, ok, err := c.next()
		switch {
		case err != nil:
			return err
		case !ok:
			if _, err := c.fill(50*time.Millisecond, upToDate, nil); err != nil {
				return err
			}
			if time.Now().After(end) {
				return os.ErrDeadlineExceeded
			}
		case typ == 'W':
			return nil
		case typ == 'E':
			return serverSays(body)
		}
	}
}

// serverSays decodes an ErrorResponse.
func serverSays(body []byte) error {
	var e pgproto3.ErrorResponse
	if err := e.Decode(body); err != nil {
		return err
	}
	return pgconn.ErrorResponseToPgError(&e)
}

// next returns the next message that is in the buffer, or the head of a long one. body is valid until fill.
func (c *walConn) next() (typ byte, body []byte, ok bool, err error) {
	have := c.buf[c.r:c.w]
	if len(have) < 5 {
		return 0, nil, false, nil
	}
	n := int(binary.BigEndian.Uint32(have[1:]))
	if n < 4 || n > c.whole {
		return c.long(have, n)
	}
	if len(have) < n+1 {
		return 0, nil, false, nil
	}
	c.r += n + 1
	return have[0], have[5 : n+1], true, nil
}

func (c *walConn) skip(n int) { c.r += n }

// pace tells how far the stream is behind, which decides how it is read.
type pace uint8

const (
	upToDate  pace = iota // every byte as it comes
	behind                // gathering what comes is worth a moment
	farBehind             // the server is to gather, too
)

// fill waits up to wait for more bytes; 0 and no error: none came. over ends the wait for what can only be seen after
// interrupt.
func (c *walConn) fill(wait time.Duration, p pace, over func() bool) (int, error) {
	c.room()
	if c.dam.set(p == farBehind); c.dam.up {
		c.setMark(damFull)
		if err := c.dam.fill(); err != nil {
			return 0, err
		}
	} else if p == upToDate {
		c.setMark(1)
	} else {
		c.setMark(lowWater)
	}
	gathers := c.low > 1
	if gathers {
		wait = min(wait, gatherWait)
	}
	n, err := c.readFor(wait, over)
	if n == 0 && err == nil && gathers {
		// The mark hides what is below it from the poller, not from a read that starts now.
		n, err = c.readFor(time.Millisecond/4, nil)
	}
	return n, err
}

// interrupt ends a wait for bytes early.
func (c *walConn) interrupt() { _ = c.nc.SetReadDeadline(time.Unix(1, 0)) }

func (c *walConn) readFor(wait time.Duration, over func() bool) (int, error) {
	if err := c.nc.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return 0, err
	}
	if over != nil && over() { // looked at after the deadline is set: a later interrupt is not lost
		return 0, nil
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// room makes place for at least the rest of the message that is partly there.
func (c *walConn) room() {
	have := c.buf[c.r:c.w]
	need := 0
	if len(have) >= 5 && !c.cut {
		if need = int(binary.BigEndian.Uint32(have[1:])) + 1; need > c.whole+1 {
			need = longHead
		}
	}
	switch {
	case need > len(c.buf):
		// A message of this size takes its own buffer, given back by the next branch.
		grown := make([]byte, need+4096)
		c.w = copy(grown, have)
		c.buf, c.r = grown, 0
	case len(c.buf) > walBuffer && max(need, len(have)) <= walBuffer/2:
		small := make([]byte, walBuffer)
		c.w = copy(small, have)
		c.buf, c.r, c.whole = small, 0, wholeMessage
	case c.r > 0:
		c.w = copy(c.buf, have)
		c.r = 0
	}
}

func (c *walConn) setMark(low int) {
	if low == c.low || c.raw == nil {
		return
	}
	c.low = low
	// A refusal costs wake-ups, not correctness.
	if err := setReceiveMark(c.raw, low); err != nil {
		c.raw, c.low = nil, 1
	}
}

func (c *walConn) write(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writeLocked(b)
}

func (c *walConn) writeLocked(b []byte) error {
	if err := c.nc.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return err
	}
	_, err := c.nc.Write(b)
	return err
}

// status tells the server what is durable at the target, and nothing else: the slot moves by it.
func (c *walConn) status(acked uint64, ask bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := append(c.out[:0], 'd', 0, 0, 0, 38, 'r')
	b = binary.BigEndian.AppendUint64(b, acked) // written
	b = binary.BigEndian.AppendUint64(b, acked) // flushed
	b = binary.BigEndian.AppendUint64(b, acked) // applied
	b = binary.BigEndian.AppendUint64(b, uint64(time.Now().UnixMicro()-pgEpochMicros))
	if ask {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return c.writeLocked(b)
}

// close ends the session in the server's own words, so that the slot is free at once.
func (c *walConn) close() {
	_ = c.write([]byte{'X', 0, 0, 0, 4})
	_ = c.nc.Close()
}
