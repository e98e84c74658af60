//go:build unix

package postgres

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const canGather = true

func setReceiveMark(raw syscall.RawConn, low int) error {
	var inner error
	err := raw.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, low)
	})
	if err != nil {
		return err
	}
	return inner
}
