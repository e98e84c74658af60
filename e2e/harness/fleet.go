package harness

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FleetOptions shape a fleet.
type FleetOptions struct {
	// Env is added to the environment of every process.
	Env []string
	// Coordinator, Source and Sink are further arguments of each.
	Coordinator, Source, Sink []string
	// Client are further arguments of commands that talk to the coordinator.
	Client []string
	// Host is where coordinator and sink agent listen; empty: 127.0.0.1.
	Host string
}

// Fleet is a coordinator with one agent that only reads and one that only writes, each a process of its own.
type Fleet struct {
	Data, Address, Transfer   string
	Coordinator, Source, Sink *Process

	o FleetOptions
}

// FreeAddress is an address on which nobody listens at the moment.
func FreeAddress(t testing.TB, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// StartFleet starts all three; it returns once the coordinator leads.
func StartFleet(t testing.TB, o FleetOptions) *Fleet {
	t.Helper()
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	f := &Fleet{Data: t.TempDir(), Address: FreeAddress(t, o.Host), Transfer: FreeAddress(t, o.Host), o: o}
	f.StartCoordinator(t)
	f.StartSource(t)
	f.StartSink(t)
	return f
}

func (f *Fleet) start(t testing.TB, more []string, args ...string) *Process {
	t.Helper()
	return Start(t, Command{Args: append(args, more...), Env: f.o.Env})
}

// StartCoordinator starts one, with the state and address of the one before it.
func (f *Fleet) StartCoordinator(t testing.TB) {
	t.Helper()
	f.Coordinator = f.start(t, f.o.Coordinator, "coordinator", "run", "--data", f.Data, "--listen", f.Address)
	f.Coordinator.WaitForOutput(t, "drover is up", 20*time.Second)
}

// StartSource starts the agent that reads, again after it has died.
func (f *Fleet) StartSource(t testing.TB) {
	t.Helper()
	f.Source = f.StartReader(t, "src")
}

// StartReader starts one more agent that reads.
func (f *Fleet) StartReader(t testing.TB, name string) *Process {
	t.Helper()
	return f.start(t, f.o.Source, "agent", "run", "--coordinator", f.Address, "--name", name, "--no-sink")
}

// StartSink starts the agent that writes, again after it has died.
func (f *Fleet) StartSink(t testing.TB) {
	t.Helper()
	f.Sink = f.start(t, f.o.Sink, "agent", "run", "--coordinator", f.Address, "--name", "dst", "--no-source", "--transfer", f.Transfer)
}

// Apply creates a pipeline; options are further lines of its file.
func (f *Fleet) Apply(t testing.TB, name, source, target string, options ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "p.yaml")
	text := fmt.Sprintf("version: 1\nname: %s\nsource: %q\ntarget: %q\n%s\n", name, source, target, strings.Join(options, "\n"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := f.Run(t, "apply", "-f", file); r.Code != 0 {
		t.Fatal(r)
	}
}

// Run runs a command against the fleet's coordinator.
func (f *Fleet) Run(t testing.TB, args ...string) Result {
	t.Helper()
	return Start(t, Command{Args: append(append(args, "--data", f.Data), f.o.Client...)}).Wait()
}

// Await waits until a pipeline's status holds a word.
func (f *Fleet) Await(t testing.TB, name, word string) {
	t.Helper()
	Eventually(t, 60*time.Second, func() error {
		r := f.Run(t, "status", name)
		if !strings.Contains(r.Stdout, word) {
			return fmt.Errorf("no %q: %s", word, r)
		}
		return nil
	})
}

// RequireRowsEqual waits until all rows of both sides are equal.
func RequireRowsEqual(t testing.TB, source, target string) {
	t.Helper()
	Eventually(t, 40*time.Second, func() error {
		report, err := Compare(t.Context(), source, target, CompareOptions{Sequences: SequencesSkip, SkipSchema: true})
		if err == nil && !report.Equal() {
			err = fmt.Errorf("%s", report)
		}
		return err
	})
}
