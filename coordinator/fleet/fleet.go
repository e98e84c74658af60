// Package fleet holds the sessions of agents: it hands out tasks and brings back each result exactly once.
package fleet

import (
	"context"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/droverdb/drover/internal/diag"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// Leases keep an agent's session in etcd.
type Leases interface {
	Open(ctx context.Context, name string, ttl int64) (int64, error)
	Renew(ctx context.Context, id int64) error
	Close(ctx context.Context, id int64) error
}

// Message is what an agent sent about one task; exactly one field is set.
type Message struct {
	Task   uint64
	Result *fleetv1.Result
	Event  *fleetv1.Event
	Tick   *fleetv1.TaskProgress
	Reply  *fleetv1.GateReply
}

// Sink takes messages; it must not block.
type Sink func(Message)

// Agent is a connected or recently lost agent.
type Agent struct {
	Hello          *fleetv1.Hello
	Connected      bool
	LastSeen       time.Time
	Tasks, Streams int
}

// Fleet implements FleetService.
type Fleet struct {
	fleetv1.UnimplementedFleetServiceServer
	leases Leases
	name   string
	ttl    time.Duration

	mu      sync.Mutex
	agents  map[string]*member
	tasks   map[uint64]*assignment
	gates   map[uint64]*question // by their ids, until they are answered
	grants  map[string][]*fleetv1.Grant
	legacy  map[string][]*fleetv1.Grant // of a former coordinator, for tasks that may be adopted
	firstID uint64                      // ids below are of former coordinators
	lastID  uint64
	settles *time.Timer // nil once a TTL of this term has passed
	began   time.Time
	changed chan struct{}
	closed  bool
	wg      sync.WaitGroup
}

type member struct {
	hello *fleetv1.Hello
	link  *link // nil: not connected
	seen  time.Time
	lost  *time.Timer
}

// link is one session; its queue is unbounded by nature: tasks are bounded by credits.
type link struct {
	mu    sync.Mutex
	queue []*fleetv1.SessionResponse
	bell  chan struct{}
	gone  chan struct{}
	once  sync.Once
}

// question is a gate request without an answer yet.
type question struct {
	stream  uint64
	request *fleetv1.GateRequest
}

type assignment struct {
	task  *fleetv1.Task
	short bool // task is what is kept of one that has arrived
	agent string
	sink  Sink // nil: nobody has adopted it yet
	// Of a former coordinator's task: what it is, and what was heard of it until somebody adopts it.
	inherited *fleetv1.RunningTask
	heard     []Message
}

// hear passes a message on, or keeps it for who adopts the task.
func (a *assignment) hear(m Message) {
	if a.sink == nil {
		a.heard = append(a.heard, m)
		return
	}
	a.sink(m)
}

// New makes a fleet. ttl is how long an agent may be silent.
func New(name string, l Leases, ttl time.Duration) *Fleet {
	first := uint64(time.Now().UnixMicro()) // ids of a former coordinator must not be taken for ours
	f := &Fleet{leases: l, name: name, ttl: ttl, agents: map[string]*member{}, tasks: map[uint64]*assignment{},
		gates: map[uint64]*question{}, grants: map[string][]*fleetv1.Grant{}, legacy: map[string][]*fleetv1.Grant{}, firstID: first, lastID: first, began: time.Now(), changed: make(chan struct{})}
	f.wg.Add(1)
	f.settles = time.AfterFunc(ttl, f.settle)
	return f
}

// Changed is closed when an agent comes or goes.
func (f *Fleet) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *Fleet) notify() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Close ends every session.
func (f *Fleet) Close() {
	f.mu.Lock()
	f.closed = true
	if f.settles != nil && f.settles.Stop() {
		f.wg.Done()
	}
	for _, m := range f.agents {
		if m.link != nil {
			m.link.end()
		}
		if m.lost != nil && m.lost.Stop() {
			f.wg.Done()
		}
		m.lost = nil
	}
	f.mu.Unlock()
	f.wg.Wait()
}

func (l *link) end() { l.once.Do(func() { close(l.gone) }) }

func (l *link) push(m *fleetv1.SessionResponse) {
	l.mu.Lock()
	l.queue = append(l.queue, m)
	l.mu.Unlock()
	select {
	case l.bell <- struct{}{}:
	default:
	}
}

// Assign gives a task to an agent and returns its id. The sink hears of it until its one result.
func (f *Fleet) Assign(agent string, t *fleetv1.Task, s Sink) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.agents[agent]
	if m == nil || m.link == nil || f.closed {
		return 0, diag.NoAgent.New(agent, nil, "the agent is not connected")
	}
	f.lastID++
	t.Id = f.lastID
	f.tasks[t.Id] = &assignment{task: t, agent: agent, sink: s}
	m.link.push(&fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_Task{Task: t}})
	return t.Id, nil
}

// arrived keeps of a task that its agent surely has what is still needed: its work may name every table. Until then it is
// kept whole, to be sent again. mu is held.
func (a *assignment) arrived() {
	if a.short {
		return
	}
	b := &fleetv1.Task{Id: a.task.Id, Epoch: a.task.Epoch, Pipeline: a.task.Pipeline}
	if a.task.GetStream() != nil {
		b.Work = &fleetv1.Task_Stream{Stream: &fleetv1.StreamTask{}}
	}
	a.task, a.short = b, true
}

// Cancel asks for the end of a task; its result still comes.
func (f *Fleet) Cancel(id uint64, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.tasks[id]; a != nil {
		if m := f.agents[a.agent]; m != nil && m.link != nil {
			m.link.push(cancel(id, reason))
		}
	}
}

// Abandon cancels a task and hears nothing of it any more.
func (f *Fleet) Abandon(id uint64, reason string) {
	f.Cancel(id, reason)
	f.mu.Lock()
	f.forget(id)
	f.mu.Unlock()
}

// forget drops a task and what its gate was asked. mu is held.
func (f *Fleet) forget(id uint64) {
	delete(f.tasks, id)
	maps.DeleteFunc(f.gates, func(_ uint64, q *question) bool { return q.stream == id })
}

func cancel(id uint64, reason string) *fleetv1.SessionResponse {
	return &fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_Cancel{Cancel: &fleetv1.Cancel{Task: id, Reason: reason}}}
}

// Gate sends a request to the gate of a running stream task, once more after every reconnect until the reply has come,
// which carries the id returned.
func (f *Fleet) Gate(stream uint64, r *fleetv1.GateRequest) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.tasks[stream]
	if a == nil || f.agents[a.agent] == nil {
		return 0, diag.NoAgent.New("stream", nil, "it has ended")
	}
	f.lastID++
	r.Id = f.lastID
	f.gates[r.Id] = &question{stream: stream, request: r}
	if l := f.agents[a.agent].link; l != nil { // else when it is back, or its stream is lost
		l.push(gateRequest(r))
	}
	return r.Id, nil
}

func gateRequest(r *fleetv1.GateRequest) *fleetv1.SessionResponse {
	return &fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_GateRequest{GateRequest: r}}
}

// Agents lists all agents known.
func (f *Fleet) Agents() []Agent {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Agent, 0, len(f.agents))
	for name, m := range f.agents {
		a := Agent{Hello: m.hello, Connected: m.link != nil, LastSeen: m.seen}
		for _, t := range f.tasks {
			if t.agent == name {
				a.Tasks++
				if t.task.GetStream() != nil || t.inherited.GetStream() != nil {
					a.Streams++
				}
			}
		}
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b Agent) int { return compare(a.Hello.Agent, b.Hello.Agent) })
	return out
}

func compare(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

// Session serves one agent until it leaves.
func (f *Fleet) Session(s fleetv1.FleetService_SessionServer) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil || hello.Agent == "" {
		return diag.Internal.New("agent", nil, "a session must begin with a hello")
	}
	id, err := f.leases.Open(s.Context(), hello.Agent, max(1, int64(f.ttl/time.Second)))
	if err != nil {
		return err
	}
	l := f.join(hello, id)
	if l == nil {
		return diag.NoCoord.New(f.name, nil, "this coordinator is stopping")
	}
	defer f.wg.Done()
	received := make(chan error, 1)
	go func() { received <- f.receive(s, hello.Agent, id) }()
	err = f.send(s, l, received)
	f.leave(hello.Agent, l)
	// The receiver ends with the stream's context, once this handler returns.
	ctx, done := context.WithTimeout(context.WithoutCancel(s.Context()), time.Second)
	defer done()
	_ = f.leases.Close(ctx, id) // else it ends by itself
	return err
}

func (f *Fleet) send(s fleetv1.FleetService_SessionServer, l *link, received <-chan error) error {
	for {
		l.mu.Lock()
		queue := l.queue
		l.queue = nil
		l.mu.Unlock()
		for _, m := range queue {
			if err := s.Send(m); err != nil {
				return err
			}
		}
		select {
		case <-l.bell:
		case <-l.gone:
			return nil
		case err := <-received:
			if err == io.EOF {
				return nil
			}
			return err
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

// receive dispatches what the agent sends. Silence longer than the TTL ends the session: the agent may be frozen.
func (f *Fleet) receive(s fleetv1.FleetService_SessionServer, agent string, id int64) error {
	watchdog := time.AfterFunc(f.ttl, func() {
		f.mu.Lock()
		if m := f.agents[agent]; m != nil && m.link != nil {
			m.link.end()
		}
		f.mu.Unlock()
	})
	defer watchdog.Stop()
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		watchdog.Reset(f.ttl)
		if m.GetHeartbeat() != nil {
			_ = f.leases.Renew(s.Context(), id) // a lost lease is not a lost agent: it is still talking to us
		}
		f.dispatch(agent, m)
	}
}
