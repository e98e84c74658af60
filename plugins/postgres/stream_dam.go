package postgres

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// farMicros behind, the log is read through a dam; nearMicros behind, it flows again.
	farMicros  = 1_000_000
	nearMicros = 300_000
	// damBuffer is the receive buffer while it is up, before the kernel doubles it. Below twice a loopback segment the
	// sender would wait for window probes.
	damBuffer = 64 << 10
	// damFull is what arrives at once only if the sender's queue held it.
	damFull = 24 << 10
	// damRefill is how long an arrival at once may take, damFill how long the sender is left to queue: about a megabyte, and
	// less than its socket takes.
	damRefill = time.Millisecond
	damFill   = 40 * time.Millisecond
	// damRTT bounds the round trip: over a longer one a small window costs more than it saves.
	damRTT = 500 * time.Microsecond
)

// dam makes a server that is far ahead of us send its log in large segments. A walsender hands every change to the kernel
// by itself, and a change that finds the window open becomes a segment of its own, which costs the source more than decoding
// it. One that finds the window closed is only appended to the socket's queue. So the window is made small, and is opened
// when the queue behind it is long: it is read until it no longer fills up at once, then left alone for damFill.
//
// Measured on loopback, 400,000 transactions of one row: walsender 2.5-3.0 CPU s instead of 2.6-5.9, whichever congestion
// control; our reads 0.06-0.3 instead of 0.1-0.7 s. Without it the outcome depends on the sender's congestion window.
type dam struct {
	raw syscall.RawConn // nil: this connection has none
	nc  net.Conn
	up  bool
}

// newDam is for plain TCP: in TLS every change is a record of its own, whatever the window.
func newDam(nc net.Conn, raw syscall.RawConn) dam {
	if _, ok := nc.(*net.TCPConn); !ok {
		raw = nil
	}
	return dam{raw: raw, nc: nc}
}

// set puts the dam up or takes it down. Where the system has no such thing the stream is read as it comes.
func (d *dam) set(up bool) {
	if up == d.up || d.raw == nil {
		return
	}
	if up && !nearby(d.raw) {
		d.raw = nil
		return
	}
	size := 0
	if up {
		size = damBuffer
	}
	if err := setReceiveBuffer(d.raw, size); err != nil {
		d.raw = nil
		return
	}
	d.up = up
}

// fill waits until reading is worth while: the window is full, or the server had its time.
func (d *dam) fill() error {
	if err := d.nc.SetReadDeadline(time.Now().Add(damRefill)); err != nil {
		return err
	}
	var failed error
	err := d.raw.Read(func(fd uintptr) bool {
		n, err := queued(fd)
		failed = err
		return err != nil || n >= damFull
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		time.Sleep(damFill)
		return nil
	}
	return errors.Join(err, failed)
}
