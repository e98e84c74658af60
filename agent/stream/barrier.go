package stream

import (
	"bytes"
	"context"
	"time"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// A comparison needs the target at a state that a snapshot of the source shows, and no other: the stream is held at a
// floor, the snapshot is taken at or after it, then everything the snapshot includes is released, and nothing else
// (Invariant 19). The target is held there only until somebody has taken a snapshot of it, too.

// holdFor bounds a hold: a coordinator that is gone must not stop the stream.
const holdFor = 30 * time.Second

// barrier is the state of a hold.
type barrier struct {
	// until is when the hold ends by itself; zero: there is none.
	until time.Time
	// coverage is what to release; nil until the snapshot is known, then the floor holds.
	coverage *rowv1.Coverage
	// missed tells why no commit of the target can be that snapshot.
	missed string
}

// hold stops releasing behind everything received and answers it as the floor of a snapshot.
func (s *Stream) hold(ctx context.Context, reply *fleetv1.GateReply) error {
	if _, err := s.horizon(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.barrier = barrier{until: time.Now().Add(holdFor)}
	reply.Floor = s.gate.Hold()
	return nil
}

// resume releases everything again, and tells whether the hold has lasted until now. mu is held.
func (s *Stream) resume() (missed string) {
	if !s.held() {
		return "the hold ended before the target was looked at"
	}
	s.barrier = barrier{}
	s.gate.Unhold()
	return ""
}

// held reports whether a hold lasts; one that is too old ends here. mu is held.
func (s *Stream) held() bool {
	if s.barrier.until.IsZero() {
		return false
	}
	if time.Now().After(s.barrier.until) {
		s.barrier = barrier{}
		s.gate.Unhold()
		return false
	}
	return true
}

// stops reports whether a round must wait behind the barrier. A round is one commit at the target: when the snapshot
// includes one of its transactions but not another, no commit is that snapshot. mu is held.
func (s *Stream) stops(it *item) bool {
	if !s.held() || s.barrier.coverage == nil {
		return false
	}
	included := includedIn(s.barrier.coverage, it.begin)
	if included > 0 && included < len(it.begin.TxnIds) {
		s.barrier.missed = "a commit at the target holds transactions from before and after the snapshot"
	}
	return included < len(it.begin.TxnIds)
}

// aheadOfBarrier is called when a key was read again. It was read as it is now: with a barrier ahead the target may get a
// row that is newer than the snapshot, and is equal to it again only once the stream has come so far. Those of before
// the hold are in the snapshot. mu is held.
func (s *Stream) aheadOfBarrier() {
	if s.held() {
		s.barrier.missed = "a row was read again during the hold: it may be newer than the snapshot"
	}
}

// includedIn counts the transactions of a round that a snapshot includes.
func includedIn(c *rowv1.Coverage, b *rowv1.RoundBegin) int {
	n, width := 0, len(b.Positions)/len(b.TxnIds)
	for i, id := range b.TxnIds {
		if sdk.Includes(c, b.Positions[i*width:(i+1)*width], id) {
			n++
		}
	}
	return n
}

// reach releases exactly what the coverage includes and waits for its commit. It answers the position that the target
// then has, or why there is none.
func (s *Stream) reach(ctx context.Context, c *rowv1.Coverage, reply *fleetv1.GateReply) error {
	if !c.GetExact() {
		reply.Missed = "the snapshot does not tell exactly what it includes"
		return nil
	}
	s.mu.Lock()
	if s.held() {
		s.barrier.coverage = c
		s.gate.Unhold()
	}
	s.mu.Unlock()
	for {
		s.work.ring()
		s.mu.Lock()
		reply.Floor, reply.Missed = s.reached()
		s.mu.Unlock()
		if reply.Floor != nil || reply.Missed != "" {
			return nil
		}
		if !sleep(ctx, pollFast, s.commit.c) {
			return diag.CallCancelled.New("gate", ctx.Err(), "the target had not reached the barrier")
		}
	}
}

// reached tells where the target is held, or why it cannot be; neither while that is not known yet. mu is held.
func (s *Stream) reached() (at *rowv1.Floor, missed string) {
	switch {
	case !s.held():
		return nil, "the hold ended before the target reached the barrier"
	case s.barrier.missed != "":
		return nil, s.barrier.missed
	}
	end := s.barrier.coverage.HighWater
	read := bytes.Compare(s.stats.read, end) >= 0
	waiting, stopped := false, false
	for _, it := range s.queue.items {
		if it.begin == nil {
			continue
		}
		read = read || bytes.Compare(it.last(), end) > 0
		switch stops := s.stops(it); {
		case s.barrier.missed != "":
		case stops:
			stopped = true
		case stopped:
			s.barrier.missed = "the snapshot includes a transaction, but not one that was committed before it"
		default:
			waiting = true // to be released
		}
	}
	if s.barrier.missed != "" {
		return nil, s.barrier.missed
	}
	if waiting || !read || s.feed.busy() {
		return nil, ""
	}
	return &rowv1.Floor{Position: s.feed.committed}, ""
}
