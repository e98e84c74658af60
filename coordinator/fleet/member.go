package fleet

import (
	"maps"
	"slices"
	"time"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// join registers a session. A newer session of the same agent replaces the older one.
func (f *Fleet) join(h *fleetv1.Hello, session int64) *link {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.wg.Add(1)
	m := f.agents[h.Agent]
	if m == nil {
		m = &member{}
		f.agents[h.Agent] = m
	}
	if m.link != nil {
		m.link.end()
	}
	if m.lost != nil && m.lost.Stop() {
		f.wg.Done()
	}
	m.lost = nil
	back := m.hello != nil && h.Process != "" && h.Process == m.hello.Process
	l := &link{bell: make(chan struct{}, 1), gone: make(chan struct{})}
	m.hello, m.link, m.seen = h, l, time.Now()
	l.push(&fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_Welcome{Welcome: &fleetv1.Welcome{
		Session: session, HeartbeatMillis: (f.ttl / 4).Milliseconds(), TtlMillis: f.ttl.Milliseconds(), Coordinator: f.name}}})
	f.inherit(h)
	f.tellGrants(h.Agent)
	// Others go on under nobody's eyes: the same work is given out again, under a higher epoch.
	for _, id := range h.Running {
		if f.tasks[id] == nil {
			l.push(cancel(id, "another coordinator leads now"))
		}
	}
	f.askAgain(h, l, back)
	f.notify()
	return l
}

// askAgain sends what may have been lost with the link before: tasks that this very process has never received, and gate
// requests without an answer. What another process ran is lost. mu is held.
func (f *Fleet) askAgain(h *fleetv1.Hello, l *link, back bool) {
	for _, id := range slices.Sorted(maps.Keys(f.tasks)) {
		switch a := f.tasks[id]; {
		case a.agent != h.Agent:
		case slices.Contains(h.Running, id):
			a.arrived()
		case back && a.inherited == nil:
			l.push(&fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_Task{Task: a.task}})
		default:
			f.fail(id, a)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(f.gates)) {
		q := f.gates[id]
		if a := f.tasks[q.stream]; a != nil && a.agent == h.Agent {
			l.push(gateRequest(q.request))
		}
	}
}

// leave keeps the tasks of a broken session for one TTL: the agent may come back with them.
func (f *Fleet) leave(agent string, l *link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.agents[agent]
	if m == nil || m.link != l {
		return // replaced already
	}
	m.link = nil
	f.notify()
	if f.closed {
		return
	}
	f.wg.Add(1)
	m.lost = time.AfterFunc(f.ttl, func() {
		defer f.wg.Done()
		f.mu.Lock()
		defer f.mu.Unlock()
		if m.link != nil {
			return
		}
		for id, a := range f.tasks {
			if a.agent == agent {
				f.fail(id, a)
			}
		}
		f.notify()
	})
}

// fail ends a task whose agent is gone.
func (f *Fleet) fail(id uint64, a *assignment) {
	f.end(id, a, &fleetv1.Result{Task: id, Epoch: a.task.Epoch, Pipeline: a.task.Pipeline,
		Failure: wire.Failure(diag.NoAgent.New("agent "+a.agent, nil, "the agent was lost"))})
}

// end passes the one result on and forgets the task, unless it still waits to be adopted.
func (f *Fleet) end(id uint64, a *assignment, r *fleetv1.Result) {
	if a.sink != nil {
		f.forget(id)
	}
	a.hear(Message{Task: id, Result: r})
}

// dispatch passes a message on. Results of another epoch, or of a task that nobody waits for, are dropped.
func (f *Fleet) dispatch(agent string, m *fleetv1.SessionRequest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.agents[agent]; a != nil {
		a.seen = time.Now()
	}
	switch k := m.Kind.(type) {
	case *fleetv1.SessionRequest_Result:
		r := k.Result
		if a := f.tasks[r.Task]; a != nil && a.task.Epoch == r.Epoch && a.agent == agent {
			f.end(r.Task, a, r)
		}
	case *fleetv1.SessionRequest_Event:
		e := k.Event
		if a := f.tasks[e.Task]; a != nil && a.task.Epoch == e.Epoch && a.agent == agent {
			a.arrived()
			a.hear(Message{Task: e.Task, Event: e})
		}
	case *fleetv1.SessionRequest_Progress:
		for _, t := range k.Progress.Tasks {
			if a := f.tasks[t.Task]; a != nil && a.agent == agent {
				a.arrived()
				a.hear(Message{Task: t.Task, Tick: t})
			}
		}
	case *fleetv1.SessionRequest_GateReply:
		q := f.gates[k.GateReply.Id]
		if q == nil {
			return // answered before: the agent could not know that it had arrived
		}
		delete(f.gates, k.GateReply.Id)
		if a := f.tasks[q.stream]; a != nil {
			a.hear(Message{Task: q.stream, Reply: k.GateReply})
		}
	}
}
