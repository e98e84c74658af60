package fault_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/e2e/harness"
	"github.com/droverdb/drover/internal/fault"
)

// scenario kills the process that passes each of its points, once each.
type scenario struct {
	name   string
	points []string // "name" or "name@pass"
	// fleet: coordinator and agents are processes of their own, so each dies alone. Otherwise all die at once, except
	// that connectors always die alone.
	fleet bool
	// forget: what the coordinator knew is lost with every death, and only the target's tokens are left.
	forget bool
	// large: rows are written that have to be read again in pieces.
	large bool
}

// scenarios hold every point; before and after of one effect share a pipeline.
var scenarios = []scenario{
	{name: "grant", points: []string{"coordinator.before-grant@2", "coordinator.after-grant"}, fleet: true},
	{name: "finish", points: []string{"coordinator.before-finish@2", "coordinator.after-finish"}, fleet: true},
	{name: "start", points: []string{"coordinator.before-start", "coordinator.after-start", "coordinator.before-loaded", "coordinator.after-loaded"}},
	{name: "floor", points: []string{"gate.before-reserve@2", "gate.after-reserve"}, fleet: true},
	{name: "load-all", points: []string{"coordinator.before-grant@2", "coordinator.after-grant", "gate.before-reserve", "gate.after-reserve",
		"coordinator.before-finish", "coordinator.after-finish"}},
	{name: "read", points: []string{"load.before-read@2", "read.before-copy", "read.after-copy", "snapshot.after-export"}, fleet: true},
	{name: "write", points: []string{"write.before-commit@2", "write.after-commit", "load.after-write"}, fleet: true},
	{name: "write-all", points: []string{"write.before-commit", "write.after-commit", "load.after-write"}},
	{name: "apply", points: []string{"apply.before-commit@3", "apply.after-commit@5", "stream.before-ack@4", "stream.after-ack@5"}, fleet: true},
	{name: "apply-all", points: []string{"apply.before-commit", "apply.after-commit", "stream.before-ack@9", "stream.after-ack"}},
	{name: "large", points: []string{"renew.before-rows", "renew.after-rows@2", "reread.before-rows@2", "reread.after-rows"}, fleet: true, large: true},
	{name: "large-all", points: []string{"renew.before-rows@2", "renew.after-rows", "reread.before-rows", "reread.after-rows@2"}, large: true},
	{name: "slot", points: []string{"slot.before-create", "slot.after-create", "slot.before-feedback", "slot.after-feedback@4",
		"recover.before-fence", "recover.after-fence@2"}, fleet: true},
	{name: "schema", points: []string{"schema.after-commit", "schema.before-commit@2"}}, // the tables, then the indexes
	{name: "lost", points: []string{"coordinator.after-start", "coordinator.after-grant", "gate.after-reserve", "load.after-write@2",
		"coordinator.before-finish", "coordinator.after-finish", "coordinator.before-loaded", "coordinator.after-loaded",
		"stream.before-ack", "stream.after-ack@3"}, forget: true},
	{name: "delete", points: []string{"slot.before-drop", "slot.after-drop", "tokens.before-drop", "tokens.after-drop",
		"coordinator.before-forget", "coordinator.after-forget"}},
}

func pointName(p string) string { name, _, _ := strings.Cut(p, "@"); return name }

// A point nobody fires would be a promise nobody tests.
func TestScenarios_CoverEveryPoint(t *testing.T) {
	var covered []string
	for _, s := range scenarios {
		for _, p := range s.points {
			covered = append(covered, pointName(p))
		}
	}
	for _, name := range fault.Names() {
		if !slices.Contains(covered, name) {
			t.Errorf("no scenario fires %s", name)
		}
	}
}

// Whoever dies, wherever: the next start goes on, nothing is lost or doubled, and delete leaves nothing behind.
func TestPoints_NothingIsLostWhoeverDies(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(t)
		})
	}
}

func (s scenario) run(t *testing.T) {
	var spec, alive, dying []string
	for _, p := range s.points {
		name, pass, _ := strings.Cut(p, "@")
		arm := name + "=kill"
		if pass != "" {
			arm += "@" + pass
		}
		spec = append(spec, arm)
		if strings.Contains(name, "-drop") || strings.Contains(name, "-forget") {
			dying = append(dying, name)
		} else {
			alive = append(alive, name)
		}
	}
	r := newRig(t, "f_"+strings.ReplaceAll(s.name, "-", "_"), strings.Join(spec, ","))
	r.forget, r.large = s.forget, s.large
	r.tree()
	if s.fleet {
		r.fleet()
	}
	r.write()
	r.apply("")
	r.await("streaming")
	r.fired(alive...)
	time.Sleep(300 * time.Millisecond) // some changes after the last fault
	r.stopWriting()
	r.equal()
	if s.name == "schema" {
		harness.RequireEqual(t, r.source, r.target, harness.CompareOptions{})
	}
	r.remove()
	r.fired(dying...)
}
