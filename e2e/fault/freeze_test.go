package fault_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/droverdb/drover/e2e/harness"
)

// lease is how long an agent's session outlives its last word, and a leader's key the leader.
const lease = 10 * time.Second

// Connectors that hang, in the middle of anything, are noticed, ended and replaced, and what they held is free again.
func TestFreeze_ConnectorsThatHangAreReplaced(t *testing.T) {
	t.Parallel()
	for name, points := range map[string][]string{
		"load":   {"read.after-copy", "write.before-commit"},
		"stream": {"slot.before-feedback", "apply.before-commit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "hang_"+name, strings.Join(points, "=pause,")+"=pause")
			r.tree()
			r.write()
			r.apply("")
			r.fired(points...)
			r.await("streaming")
			r.flowing()
			r.stopWriting()
			r.equal()
			r.remove()
		})
	}
}

// Agents and coordinator are frozen for longer than their leases last. The coordinator is not in the way of rows:
// without it the stream goes on. Whoever wakes up finds its place taken, or takes it again.
func TestFreeze_PastEveryLease(t *testing.T) {
	t.Parallel()
	r := newRig(t, "asleep", "")
	r.fleet()
	r.write()
	r.apply("")
	r.await("streaming")
	coordinator, sink := r.processes[:1], r.processes[2:]
	for _, frozen := range [][]*harness.Process{coordinator, sink, r.processes} {
		for _, p := range frozen {
			p.Signal(t, syscall.SIGSTOP)
		}
		time.Sleep(lease + 2*time.Second)
		if len(frozen) == 1 && frozen[0] == coordinator[0] {
			r.flowing()
		}
		for _, p := range frozen {
			p.Signal(t, syscall.SIGCONT)
		}
		r.flowing()
	}
	r.stopWriting()
	r.equal()
	r.remove()
}
