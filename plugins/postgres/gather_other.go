//go:build !unix

package postgres

import (
	"errors"
	"syscall"
)

const canGather = false

func setReceiveMark(syscall.RawConn, int) error { return errors.ErrUnsupported }
