package host_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/droverdb/drover/agent/agenttest"
	"github.com/droverdb/drover/agent/host"
)

// children are the subprocesses of this process.
func children(t *testing.T) []int {
	t.Helper()
	var pids []int
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		if err != nil {
			continue // the thread has ended
		}
		for _, f := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

func prewarmed(t *testing.T, h *host.Host, n int) []int {
	t.Helper()
	before := children(t)
	h.Prewarm(agenttest.Name, n)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		fresh := slices.DeleteFunc(children(t), func(pid int) bool { return slices.Contains(before, pid) })
		if len(fresh) == n {
			return fresh
		}
		if time.Now().After(end) {
			t.Fatalf("%d processes, want %d", len(fresh), n)
		}
	}
}

func TestPrewarm_ProcessesAreTakenByWhoOpens(t *testing.T) {
	h := newHost(t)
	pids := prewarmed(t, h, 2)
	one, two := open(t, h, agenttest.Endpoint(source, "p")), open(t, h, agenttest.Endpoint(sink, "p"))
	if one.Pid() == two.Pid() || !slices.Contains(pids, one.Pid()) || !slices.Contains(pids, two.Pid()) {
		t.Errorf("prewarmed %v, took %d and %d", pids, one.Pid(), two.Pid())
	}
	if three := open(t, h, agenttest.Endpoint(source, "q")); slices.Contains(pids, three.Pid()) {
		t.Error("a third endpoint shares a process")
	}
}

func TestPrewarm_ADeadProcessIsReplaced(t *testing.T) {
	h := newHost(t)
	pid := prewarmed(t, h, 1)[0]
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if c := open(t, h, agenttest.Endpoint(source, "p")); c.Pid() == pid {
		t.Error("a dead process was given out")
	}
}

func TestPrewarm_CloseEndsWhatNobodyTook(t *testing.T) {
	before := len(children(t))
	h := host.New(host.Config{BuiltIn: []string{agenttest.Name}})
	h.Prewarm(agenttest.Name, 3)
	if err := h.Close(); err != nil { // also while they are starting
		t.Fatal(err)
	}
	if n := len(children(t)); n > before {
		t.Errorf("%d processes are left", n-before)
	}
	h.Prewarm(agenttest.Name, 1)
	if n := len(children(t)); n > before {
		t.Error("a closed host starts processes")
	}
}
