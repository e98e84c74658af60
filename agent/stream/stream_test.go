package stream

import (
	"bytes"
	"context"
	"testing"
	"time"

	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func reserveReq(c ...*fleetv1.GateChunk) *fleetv1.GateRequest {
	return &fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Reserve{Reserve: &fleetv1.Reserve{Chunks: c}}}
}

func writtenReq(c ...*fleetv1.GateChunk) *fleetv1.GateRequest {
	return &fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Written{Written: &fleetv1.Written{Chunks: c}}}
}

// toEnd reads frames up to the end of a round, and returns its begin, its batches and its end.
func (r *rig) toEnd() (b *rowv1.RoundBegin, batches []*rowv1.RoundBatch, e *rowv1.RoundEnd) {
	r.Helper()
	for e == nil {
		h := r.next()
		if x := h.GetRoundBegin(); x != nil {
			b = x
		}
		if x := h.GetRoundBatch(); x != nil {
			batches = append(batches, x)
		}
		e = h.GetRoundEnd()
	}
	return b, batches, e
}

// The target's token wins, and the source hears of a position only after the commit (Invariants 7 and 9).
func TestStream_AcksOnlyWhatTheTargetHasCommitted(t *testing.T) {
	r := start(t, 0)
	r.round(20, 120, "ab")
	_, batches, _ := r.toEnd()
	if len(batches) != 1 || len(batches[0].Drop) > 0 {
		t.Errorf("batches %v", batches)
	}
	time.Sleep(30 * time.Millisecond)
	if r.source.lastAck() != nil {
		t.Fatal("acknowledged before the commit")
	}
	if p := r.stream.Progress(); p.LagMicros == 0 || p.Changes != 0 || !bytes.Equal(p.Applied, pos(10)) {
		t.Errorf("progress before the commit: %v", p)
	}
	r.sink.permits <- struct{}{}
	r.eventually("ack", func() bool { return bytes.Equal(r.source.lastAck(), pos(20)) })
	if p := r.stream.Progress(); p.LagMicros != 0 || p.Changes != 2 || p.AppliedSourceMicros != 20 || p.Rounds != 1 {
		t.Errorf("progress: %v", p)
	}
	if !bytes.Equal(r.source.from, pos(10)) {
		t.Errorf("started from %x, not from the target's token", r.source.from)
	}
	if at := r.stop(); !bytes.Equal(at, pos(20)) {
		t.Errorf("ended at %x", at)
	}
}

// Before the end of the log was compared with what was read, and while nobody knows how old what is unread is, no lag is told; then
// what is unread counts.
func TestProgress_TellsNoLagThatItDoesNotKnow(t *testing.T) {
	r := prepare(t, 0)
	r.source.end = pos(30)
	r.run()
	r.eventually("a first look at the log", func() bool { r.stream.mu.Lock(); defer r.stream.mu.Unlock(); return r.stream.stats.compared })
	if p := r.stream.Progress(); p.LagKnown {
		t.Errorf("nothing was received of %d bytes, and the lag is told: %v", p.ReadLagBytes, p)
	}
	r.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_Idle{Idle: &rowv1.Idle{Position: pos(20), SourceMicros: 1}}}, nil)
	r.eventually("what is unread behind the mark", func() bool { p := r.stream.Progress(); return p.LagKnown && p.ReadLagBytes > 0 && p.LagMicros > 0 })
	r.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_Idle{Idle: &rowv1.Idle{Position: pos(30), SourceMicros: 1}}}, nil)
	r.eventually("the idle mark", func() bool { p := r.stream.Progress(); return p.LagKnown && p.ReadLagBytes == 0 && p.LagMicros == 0 })
	r.source.mu.Lock()
	r.source.end = pos(40)
	r.source.mu.Unlock()
	r.stream.poll.ring()
	r.eventually("what is unread", func() bool {
		p := r.stream.Progress()
		return p.ReadLagBytes > 0 && p.LagMicros == p.ReadLagMicros && p.LagMicros > 0
	})
	r.stop()
}

// Invariant 3: nothing above a floor in flight is released, everything up to it is.
func TestStream_HoldsWhileAChunkIsInFlight(t *testing.T) {
	r := start(t, 0, &fleetv1.GateTable{Table: unitTable, Done: true})
	f := r.gate(reserveReq(chunkOf(0, "", "")))
	if !bytes.Equal(f.Position, pos(10)) {
		t.Fatalf("floor %v", f)
	}
	r.round(20, 120, "abc")
	r.eventually("received", func() bool { return bytes.Equal(r.stream.Progress().Received, pos(20)) })
	r.silent("the round is above the floor")
	r.gate(writtenReq(withCoverage(chunkOf(0, "", ""), sees(15, 110))))
	_, batches, _ := r.toEnd()
	if len(batches) != 1 || batches[0].Drop != nil {
		t.Errorf("batches %v", batches)
	}
}

// Invariant 5: rows are dropped one by one, batches of which nothing is left are not sent.
func TestStream_MarksDroppedRows(t *testing.T) {
	r := start(t, 0, &fleetv1.GateTable{Table: unitTable, Done: true})
	r.gate(reserveReq(chunkOf(0, "", "m")))
	r.gate(writtenReq(withCoverage(chunkOf(0, "", "m"), sees(12, 110))))
	r.begin(20, 120, 0)
	r.rows("zaxbm")
	r.rows("xyz")
	r.end(20, false)
	_, batches, _ := r.toEnd()
	if len(batches) != 1 || len(batches[0].Drop) != 1 || batches[0].Drop[0] != 0b10101 {
		t.Errorf("batches %v", batches)
	}
	r.sink.permits <- struct{}{}
	r.eventually("counts", func() bool { p := r.stream.Progress(); return p.Changes == 2 && p.Dropped == 6 })
}

// Rounds of which nothing is left move the token together, not one commit each.
func TestStream_DroppedRoundsBecomeOneToken(t *testing.T) {
	r := start(t, 0, &fleetv1.GateTable{Table: unitTable, Done: true})
	for i := range 50 {
		r.round(20+i, 120+uint64(i), "abc")
	}
	for {
		h := r.next()
		r.sink.permits <- struct{}{}
		if h.GetRoundBegin() != nil {
			t.Fatal("an empty round was sent")
		}
		if p := h.GetIdle().GetPosition(); bytes.Equal(p, pos(69)) {
			break
		} else if p != nil && bytes.Compare(p, pos(40)) > 0 {
			t.Log("token in between", p)
		}
	}
	r.eventually("ack", func() bool { return bytes.Equal(r.source.lastAck(), pos(69)) })
	if n := len(r.source.acked); n > 3 {
		t.Errorf("%d commits for rounds without rows", n)
	}
}

func TestStream_IdleMarksAreNotACommitEach(t *testing.T) {
	r := start(t, 0)
	for i := range 100 {
		r.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_Idle{Idle: &rowv1.Idle{Position: pos(20 + i), SourceMicros: 5}}}, nil)
		r.sink.permits <- struct{}{}
	}
	r.eventually("last mark", func() bool { return bytes.Equal(r.stream.Progress().Applied, pos(119)) })
	if n := len(r.sink.got); n > 3 {
		t.Errorf("%d tokens for 100 marks", n)
	}
}

// Invariant 4: what is dropped for good must be visible at the source before the token passes it.
func TestStream_WaitsForACommitThatIsNotVisible(t *testing.T) {
	r := prepare(t, 0, &fleetv1.GateTable{Table: unitTable, Done: true})
	r.source.see(sees(30, 130, 120))
	r.run()
	r.gate(reserveReq(chunkOf(0, "", "")))
	r.gate(writtenReq(withCoverage(chunkOf(0, "", ""), sees(12, 110))))
	r.round(20, 120, "a")
	r.silent("its commit waits for a standby")
	r.source.see(sees(30, 130))
	if b, _, _ := r.toEnd(); b == nil {
		t.Error("not released")
	}
}

// Invariant 12: the source waits when the budget is used up; one round larger than it still passes.
func TestStream_BudgetStopsTheSource(t *testing.T) {
	r := start(t, 4000, &fleetv1.GateTable{Table: unitTable, Done: true})
	r.gate(reserveReq(chunkOf(0, "", "")))
	for i := range 40 {
		r.round(20+i, 120+uint64(i), "abcdefgh")
	}
	time.Sleep(50 * time.Millisecond)
	r.source.mu.Lock()
	emitted := r.source.emitted
	r.source.mu.Unlock()
	if held := r.stream.Progress().HeldBytes; emitted > 40 || held > 8000 {
		t.Errorf("%d frames and %d bytes are held", emitted, held)
	}
	for range 40 {
		r.sink.permits <- struct{}{}
	}
	r.gate(writtenReq(withCoverage(chunkOf(0, "", ""), sees(15, 110))))
	for {
		if _, _, e := r.toEnd(); bytes.Equal(e.Position, pos(59)) {
			break
		}
	}
}

func TestStream_PiecesOfALargeTransaction(t *testing.T) {
	r := start(t, 0, &fleetv1.GateTable{Table: unitTable, Done: true})
	r.gate(reserveReq(chunkOf(0, "", "m")))
	r.gate(writtenReq(withCoverage(chunkOf(0, "", "m"), sees(12, 110))))
	for i, keys := range []string{"xyz", "abc", "xyz", "xyz"} { // only the second has rows that are applied
		r.begin(20, 120, uint32(i))
		r.rows(keys)
		r.end(20, i < 3)
		if i == 0 { // the first frame tells the gate: floors lie behind the whole transaction
			r.eventually("received", func() bool { return bytes.Equal(r.stream.Progress().Received, pos(20)) })
		}
	}
	b, batches, e := r.toEnd()
	if b.Piece != 0 || len(batches) != 1 || !e.Open {
		t.Errorf("piece %v with %d batches, end %v", b, len(batches), e)
	}
	b, batches, e = r.toEnd()
	if b.Piece != 1 || len(batches) != 0 || e.Open {
		t.Errorf("last piece %v with %d batches, end %v", b, len(batches), e)
	}
}

// Invariant 14: a stop inside a large transaction rolls it back, and the token stays before it.
func TestStream_StopsInsideALargeTransaction(t *testing.T) {
	r := start(t, 0)
	r.begin(20, 120, 0)
	r.rows("abc")
	r.end(20, true)
	r.toEnd()
	if at := r.stop(); !bytes.Equal(at, pos(10)) {
		t.Errorf("ended at %x", at)
	}
}

// Invariant 14: the round that the sink has is finished when the stream stops.
func TestStream_StopLetsTheSinkFinish(t *testing.T) {
	r := start(t, 0)
	r.round(20, 120, "abc")
	r.toEnd()
	r.cancel()
	time.Sleep(20 * time.Millisecond)
	r.sink.permits <- struct{}{}
	if at := r.stop(); !bytes.Equal(at, pos(20)) {
		t.Errorf("ended at %x", at)
	}
}

// Invariant 8: keys are read again at or after everything received.
func TestStream_RereadHasAFloor(t *testing.T) {
	r := prepare(t, 0)
	r.sink.ask = true
	r.source.see(sees(30, 130, 121))
	r.run()
	r.round(20, 120, "a")
	r.round(21, 121, "b")
	for {
		h := r.next()
		if h.GetReread() != nil {
			break
		}
		if h.GetRoundEnd() != nil && bytes.Equal(h.GetRoundEnd().Position, pos(21)) {
			t.Fatal("the answer did not come first")
		}
	}
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	if f := r.source.floor; bytes.Compare(f.Position, pos(20)) < 0 {
		t.Errorf("floor %v", f)
	}
}

// A row of any size passes piece by piece, before anything else, and no faster than the sink takes it.
func TestStream_ALargeRowIsReadAgainInPieces(t *testing.T) {
	r := prepare(t, 0)
	r.sink.ask, r.sink.lane, r.sink.got = true, "native", make(chan *rowv1.FrameHeader)
	r.run()
	r.round(20, 120, "a")
	r.received(20)
	r.toEnd()
	if h := r.next(); h.GetReread().GetLane() != "native" {
		t.Fatalf("%v instead of the beginning", h)
	}
	time.Sleep(50 * time.Millisecond)
	if n := r.source.sent.Load(); n > 3 {
		t.Errorf("%d pieces were read while nobody took them", n)
	}
	r.round(21, 121, "b")
	for range pieces {
		if h := r.next(); h.GetChunkData() == nil {
			t.Fatalf("%v instead of a piece", h)
		}
	}
	if h := r.next(); h.GetChunkEnd() == nil {
		t.Fatalf("%v instead of the end", h)
	}
	r.sink.permits <- struct{}{}
	if _, _, end := r.toEnd(); !bytes.Equal(end.Position, pos(21)) {
		t.Errorf("after the row: %v", end)
	}
}

// A table may be emptied only when nothing of it is on its way any more.
func TestStream_ResetWaitsForWhatIsUnderWay(t *testing.T) {
	r := start(t, 0)
	r.round(20, 120, "abc")
	r.toEnd()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		r.gate(&fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Reset_{Reset_: &fleetv1.ResetTables{Tables: []uint32{keyedTable}}}})
	}()
	select {
	case <-answered:
		t.Error("answered while rows of the table were under way")
	case <-time.After(60 * time.Millisecond):
	}
	r.sink.permits <- struct{}{}
	<-answered
}

// A truncate is a barrier round: the gate says what of the table it empties.
func TestStream_TruncateIsJudged(t *testing.T) {
	r := start(t, 0, &fleetv1.GateTable{Table: unitTable, Done: true})
	r.gate(reserveReq(chunkOf(0, "", "m")))
	r.gate(writtenReq(withCoverage(chunkOf(0, "", "m"), sees(12, 110))))
	r.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundBegin{RoundBegin: &rowv1.RoundBegin{Positions: pos(20), TxnIds: []uint64{120},
		Truncates: []*rowv1.Truncate{{Table: keyedTable}, {Table: unitTable}}}}}, nil)
	r.end(20, false)
	b, _, _ := r.toEnd()
	if k, u := b.Truncates[0], b.Truncates[1]; k.All || len(k.Ranges) != 1 || string(k.Ranges[0].To) != "m" || !u.All {
		t.Errorf("truncates %v", b.Truncates)
	}
}

func TestStream_DamagedStreamIsAnError(t *testing.T) {
	for name, damage := range map[string]func(r *rig){
		"rows outside a round": func(r *rig) {
			r.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundBatch{RoundBatch: &rowv1.RoundBatch{}}}, nil)
		},
		"position that goes back": func(r *rig) { r.begin(9, 1, 0) },
		"unknown frame":           func(r *rig) { r.send(&rowv1.FrameHeader{}, nil) },
		"batch that is not Arrow": func(r *rig) {
			r.begin(20, 120, 0)
			r.rows("a")
			r.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundBatch{RoundBatch: &rowv1.RoundBatch{Table: keyedTable, Rows: 1}}}, []byte("no"))
			r.end(20, false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := prepare(t, 0, &fleetv1.GateTable{Table: unitTable, Done: true})
			r.sink.permits <- struct{}{}
			damage(r)
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			r.stream.recoverAndReserve(t)
			if _, err := r.stream.Run(ctx); err == nil || ctx.Err() != nil {
				t.Errorf("no error: %v", err)
			}
		})
	}
}

// recoverAndReserve puts a span into the rebuilt gate, so that batches of the table are looked into.
func (s *Stream) recoverAndReserve(t *testing.T) {
	t.Helper()
	c := withCoverage(chunkOf(0, "", ""), sees(12, 110))
	c.Written = true
	s.task.Work.Gate = append(s.task.Work.Gate, &fleetv1.GateTable{Table: keyedTable, Chunks: []*fleetv1.GateChunk{c}})
}

// Of a table that is set aside the source is to read nothing; what comes of it all the same is dropped, and moves the token.
func TestStream_DropsWhatIsSetAside(t *testing.T) {
	r := start(t, 0, &fleetv1.GateTable{Table: keyedTable, Aside: true}, &fleetv1.GateTable{Table: unitTable, Done: true})
	r.round(20, 500, "ab")
	r.sink.permits <- struct{}{}
	for h := r.next(); ; h = r.next() {
		if h.GetTableSchema() != nil {
			continue
		}
		if string(h.GetIdle().GetPosition()) != string(pos(20)) {
			t.Errorf("the sink got %v", h)
		}
		break
	}
	r.eventually("the token moves", func() bool { return string(r.stream.Progress().Applied) == string(pos(20)) })
	if p := r.stream.Progress(); p.OverlappingChunks != 0 || p.Dropped != 2 || len(p.PassedTables) != 0 {
		t.Error(p)
	}
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	if len(r.source.aside) != 1 || r.source.aside[0] != keyedTable {
		t.Errorf("the source is told to leave out %v", r.source.aside)
	}
}
