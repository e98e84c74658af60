package fleet_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// service is an environment in which service=old and service=new lead to these servers: agents that know an address by
// different names, or by one name that leads elsewhere.
func service(t *testing.T, source, target *dev.Server) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "services")
	text := fmt.Sprintf("[old]\nhost=127.0.0.1\nport=%d\nuser=postgres\ndbname=postgres\nsslmode=disable\n[new]\nhost=127.0.0.1\nport=%d\nuser=postgres\ndbname=postgres\nsslmode=disable\n",
		source.Port(), target.Port())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"PGSERVICEFILE=" + file, "DROVER_FAULT=" + slow}
}

// A physical copy that runs by itself has the very identity of the database. An agent that reaches one under the same
// address is given nothing, at either side; who reaches the databases themselves helps, also after they were started again.
func TestFleet_AnAgentThatReachesAPhysicalCopyGetsNothing(t *testing.T) {
	t.Parallel()
	source, target := dev.Postgres(t), dev.Postgres(t)
	dev.MustExec(t, source.URL("postgres"), crew)
	oldCopy, newCopy := dev.Copy(t, source), dev.Copy(t, target)
	dev.MustExec(t, oldCopy.URL("postgres"), "UPDATE a SET v = 'of the copy'; UPDATE w SET v = 'of the copy'")
	address := harness.FreeAddress(t, "127.0.0.1")
	harness.Start(t, harness.Command{Args: []string{"coordinator", "run", "--data", t.TempDir(), "--listen", address}}).WaitForOutput(t, "drover is up", 20*time.Second)
	join := func(name string, env []string) {
		p := harness.Start(t, harness.Command{Env: env, Args: []string{"agent", "run", "-v", "--coordinator", address, "--name", name, "--transfer", harness.FreeAddress(t, "127.0.0.1")}})
		p.WaitForOutput(t, "linked to the coordinator", 20*time.Second)
	}
	logged := func(times int, words string) string {
		t.Helper()
		var logs string
		harness.Eventually(t, 60*time.Second, func() error {
			logs = harness.MustRun(t, "logs", "twins", "--coordinator", address).Stdout
			if n := strings.Count(logs, words); n < times {
				return fmt.Errorf("%q was noted %d times of %d: %s", words, n, times, logs)
			}
			return nil
		})
		return logs
	}
	join("own", service(t, source, target))
	file := filepath.Join(t.TempDir(), "p.yaml")
	text := "version: 1\nname: twins\nsource: \"postgres:///postgres?service=old\"\ntarget: \"postgres:///postgres?service=new\"\nload: {chunk: {target: 1MiB}}\n" + heartbeat + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.MustRun(t, "apply", "-f", file, "--coordinator", address)
	logged(1, "phase load")
	join("astray", service(t, oldCopy, newCopy))
	join("near", service(t, source, target))
	const copied = ": under that address it reaches another server with a physical copy of the database"
	logged(1, "agent astray does not help to read the source"+copied)
	logged(1, "agent astray does not help to write the target"+copied)
	logged(1, "agent near helps to read the source")
	for _, s := range []*dev.Server{source, target} { // what they are found by changes under connectors that live on
		if err := s.StopImmediate(); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	join("late", service(t, source, target)) // its connectors have never seen the servers of before
	logged(1, "agent late helps to read the source")
	logged(2, "agent near helps to read the source")
	logs := logged(2, "agent near helps to write the target")
	if strings.Contains(logs, "agent near does not help") || strings.Contains(logs, "agent late does not help") || strings.Contains(logs, "agent astray helps") {
		t.Errorf("who helps is wrong: %s", logs)
	}
	harness.Eventually(t, 90*time.Second, func() error {
		r := harness.Run(t, "status", "twins", "--coordinator", address)
		if !strings.Contains(r.Stdout, "phase=streaming") {
			return fmt.Errorf("it does not stream: %s", r)
		}
		return nil
	})
	harness.RequireRowsEqual(t, source.URL("postgres"), target.URL("postgres"))
	if n := dev.MustQuery(t, newCopy.URL("postgres"), "SELECT count(*) FROM pg_class WHERE relname = 'a'"); n != "0" {
		t.Errorf("something was written to the target's copy")
	}
	harness.MustRun(t, "delete", "twins", "--yes", "--confirm", "twins", "--coordinator", address)
}
