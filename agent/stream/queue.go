package stream

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// queue holds what came from the source and is not released yet, in order.
type queue struct {
	items []*item
	// complete counts the items that could be released by themselves; bytes is what all of them hold.
	complete int
	bytes    int64
	// open is the item that still grows.
	open *item
}

// item is a piece of a round, or an idle mark, or the layout of a table.
type item struct {
	frames []*sdk.Frame
	begin  *rowv1.RoundBegin
	end    *rowv1.RoundEnd
	idle   *rowv1.Idle
	bytes  int64
	// at is when it came.
	at time.Time
	// hold is the span of a traced round that waits here; nil for the others.
	hold trace.Span
}

// last is the position of the last transaction of the item's round.
func (it *item) last() []byte {
	w := len(it.begin.Positions) / len(it.begin.TxnIds)
	return it.begin.Positions[len(it.begin.Positions)-w:]
}

func (it *item) whole() bool { return it.begin == nil || it.end != nil }

// receive takes a frame from the source. The gate learns of a round with its first frame, before anything
// waits (Invariant 2); then the source waits while the budget is used up (Invariant 12).
func (s *Stream) receive(ctx context.Context, f *sdk.Frame) error {
	s.mu.Lock()
	err := s.queue.push(s.gate, f)
	if err != nil {
		s.mu.Unlock()
		f.Free()
		return err
	}
	s.stats.received(f.Header)
	s.holdTrace(f)
	s.mu.Unlock()
	s.work.ring()
	for !s.hasRoom() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.space.c:
		}
	}
	return nil
}

// hasRoom lets an incomplete round grow beyond the budget when nothing before it could make room.
func (s *Stream) hasRoom() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue.bytes <= s.task.Budget || s.queue.complete == 0
}

func (q *queue) push(g *Gate, f *sdk.Frame) error {
	size := int64(f.Size())
	switch k := f.Header.GetKind().(type) {
	case *rowv1.FrameHeader_RoundBegin:
		if q.open != nil {
			return broken("a round began inside another one")
		}
		if k.RoundBegin.Piece == 0 {
			if err := g.Received(k.RoundBegin.Positions, k.RoundBegin.TxnIds); err != nil {
				return err
			}
		}
		if len(k.RoundBegin.TxnIds) == 0 {
			return broken("a round holds no transaction")
		}
		q.open = &item{begin: k.RoundBegin, at: time.Now()}
		q.items = append(q.items, q.open)
	case *rowv1.FrameHeader_RoundBatch:
		if q.open == nil {
			return broken("rows came outside a round")
		}
	case *rowv1.FrameHeader_TableSchema:
		if q.open == nil {
			q.add(&item{frames: []*sdk.Frame{f}, bytes: size})
			return nil
		}
	case *rowv1.FrameHeader_RoundEnd:
		if q.open == nil {
			return broken("a round ended that never began")
		}
		q.open.end = k.RoundEnd
	case *rowv1.FrameHeader_Idle:
		if q.open != nil {
			return broken("an idle mark came inside a round")
		}
		q.addIdle(k.Idle)
		return nil
	default:
		return broken("a frame of unknown kind")
	}
	it := q.open
	it.frames = append(it.frames, f)
	it.bytes += size
	q.bytes += size
	if it.end != nil {
		q.open = nil
		q.complete++
	}
	return nil
}

func (q *queue) add(it *item) {
	q.items = append(q.items, it)
	q.bytes += it.bytes
	q.complete++
}

// addIdle keeps only the newest of several idle marks in a row.
func (q *queue) addIdle(idle *rowv1.Idle) {
	if n := len(q.items); n > 0 && q.items[n-1].idle != nil {
		q.items[n-1].idle = idle
		return
	}
	q.add(&item{idle: idle})
}

// head is the next item to release, or nil while it is not complete.
func (q *queue) head() *item {
	if len(q.items) == 0 || !q.items[0].whole() {
		return nil
	}
	return q.items[0]
}

func (q *queue) pop() *item {
	it := q.items[0]
	q.items[0] = nil
	q.items = q.items[1:]
	q.bytes -= it.bytes
	q.complete--
	it.endHold()
	return it
}

func (q *queue) free() {
	for _, it := range q.items {
		freeAll(it.frames)
		it.endHold()
	}
	*q = queue{}
}

func freeAll(frames []*sdk.Frame) {
	for _, f := range frames {
		f.Free()
	}
}

func broken(why string) error { return diag.StreamBroken.New("stream", nil, "%s", why) }
