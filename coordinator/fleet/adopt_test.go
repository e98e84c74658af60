package fleet

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type noLeases struct{}

func (noLeases) Open(context.Context, string, int64) (int64, error) { return 1, nil }
func (noLeases) Renew(context.Context, int64) error                 { return nil }
func (noLeases) Close(context.Context, int64) error                 { return nil }

// agent is the agent's end of a session.
type agent struct {
	grpc.ServerStream
	ctx context.Context
	in  chan *fleetv1.SessionRequest
	out chan *fleetv1.SessionResponse
	// leave ends the session.
	leave func()
}

func (a *agent) Context() context.Context { return a.ctx }
func (a *agent) Send(m *fleetv1.SessionResponse) error {
	a.out <- m
	return nil
}
func (a *agent) Recv() (*fleetv1.SessionRequest, error) {
	select {
	case m := <-a.in:
		return m, nil
	case <-a.ctx.Done():
		return nil, io.EOF
	}
}

// join starts a session; it has ended when the test ends.
func join(t *testing.T, f *Fleet, h *fleetv1.Hello) *agent {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a := &agent{ctx: ctx, in: make(chan *fleetv1.SessionRequest, 1), out: make(chan *fleetv1.SessionResponse, 64)}
	a.in <- &fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Hello{Hello: h}}
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.Session(a) })
	wg.Go(func() { // who is silent for a TTL is lost
		for ctx.Err() == nil {
			select {
			case a.in <- &fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Heartbeat{Heartbeat: &fleetv1.Heartbeat{}}}:
				time.Sleep(100 * time.Millisecond)
			case <-ctx.Done():
			}
		}
	})
	a.leave = func() { cancel(); wg.Wait() }
	t.Cleanup(a.leave)
	return a
}

// cancelled waits for the cancellation of a task.
func (a *agent) cancelled(t *testing.T, id uint64) {
	t.Helper()
	for {
		select {
		case m := <-a.out:
			if m.GetCancel().GetTask() == id {
				return
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("task %d is not cancelled", id)
		}
	}
}

func running(id uint64) *fleetv1.Hello {
	return &fleetv1.Hello{Agent: "a", Running: []uint64{id}, Tasks: []*fleetv1.RunningTask{
		{Task: id, Epoch: 5, Pipeline: "p", Work: &fleetv1.RunningTask_Load{Load: &fleetv1.RunningLoad{Chunks: []uint64{1}}}}}}
}

func inherited(t *testing.T, f *Fleet) Inherited {
	t.Helper()
	for range 1000 {
		if all := f.Inherited("p"); len(all) == 1 {
			return all[0]
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("nothing is inherited")
	return Inherited{}
}

// What is reported between the agent's return and the adoption is not lost.
func TestAdopt_HearsWhatWasReportedBefore(t *testing.T) {
	f := New("c", noLeases{}, time.Minute)
	t.Cleanup(f.Close)
	a := join(t, f, running(7))
	if x := inherited(t, f); x.Agent != "a" || x.Task.Task != 7 {
		t.Fatal(x)
	}
	a.in <- &fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Result{Result: &fleetv1.Result{Task: 7, Epoch: 4}}} // of another epoch
	a.in <- &fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Result{Result: &fleetv1.Result{Task: 7, Epoch: 5}}}
	time.Sleep(50 * time.Millisecond)
	heard := make(chan Message, 4)
	if err := f.Adopt(7, func(m Message) { heard <- m }); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-heard:
		if m.Result.GetEpoch() != 5 {
			t.Fatal(m)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the result is lost")
	}
	if err := f.Adopt(7, func(Message) {}); err == nil {
		t.Error("a task was adopted twice")
	}
}

// What nobody adopts is cancelled once the term has settled, and at once after that.
func TestAdopt_NobodysTasksEnd(t *testing.T) {
	f := New("c", noLeases{}, time.Second)
	t.Cleanup(f.Close)
	join(t, f, running(7)).cancelled(t, 7)
	if time.Now().Before(f.Settles()) {
		t.Error("it was cancelled before others could have come back")
	}
	late := running(8)
	late.Agent = "b"
	join(t, f, late).cancelled(t, 8)
	if n := len(f.Inherited("p")); n != 0 {
		t.Errorf("%d tasks still wait", n)
	}
}
