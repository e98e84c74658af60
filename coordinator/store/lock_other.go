//go:build !unix

package store

import (
	"os"
	"path/filepath"

	"github.com/droverdb/drover/internal/diag"
)

// lockDir opens the lock file; where flock is missing, the exclusive lock of etcd's own database has to do.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, diag.StateUnusable.New(dir, err, "the lock file cannot be opened").WithFix(diag.WritableData)
	}
	return f, nil
}
