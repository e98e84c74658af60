package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/fault"
	"github.com/droverdb/drover/internal/stop"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// errHalfRound makes the sink roll back a large transaction whose end will not come.
var errHalfRound = errors.New("stream: stopped inside a transaction")

// feed is what goes to the sink.
type feed struct {
	opened bool
	// out are frames of the piece that is being sent.
	out []*sdk.Frame
	// pieces counts those of the open round that were sent; half: more of it has to follow.
	pieces uint32
	half   bool
	// cur gathers what the next token will cover; inflight is sent and not yet committed.
	cur      sent
	inflight []sent
	// token is a position that no row goes with: rounds that were dropped whole, idle marks.
	token     []byte
	lastToken time.Time
	reread    *connectorv1.RereadNeeded
	// answer is what the source has to say to the last question; only next touches it.
	answer answer
	// committed is durable at the target, released the last position with rows that was sent.
	committed, released []byte
	// blind: the next round waits only to become visible at the source.
	blind bool
}

// sent is what one token covers.
type sent struct {
	position                         []byte
	first, newest                    int64
	rounds, txns, changes, discarded int64
	// bytes of rows that went to the target, and when they went.
	bytes int64
	at    time.Time
	// span and trace are of a traced round; nil and empty for the others.
	span  trace.Span
	trace string
}

// busy reports whether rows or a token are on their way to the target.
func (f *feed) busy() bool { return len(f.inflight) > 0 || f.half || len(f.out) > 0 }

func (f *feed) free() {
	freeAll(f.out)
	f.out = nil
	f.cur.endTrace()
	for _, x := range f.inflight {
		x.endTrace()
	}
}

// next gives the sink its next frame. It blocks until the gate releases one; io.EOF ends the stream at the end of a round.
func (s *Stream) next(ctx context.Context) (*sdk.Frame, error) {
	for {
		if f, err := s.feed.answer.next(ctx); f != nil || err != nil {
			return f, err
		}
		f, reread, err := s.offer(stop.IsDraining(ctx))
		switch {
		case err != nil:
			return nil, err
		case reread != nil:
			return s.readAgain(ctx, reread)
		case f != nil:
			return f, nil
		}
		if !s.await(ctx) {
			return nil, context.Cause(ctx)
		}
	}
}

func (s *Stream) await(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := time.NewTimer(idleEvery)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-stop.Draining(ctx):
	case <-s.work.c:
	case <-t.C:
	}
	return true
}

// offer returns what can be sent now, if anything.
func (s *Stream) offer(draining bool) (*sdk.Frame, *connectorv1.RereadNeeded, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &s.feed
	if !f.opened {
		f.opened = true
		return sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ApplyOpen{ApplyOpen: &rowv1.ApplyOpen{
			Pipeline: s.task.Pipeline, Epoch: s.task.Epoch, Tables: s.task.Work.Tables, Packed: s.task.Work.Packed}}}, nil), nil, nil
	}
	if r := f.reread; r != nil {
		f.reread = nil
		return nil, r, nil
	}
	for len(f.out) == 0 {
		if draining {
			if f.half {
				return nil, nil, errHalfRound
			}
			return nil, nil, io.EOF
		}
		more, err := s.release()
		if err != nil {
			return nil, nil, err
		}
		if !more {
			return s.tokenFrame(), nil, nil
		}
	}
	out := f.out[0]
	f.out[0] = nil
	f.out = f.out[1:]
	return out, nil, nil
}

// tokenFrame moves the token when only the position has moved, and seldom: each is a commit at the target (Invariant 13).
func (s *Stream) tokenFrame() *sdk.Frame {
	f := &s.feed
	if f.token == nil || f.busy() || time.Since(f.lastToken) < idleEvery {
		return nil
	}
	f.lastToken = time.Now()
	idle := &rowv1.Idle{Position: f.token, SourceMicros: f.cur.newest}
	f.send(f.token)
	return sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_Idle{Idle: idle}}, nil)
}

// send notes that what was gathered is on its way, with position as its token.
func (f *feed) send(position []byte) {
	f.cur.position, f.cur.at = position, time.Now()
	f.inflight = append(f.inflight, f.cur)
	f.cur, f.token = sent{}, nil
}

// respond hears from the sink. Order of durability: the target has committed, then the gate and progress hear of it,
// then the source (Invariant 7).
func (s *Stream) respond(r *connectorv1.ApplyResponse) error {
	switch k := r.Kind.(type) {
	case *connectorv1.ApplyResponse_Committed:
		return s.onCommit(k.Committed)
	case *connectorv1.ApplyResponse_Reread:
		s.mu.Lock()
		s.feed.reread = k.Reread
		s.mu.Unlock()
		s.work.ring()
		return nil
	}
	return diag.Internal.New("stream", nil, "the sink answered with something unknown")
}

func (s *Stream) onCommit(ack *connectorv1.RoundAck) error {
	if err := fault.Point("stream.before-ack"); err != nil {
		return err
	}
	s.mu.Lock()
	f := &s.feed
	if bytes.Compare(ack.Position, f.committed) > 0 {
		f.committed = ack.Position
	}
	for len(f.inflight) > 0 && bytes.Compare(f.inflight[0].position, ack.Position) <= 0 {
		s.stats.applied(f.inflight[0])
		if x := f.inflight[0]; s.task.Committed != nil {
			s.task.Committed(Count{Rounds: x.rounds, Transactions: x.txns, Changes: x.changes, Bytes: x.bytes})
		}
		f.inflight[0].endTrace()
		f.inflight = f.inflight[1:]
	}
	s.gate.Committed(f.committed)
	s.acknowledge(f.committed)
	s.mu.Unlock()
	s.work.ring()
	s.commit.ring()
	return fault.Point("stream.after-ack")
}

// acknowledge replaces an ack that the source has not taken yet: only the newest counts. mu is held, so
// there is one sender and it never blocks.
func (s *Stream) acknowledge(position []byte) {
	select {
	case <-s.acks:
	default:
	}
	s.acks <- position
}

// table is for keys that are read again; most streams never need one.
func (s *Stream) table(index uint32) (_ *rowv1.Table, err error) {
	if s.tables == nil {
		if s.tables, err = sdk.NewTables(s.task.Work.Tables, s.task.Work.Packed, nil); err != nil {
			return nil, err
		}
	}
	return s.tables.Table(index)
}
