//go:build unix

package scratch

import (
	"os"
	"syscall"
)

// take locks a file for this process; the kernel lets go when it dies.
func take(f *os.File) bool { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil }
