package fleet

import (
	"time"

	"github.com/droverdb/drover/internal/diag"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// Inherited is a task that a former coordinator gave out and that still runs.
type Inherited struct {
	Agent string
	Task  *fleetv1.RunningTask
}

// Settles is when this term has seen every agent that lives: a TTL after it began, nobody is declared lost before.
func (f *Fleet) Settles() time.Time { return f.began.Add(f.ttl) }

// inherit keeps what an agent still runs for a former coordinator, and what it reports, until somebody adopts it.
// It is called with the lock held.
func (f *Fleet) inherit(h *fleetv1.Hello) {
	if f.settles == nil {
		return
	}
	if f.grants[h.Agent] == nil {
		f.legacy[h.Agent] = h.Grants
	}
	for _, t := range h.Tasks {
		if f.tasks[t.Task] != nil || t.Task > f.firstID {
			continue
		}
		f.tasks[t.Task] = &assignment{agent: h.Agent, inherited: t, task: &fleetv1.Task{Id: t.Task, Epoch: t.Epoch, Pipeline: t.Pipeline}}
	}
}

// Inherited lists the tasks of a pipeline that wait to be adopted.
func (f *Fleet) Inherited(pipeline string) []Inherited {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Inherited
	for _, a := range f.tasks {
		if a.inherited != nil && a.sink == nil && a.task.Pipeline == pipeline {
			out = append(out, Inherited{Agent: a.agent, Task: a.inherited})
		}
	}
	return out
}

// Adopt takes a task over: the sink hears what was reported since its agent came, and everything to come.
func (f *Fleet) Adopt(id uint64, s Sink) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.tasks[id]
	if a == nil || a.inherited == nil || a.sink != nil || f.closed {
		return diag.NoAgent.New("task", nil, "it has ended meanwhile")
	}
	a.sink = s
	for _, m := range a.heard {
		s(m)
		if m.Result != nil {
			delete(f.tasks, id)
		}
	}
	a.heard = nil
	return nil
}

// settle ends what nobody has adopted once every agent had its time to come back.
func (f *Fleet) settle() {
	defer f.wg.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settles = nil
	for agent := range f.legacy {
		delete(f.legacy, agent)
		f.tellGrants(agent)
	}
	for id, a := range f.tasks {
		if a.sink != nil {
			continue
		}
		delete(f.tasks, id)
		if m := f.agents[a.agent]; m != nil && m.link != nil {
			m.link.push(cancel(id, "another coordinator leads now"))
		}
	}
}
