// Package scratch makes temporary folders that do not outlive their process for long: a folder's lock is held as long
// as its owner lives, and whoever makes the next one removes those whose owner was killed.
package scratch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	prefix   = "drover-tmp-"
	lockName = ".owner"
	// A younger folder may be between mkdir and lock.
	staleAfter = time.Minute
)

// Folder is a private folder in the system's directory for temporary files. Its path is short enough for a unix socket.
type Folder struct {
	Path string
	lock *os.File
	once sync.Once
	err  error
}

var swept sync.Once

// New makes a folder; kind is part of its name. The caller closes it.
func New(kind string) (*Folder, error) {
	swept.Do(func() { sweep(os.TempDir(), time.Now()) })
	path, err := os.MkdirTemp("", prefix+kind+"-")
	if err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil && !take(lock) {
		err = errors.Join(fmt.Errorf("%s: somebody else has locked it", path), lock.Close())
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	return &Folder{Path: path, lock: lock}, nil
}

// Close removes the folder with everything in it. It may be called again, and on nil.
func (f *Folder) Close() error {
	if f == nil {
		return nil
	}
	f.once.Do(func() { f.err = errors.Join(os.RemoveAll(f.Path), f.lock.Close()) })
	return f.err
}

// sweep removes folders whose owner is gone. Best effort: what another user owns stays.
func sweep(dir string, now time.Time) {
	paths, _ := filepath.Glob(filepath.Join(dir, prefix+"*")) // the pattern is well formed
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() || now.Sub(info.ModTime()) < staleAfter {
			continue
		}
		lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if take(lock) {
			_ = os.RemoveAll(path)
		}
		_ = lock.Close()
	}
}
