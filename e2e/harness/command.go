package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
)

// Command is one call of the binary.
type Command struct {
	Args  []string
	Env   []string // NAME=value, on top of ours
	Stdin string
	Dir   string
	Path  string // another program than drover
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int // exit code; -1 when a signal ended it
	Signal         syscall.Signal
	Took           time.Duration
}

// String shows all of it, for a failing test.
func (r Result) String() string {
	return fmt.Sprintf("exit code %d, signal %d, after %s\nstdout:\n%s\nstderr:\n%s", r.Code, int(r.Signal), r.Took.Round(time.Millisecond), r.Stdout, r.Stderr)
}

// Run runs drover to its end.
func Run(t testing.TB, args ...string) Result {
	t.Helper()
	return Start(t, Command{Args: args}).Wait()
}

// MustRun runs drover and fails the test unless it exits with 0.
func MustRun(t testing.TB, args ...string) Result {
	t.Helper()
	r := Run(t, args...)
	if r.Code != 0 {
		t.Fatalf("drover %s: %s", strings.Join(args, " "), r)
	}
	return r
}

// Process is a running command. It is killed, with its process group, when the test ends.
type Process struct {
	child          *dev.Child
	began          time.Time
	stdout, stderr buffer
}

// Start starts drover (or Path) and returns at once. A failing test shows its output.
func Start(t testing.TB, c Command) *Process {
	t.Helper()
	path := c.Path
	if path == "" {
		path = Binary(t)
	}
	cmd := exec.Command(path, c.Args...)
	p := &Process{began: time.Now()}
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, &p.stdout, &p.stderr
	if c.Stdin != "" {
		cmd.Stdin = strings.NewReader(c.Stdin)
	}
	cmd.WaitDelay = 5 * time.Second // an orphan that holds our pipes must not hang the test
	var err error
	if p.child, err = dev.Spawn(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.child.KillGroup()
		r := p.Wait()
		if t.Failed() {
			t.Logf("%s %s: %s", path, strings.Join(c.Args, " "), r)
		}
	})
	return p
}

// PID is the process's id.
func (p *Process) PID() int { return p.child.PID() }

// Done is closed once the process has ended.
func (p *Process) Done() <-chan struct{} { return p.child.Done() }

// Signal sends sig to the process alone.
func (p *Process) Signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := p.child.Signal(sig); err != nil {
		t.Fatalf("signal %d: %v", int(sig), err)
	}
}

// Kill sends SIGKILL to the process alone, not to what it started, and waits for it.
func (p *Process) Kill() Result {
	_ = p.child.Signal(syscall.SIGKILL) // it may have ended
	return p.Wait()
}

// Stop asks the process to end (SIGTERM), kills it after the grace, and waits for it.
func (p *Process) Stop(grace time.Duration) Result {
	_ = p.child.Signal(syscall.SIGTERM) // it may have ended
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.child.Done():
	case <-timer.C:
		p.child.KillGroup()
	}
	return p.Wait()
}

// Wait waits for the end. It may be called again.
func (p *Process) Wait() Result {
	err := p.child.Err()
	r := Result{Stdout: p.stdout.String(), Stderr: p.stderr.String(), Took: time.Since(p.began)}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			r.Signal = status.Signal()
		}
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		r.Code = -1
		r.Stderr += "\n" + err.Error()
	}
	return r
}

// Stdout is what the process has printed so far.
func (p *Process) Stdout() string { return p.stdout.String() }

// Stderr is what the process has logged so far.
func (p *Process) Stderr() string { return p.stderr.String() }

// WaitForOutput waits until stdout or stderr holds text; it fails the test when the process ends or the time is over.
func (p *Process) WaitForOutput(t testing.TB, text string, timeout time.Duration) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		ended := false
		select {
		case <-p.child.Done():
			ended = true
		default:
		}
		if strings.Contains(p.Stdout(), text) || strings.Contains(p.Stderr(), text) {
			return
		}
		if ended || time.Now().After(deadline) {
			t.Fatalf("no %q in the output after %s (ended: %v)", text, timeout, ended)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// buffer may be read while the process writes.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
