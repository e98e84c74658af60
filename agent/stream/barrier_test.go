package stream

import (
	"bytes"
	"context"
	"testing"
	"time"

	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

var (
	holdReq   = &fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Hold{Hold: &fleetv1.Hold{}}}
	resumeReq = &fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Resume{Resume: &fleetv1.Resume{}}}
)

// barrier asks for a barrier and answers when it is reached or missed.
func (r *rig) barrier(c *rowv1.Coverage) <-chan *fleetv1.GateReply {
	out := make(chan *fleetv1.GateReply, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		out <- r.stream.Handle(ctx, &fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Barrier{Barrier: &fleetv1.Barrier{Coverage: c}}})
	}()
	return out
}

func (r *rig) received(p int) {
	r.eventually("received", func() bool { return bytes.Equal(r.stream.Progress().Received, pos(p)) })
}

// Invariant 19: what the snapshot includes is committed, nothing else, until the stream may go on.
func TestStream_BarrierReleasesExactlyTheSnapshot(t *testing.T) {
	r := start(t, 0)
	if f := r.gate(holdReq); !bytes.Equal(f.Position, pos(10)) {
		t.Fatalf("floor %v", f)
	}
	r.round(20, 120, "a")
	r.round(30, 130, "b")
	r.received(30)
	r.silent("the rounds are above the floor")
	reply := r.barrier(sees(25, 125))
	if b, _, _ := r.toEnd(); !bytes.Equal(b.Positions, pos(20)) {
		t.Fatalf("released %v", b)
	}
	select {
	case a := <-reply:
		t.Fatalf("answered before the commit: %v", a)
	case <-time.After(50 * time.Millisecond):
	}
	r.sink.permits <- struct{}{}
	if a := <-reply; a.Missed != "" || !bytes.Equal(a.Floor.GetPosition(), pos(20)) {
		t.Fatalf("barrier %v", a)
	}
	r.round(40, 119, "c") // committed after the snapshot was taken, whatever its id
	r.received(40)
	r.silent("the target is held")
	if a := r.stream.Handle(t.Context(), resumeReq); a.Missed != "" {
		t.Errorf("missed: %s", a.Missed)
	}
	if b, _, _ := r.toEnd(); !bytes.Equal(b.Positions, pos(30)) {
		t.Errorf("after the hold: %v", b)
	}
}

// A quiet source: there is nothing to release, but that is known only when the log was read so far.
func TestStream_BarrierWaitsUntilTheLogWasRead(t *testing.T) {
	r := start(t, 0)
	r.gate(holdReq)
	reply := r.barrier(sees(25, 125))
	select {
	case a := <-reply:
		t.Fatalf("answered although a transaction may still come: %v", a)
	case <-time.After(50 * time.Millisecond):
	}
	r.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_Idle{Idle: &rowv1.Idle{Position: pos(26)}}}, nil)
	r.sink.permits <- struct{}{}
	if a := <-reply; a.Missed != "" || a.Floor == nil {
		t.Fatalf("barrier %v", a)
	}
}

func TestStream_BarrierIsMissedWhenNoCommitIsTheSnapshot(t *testing.T) {
	t.Run("a round holds both", func(t *testing.T) {
		r := start(t, 0)
		r.gate(holdReq)
		r.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundBegin{RoundBegin: &rowv1.RoundBegin{Positions: append(pos(20), pos(21)...),
			TxnIds: []uint64{120, 130}, CommitMicros: []int64{1, 1}}}}, nil)
		r.rows("ab")
		r.end(21, false)
		missed(r, <-r.barrier(sees(25, 125)))
	})
	t.Run("a hole in the log", func(t *testing.T) {
		r := start(t, 0)
		r.gate(holdReq)
		r.round(20, 120, "a")
		r.round(22, 121, "b")
		r.received(22)
		missed(r, <-r.barrier(sees(25, 125, 120)))
	})
	t.Run("a row is read again", func(t *testing.T) { // it is as new as the moment of the reading, not as the snapshot
		r := prepare(t, 0)
		r.sink.ask = true
		r.run()
		r.gate(holdReq)
		r.round(20, 120, "a")
		r.received(20)
		reply := r.barrier(sees(20, 125))
		r.toEnd()
		if h := r.next(); h.GetReread() == nil {
			t.Fatalf("%v instead of the row", h)
		}
		r.sink.permits <- struct{}{}
		missed(r, <-reply)
	})
	t.Run("inexact", func(t *testing.T) {
		r := start(t, 0)
		r.gate(holdReq)
		missed(r, <-r.barrier(&rowv1.Coverage{Through: pos(20)}))
	})
}

func missed(r *rig, a *fleetv1.GateReply) {
	r.Helper()
	if a.Missed == "" || a.Floor != nil {
		r.Fatalf("not missed: %v", a)
	}
	r.silent("the stream is still held")
	r.stream.Handle(r.Context(), resumeReq)
	r.round(40, 140, "z")
	r.toEnd()
}

// A coordinator that is gone does not stop the stream, and is told so if it comes back.
func TestStream_AHoldEndsByItself(t *testing.T) {
	r := start(t, 0)
	r.gate(holdReq)
	r.round(20, 120, "a")
	r.received(20)
	r.stream.mu.Lock()
	r.stream.barrier.until = time.Now().Add(-time.Second)
	r.stream.mu.Unlock()
	r.toEnd()
	if a := r.stream.Handle(t.Context(), resumeReq); a.Missed == "" {
		t.Error("the hold was over, and nobody heard of it")
	}
	if a := <-r.barrier(sees(25, 125)); a.Missed == "" {
		t.Error("a barrier without a hold")
	}
}
