package dev

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
)

// Pause freezes every process of the server: connections stay open and nothing answers.
// A frozen process cannot obey the parent-death signal, so a small guard kills it should we die before Resume.
func (s *Server) Pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || s.proc.ended() {
		return errors.New("dev: server does not run")
	}
	if s.guard != nil {
		return nil
	}
	if err := s.proc.signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("dev: pause: %w", err)
	}
	pids := append([]int{s.proc.pid}, ChildrenOf(s.proc.pid)...)
	for _, pid := range pids[1:] {
		_ = syscall.Kill(pid, syscall.SIGSTOP) // a backend may just have ended
	}
	if err := s.startGuard(pids); err != nil {
		s.resume(s.proc)
		return err
	}
	return nil
}

// Resume thaws a paused server. Idempotent.
func (s *Server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		s.resume(s.proc)
	}
	return nil
}

func (s *Server) resume(proc *Child) {
	if s.guard != nil {
		s.unwind()
		s.guard, s.unwind = nil, nil
	}
	_ = proc.signal(syscall.SIGCONT)
	if proc.ended() {
		return
	}
	for _, pid := range ChildrenOf(proc.pid) {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

// startGuard runs a shell that waits on a pipe we hold: a line means resumed, an end of file means that we died.
func (s *Server) startGuard(pids []int) error {
	args := []string{"-c", `read -r line || kill -KILL "$@"`, "guard"}
	for _, pid := range pids {
		args = append(args, strconv.Itoa(pid))
	}
	guard := exec.Command("/bin/sh", args...)
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := guard.StdinPipe()
	if err != nil {
		return fmt.Errorf("dev: guard: %w", err)
	}
	if err := guard.Start(); err != nil {
		return fmt.Errorf("dev: guard: %w", err)
	}
	s.guard = guard
	s.unwind = func() {
		_, _ = pipe.Write([]byte("resumed\n"))
		_ = guard.Wait()
	}
	return nil
}
