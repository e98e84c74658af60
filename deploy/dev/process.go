package dev

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// account is the unprivileged user that runs the server when we are root (PostgreSQL refuses root); nil otherwise.
func account() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("dev: uid of %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("dev: gid of %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("dev: we are root and neither user postgres nor nobody exists")
}

// Child is a process that is killed with us.
type Child struct {
	pid  int
	done chan struct{} // closed once the process has been waited for
	err  error         // how it ended; read it after done
}

// Spawn starts cmd so that it never outlives us. The parent-death signal fires when the *thread* that forked goes away,
// so the goroutine that forks is locked to its thread and stays until the child has ended.
func Spawn(cmd *exec.Cmd) (*Child, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if cmd.SysProcAttr.Pdeathsig == 0 {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	cmd.SysProcAttr.Setpgid = !cmd.SysProcAttr.Setsid // a Ctrl-C at the terminal is ours to handle, in order
	c := &Child{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		err := cmd.Start()
		if err == nil {
			c.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("dev: start %s: %w", filepath.Base(cmd.Path), err)
	}
	return c, nil
}

// PID is the process's id, which is also the id of its process group.
func (c *Child) PID() int { return c.pid }

// Done is closed once the process has ended and been waited for.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err is how the process ended (nil for exit code 0). It blocks until then.
func (c *Child) Err() error {
	<-c.done
	return c.err
}

// Signal sends sig to the process alone; os.ErrProcessDone once it has been waited for.
func (c *Child) Signal(sig syscall.Signal) error { return c.signal(sig) }

// KillGroup kills the process and what it started, as far as that stayed in its process group. Idempotent.
func (c *Child) KillGroup() {
	if !c.ended() {
		_ = syscall.Kill(-c.pid, syscall.SIGKILL)
	}
}

// ended reports whether the process has been waited for.
func (c *Child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// signal does nothing once the process has been waited for, so a reused pid is never hit.
func (c *Child) signal(sig syscall.Signal) error {
	if c.ended() {
		return os.ErrProcessDone
	}
	return syscall.Kill(c.pid, sig)
}

// waitFor reports whether the process ended within the timeout.
func (c *Child) waitFor(timeout time.Duration) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-c.done:
		return true
	case <-timer.C:
		return false
	}
}

// ChildrenOf lists the direct children of pid. PostgreSQL's backends are all direct children of the postmaster,
// each in a session of its own, so a process group does not reach them.
func ChildrenOf(pid int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well formed
	var pids []int
	for _, path := range stats {
		if p, ppid, _ := parseStat(path); ppid == pid {
			pids = append(pids, p)
		}
	}
	return pids
}

// parseStat reads pid, parent and state from a /proc/PID/stat file; zeroes when the process is gone.
func parseStat(path string) (pid, ppid int, state string) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, ""
	}
	text := string(raw)
	end := strings.LastIndexByte(text, ')') // the name in parentheses may itself hold spaces
	if end < 0 {
		return 0, 0, ""
	}
	fields := strings.Fields(text[end+1:])
	if len(fields) < 2 {
		return 0, 0, ""
	}
	pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(path)))
	ppid, _ = strconv.Atoi(fields[1])
	return pid, ppid, fields[0]
}

// waitGone waits until none of pids runs any more (a zombie counts as gone: its memory is released).
func waitGone(pids []int, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for _, pid := range pids {
		path := filepath.Join("/proc", strconv.Itoa(pid), "stat")
		for {
			if _, _, state := parseStat(path); state == "" || state == "Z" || state == "X" {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("dev: process %d did not end in %s", pid, timeout)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	return nil
}
