package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// Copy takes a physical copy of a running server and starts it: a server of its own that has the same system identifier
// and, until somebody writes, the same data. It ends with the test.
func Copy(t testing.TB, of *Server) *Server {
	t.Helper()
	s, err := of.copyTo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *Server) copyTo(ctx context.Context) (*Server, error) {
	dir, err := root.newServer(ctx, s.bin, s.cred)
	if err != nil {
		return nil, err
	}
	c := &Server{bin: s.bin, dir: dir, cred: s.cred, settings: s.settings}
	data := filepath.Join(dir, "data")
	if err := os.RemoveAll(data); err != nil {
		return nil, errors.Join(fmt.Errorf("dev: %w", err), c.Close())
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "pg_basebackup"), "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", "postgres",
		"-D", data, "--checkpoint=fast", "--no-sync")
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: s.cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("dev: pg_basebackup: %w: %s", err, out), c.Close())
	}
	if c.port, err = freePort(); err == nil {
		err = c.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}
