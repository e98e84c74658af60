package fleet

import (
	"testing"
	"time"

	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// next waits for a message that is asked for.
func next[M any](t *testing.T, from <-chan M, wanted func(M) bool) M {
	t.Helper()
	for end := time.After(10 * time.Second); ; {
		select {
		case m := <-from:
			if wanted(m) {
				return m
			}
		case <-end:
			t.Fatal("it does not come")
		}
	}
}

func isTask(id uint64) func(*fleetv1.SessionResponse) bool {
	return func(m *fleetv1.SessionResponse) bool { return m.GetTask().GetId() == id }
}

func isGate(id uint64) func(*fleetv1.SessionResponse) bool {
	return func(m *fleetv1.SessionResponse) bool { return m.GetGateRequest().GetId() == id }
}

// lossy is a fleet with one agent that streams, and what the stream's owner hears.
func lossy(t *testing.T) (f *Fleet, a *agent, stream uint64, heard chan Message) {
	t.Helper()
	f = New("c", noLeases{}, time.Minute)
	t.Cleanup(f.Close)
	a, heard = join(t, f, &fleetv1.Hello{Agent: "a", Process: "one"}), make(chan Message, 16)
	for range 1000 {
		var err error
		if stream, err = f.Assign("a", &fleetv1.Task{Epoch: 3, Work: &fleetv1.Task_Stream{}}, func(m Message) { heard <- m }); err == nil {
			next(t, a.out, isTask(stream))
			return f, a, stream, heard
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the agent does not come")
	return nil, nil, 0, nil
}

// A gate request or its reply that is lost with a session: it is asked again until the reply has come, and heard once.
func TestGate_IsAskedAgainUntilItIsAnswered(t *testing.T) {
	f, a, stream, heard := lossy(t)
	one, err := f.Gate(stream, &fleetv1.GateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next(t, a.out, isGate(one))
	a.leave()
	two, err := f.Gate(stream, &fleetv1.GateRequest{}) // while nobody is there
	if err != nil {
		t.Fatal(err)
	}
	a = join(t, f, &fleetv1.Hello{Agent: "a", Process: "one", Running: []uint64{stream}})
	next(t, a.out, isGate(one)) // in their order
	next(t, a.out, isGate(two))
	for range 2 { // as the agent does not know that the first reply arrived
		a.in <- &fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_GateReply{GateReply: &fleetv1.GateReply{Id: one}}}
	}
	a.in <- &fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_GateReply{GateReply: &fleetv1.GateReply{Id: two}}}
	for _, id := range []uint64{one, two} {
		if m := next(t, heard, func(Message) bool { return true }); m.Reply.GetId() != id {
			t.Fatalf("%v instead of the reply to %d", m, id)
		}
	}
	a.leave()
	a = join(t, f, &fleetv1.Hello{Agent: "a", Process: "one", Running: []uint64{stream}})
	three, err := f.Gate(stream, &fleetv1.GateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if m := next(t, a.out, func(m *fleetv1.SessionResponse) bool { return m.GetGateRequest() != nil }); m.GetGateRequest().Id != three {
		t.Errorf("%v is asked again although it was answered", m)
	}
	f.Abandon(stream, "enough")
	if n := len(f.gates); n != 0 {
		t.Errorf("%d requests are kept for a stream that is gone", n)
	}
}

// A task that an agent has never received is sent to it again; what another process under its name had is lost.
func TestAssign_WhatIsLostIsSentAgainToTheSameProcess(t *testing.T) {
	f, a, stream, heard := lossy(t)
	a.leave()
	a = join(t, f, &fleetv1.Hello{Agent: "a", Process: "one"})
	if m := next(t, a.out, isTask(stream)); m.GetTask().Epoch != 3 {
		t.Errorf("another task: %v", m)
	}
	a.leave()
	join(t, f, &fleetv1.Hello{Agent: "a", Process: "two"})
	if m := next(t, heard, func(Message) bool { return true }); m.Result.GetFailure() == nil {
		t.Errorf("%v instead of a failure", m)
	}
}
