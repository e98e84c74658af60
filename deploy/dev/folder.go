package dev

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// folder is this process's one temporary folder: the initdb'ed template and a folder per server.
// Its lock file is held as long as we live; a folder whose lock is free was left by a process that was killed.
type folder struct {
	mu       sync.Mutex
	path     string
	lock     *os.File
	template string // "" until the first server needs it
	servers  int    // folders handed out and not yet given back
	keep     bool   // a shared server is planned: keep the template when servers falls to 0
}

var root folder

const (
	folderPattern = "drover-dev-*"
	lockName      = "lock"
	staleAfter    = time.Minute // a younger folder may be between mkdir and lock
)

// newServer returns a fresh folder that holds data/, copied from the template.
func (f *folder) newServer(ctx context.Context, bin string, cred *syscall.Credential) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.open(cred); err != nil {
		return "", err
	}
	if f.template == "" {
		template := filepath.Join(f.path, "template")
		if err := initdb(ctx, bin, template, cred); err != nil {
			return "", err
		}
		f.template = template
	}
	dir, err := os.MkdirTemp(f.path, "")
	if err != nil {
		return "", fmt.Errorf("dev: %w", err)
	}
	if err := giveTo(dir, cred); err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", f.template, filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		return "", fmt.Errorf("dev: copy template: %w: %s", err, out)
	}
	f.servers++
	return dir, nil
}

// giveBack removes a server's folder, and with the last one everything else unless a shared server will want it.
func (f *folder) giveBack(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := os.RemoveAll(dir)
	f.servers--
	if f.servers == 0 && !f.keep {
		f.remove()
	}
	return err
}

// release lets the folder go at the end of the process. Safe to call twice.
func (f *folder) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keep = false
	if f.servers == 0 {
		f.remove()
	}
}

func (f *folder) retain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keep = true
}

func (f *folder) remove() {
	if f.path == "" {
		return
	}
	_ = os.RemoveAll(f.path) // what stays is swept by the next run
	_ = f.lock.Close()
	f.path, f.lock, f.template = "", nil, ""
}

func (f *folder) open(cred *syscall.Credential) error {
	if f.path != "" {
		return nil
	}
	sweep()
	path, err := os.MkdirTemp("", folderPattern)
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return fmt.Errorf("dev: lock %s: %w", path, err)
	}
	f.path, f.lock = path, lock
	return giveTo(path, cred)
}

// sweep removes folders whose owner was killed. Best effort: another user's folder stays.
func sweep() {
	paths, _ := filepath.Glob(filepath.Join(os.TempDir(), folderPattern)) // the pattern is well formed
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || time.Since(info.ModTime()) < staleAfter {
			continue
		}
		lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(path)
		}
		_ = lock.Close()
	}
}

func giveTo(path string, cred *syscall.Credential) error {
	if cred == nil {
		return nil
	}
	if err := os.Chown(path, int(cred.Uid), int(cred.Gid)); err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	return nil
}

func initdb(ctx context.Context, bin, data string, cred *syscall.Credential) error {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-A", "trust", "-U", "postgres", "--no-sync",
		"--locale=C.UTF-8", "-E", "UTF8", "-D", data)
	cmd.Dir = filepath.Dir(data)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		_ = os.RemoveAll(data)
		return fmt.Errorf("dev: initdb: %w: %s", err, out)
	}
	return nil
}
