package agent_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/droverdb/drover/agent"
	"github.com/droverdb/drover/agent/agenttest"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func TestMain(m *testing.M) {
	agenttest.Main()
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/droverdb/drover/plugins/sdk.init.func1.1"))
}

// coordinator is a FleetService that a test drives.
type coordinator struct {
	fleetv1.UnimplementedFleetServiceServer
	hello    chan *fleetv1.Hello
	messages chan *fleetv1.SessionRequest

	mu     sync.Mutex
	last   *fleetv1.Progress
	stream grpc.BidiStreamingServer[fleetv1.SessionRequest, fleetv1.SessionResponse]
	hangUp context.CancelFunc
}

func (c *coordinator) Session(st grpc.BidiStreamingServer[fleetv1.SessionRequest, fleetv1.SessionResponse]) error {
	first, err := st.Recv()
	if err != nil {
		return err
	}
	if err := st.Send(&fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_Welcome{Welcome: &fleetv1.Welcome{Session: 1, HeartbeatMillis: 50, TtlMillis: 60000}}}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(st.Context())
	defer cancel()
	c.mu.Lock()
	c.stream, c.hangUp = st, cancel
	c.mu.Unlock()
	c.hello <- first.GetHello()
	received := make(chan error, 1)
	go func() {
		for {
			m, err := st.Recv()
			if err != nil {
				received <- err
				return
			}
			switch {
			case m.GetProgress() != nil:
				c.mu.Lock()
				c.last = m.GetProgress()
				c.mu.Unlock()
			case m.GetHeartbeat() == nil:
				c.messages <- m
			}
		}
	}()
	select {
	case err := <-received:
		return err
	case <-ctx.Done():
		return errors.New("hung up")
	}
}

func (c *coordinator) send(t *testing.T, m *fleetv1.SessionResponse) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.stream.Send(m); err != nil {
		t.Fatal(err)
	}
}

func (c *coordinator) task(t *testing.T, task *fleetv1.Task) {
	t.Helper()
	c.send(t, &fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_Task{Task: task}})
}

func (c *coordinator) next(t *testing.T) *fleetv1.SessionRequest {
	t.Helper()
	select {
	case m := <-c.messages:
		return m
	case <-time.After(20 * time.Second):
		t.Fatal("nothing arrives")
		return nil
	}
}

func (c *coordinator) result(t *testing.T, id uint64) *fleetv1.Result {
	t.Helper()
	for {
		if r := c.next(t).GetResult(); r != nil && r.Task == id {
			return r
		}
	}
}

func (c *coordinator) await(t *testing.T) *fleetv1.Hello {
	t.Helper()
	select {
	case h := <-c.hello:
		return h
	case <-time.After(20 * time.Second):
		t.Fatal("no agent dials")
		return nil
	}
}

func startCoordinator(t *testing.T) (*coordinator, string) {
	path := filepath.Join(t.TempDir(), "c")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := &coordinator{hello: make(chan *fleetv1.Hello, 8), messages: make(chan *fleetv1.SessionRequest, 1024)}
	s := grpc.NewServer(sdk.ServerOptions()...)
	fleetv1.RegisterFleetServiceServer(s, c)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return c, "unix:" + path
}

func startAgent(t *testing.T, cfg agent.Config) *agent.Agent {
	t.Helper()
	cfg.BuiltIn = []string{agenttest.Name}
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return a
}

func source(options ...string) *fleetv1.Endpoint {
	return agenttest.Endpoint(connectorv1.Role_ROLE_SOURCE, "p", options...)
}

func sink(options ...string) *fleetv1.Endpoint {
	return agenttest.Endpoint(connectorv1.Role_ROLE_SINK, "p", options...)
}

func TestAgent_DoesEveryKindOfTask(t *testing.T) {
	c, address := startCoordinator(t)
	startAgent(t, agent.Config{Name: "a", Coordinator: address})
	if h := c.await(t); h.Agent != "a" || !h.Source || !h.Sink || len(h.Connectors) != 1 {
		t.Fatalf("%v", h)
	}
	for i, task := range []*fleetv1.Task{
		{Source: source(), Work: &fleetv1.Task_Open{Open: &fleetv1.OpenTask{}}},
		{Source: source(), Work: &fleetv1.Task_Check{Check: &connectorv1.CheckRequest{}}},
		{Source: source(), Work: &fleetv1.Task_Discover{Discover: &connectorv1.DiscoverRequest{}}},
		{Source: source(), Work: &fleetv1.Task_Prepare{Prepare: &connectorv1.PrepareRequest{}}},
		{Source: source(), Work: &fleetv1.Task_Split{Split: &connectorv1.SplitRequest{}}},
		{Source: source(), Work: &fleetv1.Task_Position{Position: &connectorv1.PositionRequest{}}},
		{Source: source(), Work: &fleetv1.Task_Release{Release: &connectorv1.ReleaseRequest{}}},
		{Sink: sink(), Work: &fleetv1.Task_Sum{Sum: &connectorv1.SumRequest{}}},
		{Source: source(), Sink: sink(), Work: &fleetv1.Task_Schema{Schema: &connectorv1.ApplySchemaRequest{Steps: []*connectorv1.SchemaStep{{Id: 1}}}}},
		{Source: source(), Sink: sink(), Work: &fleetv1.Task_Recover{Recover: &connectorv1.RecoverRequest{}}},
		{Source: source(), Sink: sink(), Work: &fleetv1.Task_Reset_{Reset_: &connectorv1.ResetRequest{}}},
		{Source: source(), Sink: sink(), Work: &fleetv1.Task_Load{Load: oneChunk()}},
	} {
		task.Id, task.Pipeline = uint64(i+1), "p"
		c.task(t, task)
		r := c.result(t, task.Id)
		if r.Failure != nil || r.Outcome == nil {
			t.Errorf("%T: %v", task.Work, r.Failure)
		}
	}
}

func oneChunk() *fleetv1.LoadTask {
	return &fleetv1.LoadTask{Chunks: []*rowv1.Chunk{{Id: sdk.ChunkID(1, 1)}}}
}

// progress waits until a running task reports what is wanted.
func (c *coordinator) progress(t *testing.T, wanted func(*fleetv1.TaskProgress) bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c.mu.Lock()
		last := c.last
		c.mu.Unlock()
		if slices.ContainsFunc(last.GetTasks(), wanted) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the last report is %v", last)
		}
	}
}

// A task that stands says what it waits for, as long as it is so, and says when it is over.
func TestAgent_TellsWhatATaskWaitsFor(t *testing.T) {
	c, address := startCoordinator(t)
	startAgent(t, agent.Config{Name: "a", Coordinator: address})
	c.await(t)
	file := filepath.Join(t.TempDir(), "blockers")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("pid-7 pid-8")
	c.task(t, &fleetv1.Task{Id: 3, Pipeline: "p", Source: source("block=1", "blockers="+file), Work: &fleetv1.Task_Check{Check: &connectorv1.CheckRequest{}}})
	c.progress(t, func(p *fleetv1.TaskProgress) bool { return p.Task == 3 && p.Waiting == "pid-7; pid-8" })
	write("")
	c.progress(t, func(p *fleetv1.TaskProgress) bool { return p.Task == 3 && p.Waiting == "" })
	c.send(t, &fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_Cancel{Cancel: &fleetv1.Cancel{Task: 3}}})
	c.result(t, 3)
}

func TestAgent_HoldsASnapshotUntilCancelled(t *testing.T) {
	c, address := startCoordinator(t)
	startAgent(t, agent.Config{Name: "a", Coordinator: address})
	c.await(t)
	c.task(t, &fleetv1.Task{Id: 1, Pipeline: "p", Source: source(), Work: &fleetv1.Task_Snapshot{Snapshot: &connectorv1.OpenSnapshotRequest{}}})
	if s := c.next(t).GetEvent().GetSnapshot(); s.GetSnapshot() != "s1" {
		t.Fatalf("%v", s)
	}
	c.send(t, &fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_Cancel{Cancel: &fleetv1.Cancel{Task: 1}}})
	if r := c.result(t, 1); r.Failure != nil {
		t.Fatal(r.Failure)
	}
}

func TestAgent_GoesOnWithoutALinkAndReportsAfterwards(t *testing.T) {
	c, address := startCoordinator(t)
	startAgent(t, agent.Config{Name: "a", Coordinator: address})
	c.await(t)
	blocked := &fleetv1.Task{Id: 7, Epoch: 2, Pipeline: "p", Source: source("block=1"), Work: &fleetv1.Task_Check{Check: &connectorv1.CheckRequest{}}}
	c.task(t, blocked)
	c.task(t, &fleetv1.Task{Id: 8, Pipeline: "p", Source: source("fail=1"), Work: &fleetv1.Task_Check{Check: &connectorv1.CheckRequest{}}})
	if f := c.result(t, 8).Failure; f.GetCode() != diag.WalLevel.ID || len(f.Fix) != 2 || f.Class != fleetv1.FailureClass_FAILURE_CLASS_FATAL {
		t.Fatalf("%v", f)
	}
	c.mu.Lock()
	c.hangUp()
	c.mu.Unlock()
	if h := c.await(t); !slices.Equal(h.Running, []uint64{7, 8}) { // 8 has ended, its result is still to come
		t.Fatalf("after the reconnect the agent answers for %v", h.Running)
	}
	if r := c.result(t, 8); r.Failure.GetCode() != diag.WalLevel.ID { // not surely delivered, so sent again
		t.Fatalf("%v", r)
	}
	c.task(t, blocked) // running already: not started twice
	c.send(t, &fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_Cancel{Cancel: &fleetv1.Cancel{Task: 7, Reason: "enough"}}})
	if r := c.result(t, 7); r.Epoch != 2 || r.Failure.GetCode() != diag.CallCancelled.ID {
		t.Fatalf("%v", r)
	}
}

func TestAgent_StreamsAndAnswersTheGate(t *testing.T) {
	c, address := startCoordinator(t)
	startAgent(t, agent.Config{Name: "a", Coordinator: address})
	c.await(t)
	gate := &fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_GateRequest{GateRequest: &fleetv1.GateRequest{Id: 1, Pipeline: "p",
		Kind: &fleetv1.GateRequest_Reserve{Reserve: &fleetv1.Reserve{}}}}}
	c.send(t, gate)
	if g := c.next(t).GetGateReply(); g.GetFailure().GetCode() != diag.NoAgent.ID {
		t.Fatalf("gate without a stream: %v", g)
	}
	c.task(t, &fleetv1.Task{Id: 1, Epoch: 1, Pipeline: "p", Source: source(), Sink: sink(),
		Work: &fleetv1.Task_Stream{Stream: &fleetv1.StreamTask{InitialPosition: make([]byte, 8)}}})
	if c.next(t).GetEvent().GetStreamStarted() == nil {
		t.Fatal("the stream does not start")
	}
	c.send(t, gate)
	if g := c.next(t).GetGateReply(); g.GetFloor() == nil {
		t.Fatalf("%v", g)
	}
	c.send(t, &fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_Cancel{Cancel: &fleetv1.Cancel{Task: 1}}})
	if r := c.result(t, 1); r.GetStream() == nil {
		t.Fatalf("%v", r)
	}
}

// A request that comes again after a reconnect is not handled again; its reply, which may have been lost, is sent again.
func TestAgent_AnswersAGateRequestOnceAndTheAnswerArrives(t *testing.T) {
	c, address := startCoordinator(t)
	startAgent(t, agent.Config{Name: "a", Coordinator: address})
	process := c.await(t).Process
	c.task(t, &fleetv1.Task{Id: 1, Epoch: 1, Pipeline: "p", Source: source(), Sink: sink(),
		Work: &fleetv1.Task_Stream{Stream: &fleetv1.StreamTask{InitialPosition: make([]byte, 8)}}})
	if c.next(t).GetEvent().GetStreamStarted() == nil {
		t.Fatal("the stream does not start")
	}
	ask := func(id uint64) {
		c.send(t, &fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_GateRequest{GateRequest: &fleetv1.GateRequest{Id: id, Pipeline: "p",
			Kind: &fleetv1.GateRequest_Reserve{Reserve: &fleetv1.Reserve{}}}}})
	}
	ask(5)
	if g := c.next(t).GetGateReply(); g.GetId() != 5 {
		t.Fatalf("%v", g)
	}
	c.mu.Lock()
	c.hangUp()
	c.mu.Unlock()
	if again := c.await(t).Process; process == "" || again != process {
		t.Fatalf("process %q says that it is %q", process, again)
	}
	ask(5)
	ask(6)
	var replies []uint64
	for len(replies) == 0 || replies[len(replies)-1] != 6 {
		if g := c.next(t).GetGateReply(); g != nil {
			replies = append(replies, g.Id)
		}
	}
	if !slices.Equal(replies, []uint64{5, 6}) {
		t.Errorf("replies %v", replies)
	}
	c.send(t, &fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_Cancel{Cancel: &fleetv1.Cancel{Task: 1}}})
	c.result(t, 1)
}

func TestAgent_PlaintextStaysOnThisMachine(t *testing.T) {
	_, address := startCoordinator(t)
	for _, cfg := range []agent.Config{
		{Coordinator: "192.0.2.1:7000"},
		{Coordinator: address, TransferListen: "0.0.0.0:0"},
	} {
		_, err := agent.New(cfg)
		if e := diag.Find(err); e == nil || e.Code.ID != diag.TLSRequired.ID {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
