package stream

import (
	"bytes"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

type layoutKey struct{ table, version uint32 }

// layout is a table's round layout as the source announced it.
type layout struct {
	message []byte
	dec     *arrowio.Decoder
}

// judge looks into batches of tables that are not done.
type judge struct {
	layouts map[layoutKey]*layout
}

func (j *judge) release() {
	for _, l := range j.layouts {
		if l.dec != nil {
			l.dec.Release()
		}
	}
	j.layouts = nil
}

func (j *judge) learn(f *sdk.Frame) {
	t := f.Header.GetTableSchema()
	key := layoutKey{t.Table, t.Version}
	if old := j.layouts[key]; old != nil && old.dec != nil {
		old.dec.Release()
	}
	j.layouts[key] = &layout{message: bytes.Clone(f.Bytes())}
}

// release moves the next item towards the sink if the gate lets it; false: nothing can be released now. mu is held.
func (s *Stream) release() (bool, error) {
	f := &s.feed
	f.blind = false
	it := s.queue.head()
	if it == nil {
		return false, nil
	}
	s.held() // a hold that is too old ends here
	if it.begin != nil && !s.gate.Releasable(it.last()) {
		if lim := s.gate.Limit(); lim == nil || below(it.last(), lim, s.gate.start) {
			f.blind = true
			s.poll.ring()
		}
		return false, nil
	}
	if it.begin != nil && s.stops(it) {
		return false, nil
	}
	switch {
	case it.idle != nil:
		f.token, f.cur.newest = it.idle.Position, it.idle.SourceMicros
	case it.begin == nil:
		s.judge.learn(it.frames[0])
		f.out = it.frames
	default:
		if err := s.releaseRound(it); err != nil {
			return false, err
		}
	}
	s.queue.pop()
	s.space.ring()
	return true, nil
}

// releaseRound judges a piece and sends what is left of it. A round of which nothing is left only moves the token.
func (s *Stream) releaseRound(it *item) error {
	f := &s.feed
	live, schemas, err := s.strip(it)
	if err != nil {
		return err
	}
	if it.begin.Piece == 0 {
		f.cur.rounds++
		f.cur.txns += int64(len(it.begin.TxnIds))
		if f.cur.first == 0 && len(it.begin.CommitMicros) > 0 {
			f.cur.first = it.begin.CommitMicros[0]
		}
	}
	if n := len(it.begin.CommitMicros); n > 0 {
		f.cur.newest = it.begin.CommitMicros[n-1]
	}
	last := !it.end.Open
	switch {
	case live || f.half && last:
		s.releaseTrace(it.frames[0])
		it.begin.Piece = f.pieces
		f.pieces++
		f.half = !last
		f.cur.bytes += it.bytes
		f.out, f.released = it.frames, it.end.Position
		if last {
			f.pieces = 0
			f.send(it.end.Position)
		}
	default:
		f.out = schemas
		it.frames[0].Free()
		it.frames[len(it.frames)-1].Free()
		if last {
			f.token = it.end.Position
		}
	}
	return nil
}

// strip sets the drop bitmaps of a piece, takes batches out of which nothing is left, and reports whether anything is.
// it.frames keeps begin, layouts, batches and end in order.
func (s *Stream) strip(it *item) (live bool, schemas []*sdk.Frame, err error) {
	kept := it.frames[:0]
	for _, t := range it.begin.Truncates {
		n := len(it.begin.TxnIds) - 1
		t.Ranges, t.All = s.gate.Truncate(t.Table, it.last(), it.begin.TxnIds[n])
		live = live || t.All || len(t.Ranges) > 0
	}
	for i, f := range it.frames {
		switch k := f.Header.Kind.(type) {
		case *rowv1.FrameHeader_TableSchema:
			s.judge.learn(f)
			schemas = append(schemas, f)
		case *rowv1.FrameHeader_RoundBatch:
			dropped, err := s.mark(it.begin, k.RoundBatch, f)
			if err != nil {
				it.frames = append(kept, it.frames[i:]...)
				return false, nil, err
			}
			s.feed.cur.changes += int64(k.RoundBatch.Rows) - int64(dropped)
			s.feed.cur.discarded += int64(dropped)
			if dropped == int(k.RoundBatch.Rows) {
				f.Free()
				continue
			}
			live = true
		}
		kept = append(kept, f)
	}
	clear(it.frames[len(kept):])
	it.frames = kept
	return live, schemas, nil
}

// mark sets the drop bitmap of a batch and returns how many rows it drops. Only batches of tables that are
// not done are looked into.
func (s *Stream) mark(b *rowv1.RoundBegin, h *rowv1.RoundBatch, f *sdk.Frame) (int, error) {
	h.Drop = nil
	t := s.gate.tables[h.Table]
	if t == nil {
		return 0, broken("rows of a table that the pipeline does not have")
	}
	if t.done {
		return 0, nil
	}
	if t.unit == nil && len(t.spans) == 0 {
		return int(h.Rows), nil // no floor anywhere: nothing of it is at the target
	}
	rec, err := s.judge.decode(h, f.Bytes())
	if err != nil {
		return 0, err
	}
	defer rec.Release()
	txn, ok1 := rec.Column(1).(*array.Uint32)
	keys, ok2 := rec.Column(2).(*array.Binary)
	if !ok1 || !ok2 || rec.NumRows() != int64(h.Rows) {
		return 0, broken("a batch does not have the layout of a round")
	}
	drop, dropped, err := t.judgeRows(b, txn.Uint32Values(), keys)
	if dropped > 0 {
		h.Drop = drop
	}
	return dropped, err
}

func (j *judge) decode(h *rowv1.RoundBatch, payload []byte) (arrow.RecordBatch, error) {
	l := j.layouts[layoutKey{h.Table, h.SchemaVersion}]
	if l == nil {
		return nil, broken("rows came before the layout of their table")
	}
	if l.dec == nil {
		dec, err := arrowio.NewDecoder(l.message)
		if err != nil {
			return nil, diag.StreamBroken.New("stream", err, "a table's layout cannot be read")
		}
		l.dec = dec
	}
	rec, err := l.dec.Decode(payload)
	if err != nil {
		return nil, diag.StreamBroken.New("stream", err, "a batch cannot be read")
	}
	if rec.NumCols() < sdk.RoundColumns {
		rec.Release()
		return nil, broken("a batch does not have the layout of a round")
	}
	return rec, nil
}

// judgeRows makes the drop bitmap of a batch: one allocation, whatever the number of rows.
func (t *gateTable) judgeRows(b *rowv1.RoundBegin, txn []uint32, keys *array.Binary) ([]byte, int, error) {
	drop := make([]byte, (len(txn)+7)/8)
	width := len(b.Positions) / len(b.TxnIds)
	n := 0
	for i, x := range txn {
		if int(x) >= len(b.TxnIds) {
			return nil, 0, broken("a row names a transaction that its round does not have")
		}
		if t.drops(keys.Value(i), b.Positions[int(x)*width:int(x+1)*width], b.TxnIds[x]) {
			drop[i>>3] |= 1 << (i & 7)
			n++
		}
	}
	return drop, n, nil
}
