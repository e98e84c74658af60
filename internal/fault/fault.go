// Package fault holds named points where a test makes the process die, freeze, fail or wait.
//
//	if err := fault.Point("apply.before-commit"); err != nil {
//		return err
//	}
//
// A point costs one atomic load unless the environment arms it:
//
//	DROVER_FAULT="apply.before-commit=kill@3,stream.after-ack=sleep:1s"
//
// Actions: kill (SIGKILL to ourselves), pause (SIGSTOP, until SIGCONT), error (the point returns ErrInjected),
// sleep:DURATION. With @N only the Nth pass of this process fires, with @N+ that one and all after it, without either every
// one. Agents hand both variables on
// to their connectors, so a point fires in whichever process passes it. With DROVER_FAULT_ONCE=DIR a point that fires
// leaves a file of its name in DIR, and passes wherever that file is seen: the process that takes over lives.
// The names of all points are in names.go, written by `make generate`; arming an unknown one stops the process.
package fault

//go:generate go run ./scan

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// EnvVar is the environment variable that arms points.
const EnvVar = "DROVER_FAULT"

// OnceVar is the environment variable that names a directory of marks: a point fires once in all processes that share it.
const OnceVar = "DROVER_FAULT_ONCE"

// ErrInjected is what an armed point with action "error" returns, wrapped with its name.
var ErrInjected = errors.New("fault: injected")

type action int

const (
	kill action = iota + 1
	pause
	fail
	sleep
)

type armed struct {
	action action
	delay  time.Duration
	from   int64 // the first pass that fires; 0 for all
	onward bool  // and all after it
	passes atomic.Int64
}

var table atomic.Pointer[map[string]*armed] // nil while nothing is armed

// A mistyped fault must not let a test pass, so a bad value ends the process before it does anything.
func init() {
	if err := Arm(os.Getenv(EnvVar)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

// Point does what the environment has armed under name; almost always nothing. The name is a literal,
// "package.moment", so that `make generate` finds it.
func Point(name string) error {
	t := table.Load()
	if t == nil {
		return nil
	}
	return pass(*t, name)
}

func pass(t map[string]*armed, name string) error {
	a := t[name]
	if a == nil {
		return nil
	}
	n := a.passes.Add(1)
	if n < a.from || n > a.from && a.from > 0 && !a.onward {
		return nil
	}
	if !first(name) {
		return nil
	}
	fmt.Fprintf(os.Stderr, "fault: %s fires at pass %d\n", name, n)
	switch a.action {
	case kill:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // not one instruction more of the caller
	case pause:
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case sleep:
		time.Sleep(a.delay)
	case fail:
		return fmt.Errorf("%w at %s", ErrInjected, name)
	}
	return nil
}

// first reports whether the point has not fired before, in any process, and leaves its mark.
func first(name string) bool {
	dir := os.Getenv(OnceVar)
	if dir == "" {
		return true
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	switch {
	case err == nil:
		return f.Close() == nil
	case errors.Is(err, fs.ErrExist):
		return false
	}
	fmt.Fprintf(os.Stderr, "fault: %s: %v\n", OnceVar, err) // a test that cannot fire must not pass
	os.Exit(2)
	return false
}

// Arm replaces what is armed; an empty spec disarms everything. For tests in process; others set the environment.
func Arm(spec string) error {
	if spec == "" {
		table.Store(nil)
		return nil
	}
	t := map[string]*armed{}
	for _, entry := range strings.Split(spec, ",") {
		name, a, err := parse(strings.TrimSpace(entry))
		if err != nil {
			return err
		}
		t[name] = a
	}
	table.Store(&t)
	return nil
}

func parse(entry string) (string, *armed, error) {
	bad := func(why string) (string, *armed, error) {
		return "", nil, fmt.Errorf("fault: %s: %q: %s", EnvVar, entry, why)
	}
	name, what, ok := strings.Cut(entry, "=")
	if !ok || name == "" {
		return bad("want name=action")
	}
	if !slices.Contains(names, name) && !strings.HasPrefix(name, "test.") {
		return bad("no such point; see internal/fault/names.go")
	}
	a := &armed{}
	if rest, nth, ok := strings.Cut(what, "@"); ok {
		nth, onward := strings.CutSuffix(nth, "+")
		n, err := strconv.ParseInt(nth, 10, 64)
		if err != nil || n < 1 {
			return bad("@N and @N+ want a number from 1")
		}
		what, a.from, a.onward = rest, n, onward
	}
	what, arg, hasArg := strings.Cut(what, ":")
	actions := map[string]action{"kill": kill, "pause": pause, "error": fail, "sleep": sleep}
	if a.action = actions[what]; a.action == 0 {
		return bad("action is kill, pause, error or sleep:DURATION")
	}
	if hasArg != (a.action == sleep) {
		return bad("sleep, and only sleep, takes a duration")
	}
	if hasArg {
		var err error
		if a.delay, err = time.ParseDuration(arg); err != nil || a.delay < 0 {
			return bad("bad duration")
		}
	}
	return name, a, nil
}

// Names lists every point in the source, sorted.
func Names() []string { return slices.Clone(names) }

// Environ is what a host passes on, as NAME=value, to a subprocess that does not inherit its environment.
func Environ() []string {
	var env []string
	for _, name := range []string{EnvVar, OnceVar} {
		if value := os.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}
