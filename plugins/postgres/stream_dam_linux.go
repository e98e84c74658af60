package postgres

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// soBufLock is SO_BUF_LOCK of Linux 5.14: 0 gives the size of the buffers back to the kernel (socket(7)).
	soBufLock = 72
	// freeBuffer is what older kernels get instead; they cut it to net.core.rmem_max.
	freeBuffer = 4 << 20
)

// setReceiveBuffer fixes the size of a socket's receive buffer; 0 lets the kernel choose again.
func setReceiveBuffer(raw syscall.RawConn, size int) error {
	var inner error
	err := raw.Control(func(fd uintptr) {
		if size > 0 {
			inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size)
		} else if inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, soBufLock, 0); inner != nil {
			inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, freeBuffer)
		}
	})
	return errors.Join(err, inner)
}

// queued is how many bytes of a connection can be read at once.
func queued(fd uintptr) (int, error) { return unix.IoctlGetInt(int(fd), unix.TIOCINQ) }

// nearby reports whether the other end is a short round trip away.
func nearby(raw syscall.RawConn) bool {
	near := false
	err := raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		near = err == nil && time.Duration(info.Min_rtt)*time.Microsecond < damRTT
	})
	return err == nil && near
}
