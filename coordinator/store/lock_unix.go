//go:build unix

package store

import (
	"os"
	"path/filepath"
	"syscall"

	"github.com/droverdb/drover/internal/diag"
)

// lockDir keeps a second process out; the kernel lets go when the owner dies. etcd itself would wait for ever.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, diag.StateUnusable.New(dir, err, "the lock file cannot be opened").WithFix(diag.WritableData)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, diag.StateUnusable.New(dir, err, "another process uses this directory")
	}
	return f, nil
}
