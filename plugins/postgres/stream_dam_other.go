//go:build !linux

package postgres

import (
	"errors"
	"syscall"
)

func setReceiveBuffer(syscall.RawConn, int) error { return errors.ErrUnsupported }

func queued(uintptr) (int, error) { return 0, errors.ErrUnsupported }

func nearby(syscall.RawConn) bool { return false }
