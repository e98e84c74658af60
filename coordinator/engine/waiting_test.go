package engine

import (
	"testing"

	"github.com/droverdb/drover/coordinator/fleet"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// say is what an agent reports of a task; the actor hears it at once.
func (p *Pipeline) say(m fleet.Message) {
	p.listen(m)
	for _, f := range p.inbox {
		f()
	}
	p.inbox = nil
}

func (p *Pipeline) saysWaiting(task uint64, what string) {
	p.say(fleet.Message{Task: task, Tick: &fleetv1.TaskProgress{Task: task, Waiting: what}})
}

// What tasks wait for is shown while they say so, and as long as somebody awaits them.
func TestWaiting_IsWhatTasksSayNow(t *testing.T) {
	p := loadingTables()
	for id := range uint64(3) {
		p.handlers[id] = func(fleet.Message) {}
	}
	want := func(when, what string, health controlv1.Health) {
		t.Helper()
		p.publish()
		if s, _ := p.Status(); s.Waiting != what || s.Health != health {
			t.Errorf("%s: %v, waiting for %q, not %q", when, s.Health, s.Waiting, what)
		}
	}
	want("nothing was said", "", controlv1.Health_HEALTH_OK)
	p.saysWaiting(0, "pid 7 to end")
	p.saysWaiting(1, "pid 7 to end")
	p.saysWaiting(2, "pid 8 to end")
	want("two wait for the same", "pid 7 to end; pid 8 to end", controlv1.Health_HEALTH_WAITING)
	p.waiting = "an agent"
	p.saysWaiting(2, "")
	want("one goes on", "pid 7 to end; an agent", controlv1.Health_HEALTH_WAITING)
	p.waiting = ""
	p.say(fleet.Message{Task: 0, Result: &fleetv1.Result{}})
	want("one has ended", "pid 7 to end", controlv1.Health_HEALTH_WAITING)
	delete(p.handlers, 1) // taken back
	want("one is awaited no more", "", controlv1.Health_HEALTH_OK)
	p.saysWaiting(1, "pid 9 to end")
	want("a late word of it", "", controlv1.Health_HEALTH_OK)
	if lines, _, _ := p.Logs(0); len(lines) != 3 || lines[0].Text != "waiting for pid 7 to end" {
		t.Errorf("log: %v", lines)
	}
}
