package dev

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/droverdb/drover/internal/scratch"
)

// folder is this process's one temporary folder: an initdb'ed template per version and a folder per server.
// What a killed process left is removed by the next one.
type folder struct {
	mu       sync.Mutex
	scratch  *scratch.Folder
	template map[string]string // by the folder of binaries that made it
	servers  int               // folders handed out and not yet given back
	keep     bool              // a shared server is planned: keep the template when servers falls to 0
}

var root folder

// newServer returns a fresh folder that holds data/, copied from the template.
func (f *folder) newServer(ctx context.Context, bin string, cred *syscall.Credential) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.open(cred); err != nil {
		return "", err
	}
	if f.template[bin] == "" {
		template := filepath.Join(f.scratch.Path, "template"+strconv.Itoa(len(f.template)))
		if err := initdb(ctx, bin, template, cred); err != nil {
			return "", err
		}
		if f.template == nil {
			f.template = map[string]string{}
		}
		f.template[bin] = template
	}
	dir, err := os.MkdirTemp(f.scratch.Path, "")
	if err != nil {
		return "", fmt.Errorf("dev: %w", err)
	}
	if err := giveTo(dir, cred); err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", f.template[bin], filepath.Join(dir, "data")).CombinedOutput(); err != nil {
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
	_ = f.scratch.Close() // what stays is swept by a later process
	f.scratch, f.template = nil, nil
}

func (f *folder) open(cred *syscall.Credential) error {
	if f.scratch != nil {
		return nil
	}
	made, err := scratch.New("dev")
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	f.scratch = made
	return giveTo(made.Path, cred)
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
