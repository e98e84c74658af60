package stream

import (
	"bytes"
	"context"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// fakeSource sends what a test puts into frames; the rest of sdk.Source is not called.
type fakeSource struct {
	sdk.Source
	frames chan *sdk.Frame

	mu      sync.Mutex
	horizon *rowv1.Coverage
	acked   [][]byte
	from    []byte
	aside   []uint32
	emitted int
	floor   *rowv1.Floor
	end     []byte       // of the log; what is received up to it leaves nothing unread
	sent    atomic.Int64 // pieces of rows that are read again
}

func (s *fakeSource) Position(_ context.Context, req *connectorv1.PositionRequest) (*connectorv1.PositionResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unread := int64(0)
	if bytes.Compare(req.Received, s.end) < 0 {
		unread = 100 << 20
	}
	return &connectorv1.PositionResponse{Horizon: s.horizon, RetainedLogBytes: 7, UnreadLogBytes: unread, Position: s.end}, nil
}

func (s *fakeSource) Stream(ctx context.Context, start *connectorv1.StreamRequest_Start, acks <-chan []byte, emit func(*sdk.Frame) error) error {
	s.mu.Lock()
	s.from, s.aside = start.From, start.Aside
	s.mu.Unlock()
	done := make(chan struct{})
	defer func() { <-done }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(done)
		for {
			select {
			case p := <-acks:
				s.mu.Lock()
				s.acked = append(s.acked, p)
				s.mu.Unlock()
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case f := <-s.frames:
			if err := emit(f); err != nil {
				return err
			}
			s.mu.Lock()
			s.emitted++
			s.mu.Unlock()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pieces are those of a row that is read again as a stream.
const pieces = 50

func (s *fakeSource) Reread(_ context.Context, r *connectorv1.RereadRequest, emit func(*sdk.Frame) error) error {
	s.mu.Lock()
	s.floor = r.Floor
	s.mu.Unlock()
	if err := emit(sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_Reread{Reread: &rowv1.Reread{Table: r.Table.Index, Lane: r.Lane}}}, nil)); err != nil || r.Lane == "" {
		return err
	}
	for range pieces {
		s.sent.Add(1)
		if err := emit(sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkData{ChunkData: &rowv1.ChunkData{}}}, make([]byte, 1<<20))); err != nil {
			return err
		}
	}
	return emit(sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkEnd{ChunkEnd: &rowv1.ChunkEnd{}}}, nil))
}

func (s *fakeSource) see(c *rowv1.Coverage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.horizon = c
}

func (s *fakeSource) lastAck() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.acked) == 0 {
		return nil
	}
	return s.acked[len(s.acked)-1]
}

// fakeSink hands every frame to the test and commits at the end of a round when the test lets it.
type fakeSink struct {
	sdk.Sink
	recovered *connectorv1.RecoverResponse
	got       chan *rowv1.FrameHeader
	permits   chan struct{}
	// ask makes the sink ask for a key before it commits, lane for its row in pieces.
	ask  bool
	lane string
}

func (s *fakeSink) Recover(context.Context, *connectorv1.RecoverRequest) (*connectorv1.RecoverResponse, error) {
	return s.recovered, nil
}

func (s *fakeSink) Apply(ctx context.Context, next func() (*sdk.Frame, error), respond func(*connectorv1.ApplyResponse) error) error {
	for {
		f, err := next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		h := f.Header
		f.Free()
		s.got <- h
		token := h.GetIdle().GetPosition()
		if e := h.GetRoundEnd(); e != nil && !e.Open {
			token = e.Position
		}
		if token == nil {
			continue
		}
		if s.ask {
			s.ask = false
			if err := respond(&connectorv1.ApplyResponse{Kind: &connectorv1.ApplyResponse_Reread{Reread: &connectorv1.RereadNeeded{Table: keyedTable, Lane: s.lane}}}); err != nil {
				return err
			}
			for more := true; more; {
				f, err := next()
				if err != nil {
					return err
				}
				s.got <- f.Header
				more = s.lane != "" && f.Header.GetChunkEnd() == nil
			}
		}
		select {
		case <-s.permits:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := respond(&connectorv1.ApplyResponse{Kind: &connectorv1.ApplyResponse_Committed{Committed: &connectorv1.RoundAck{Position: token}}}); err != nil {
			return err
		}
	}
}

// rig is a stream between the two.
type rig struct {
	*testing.T
	source *fakeSource
	sink   *fakeSink
	stream *Stream
	cancel context.CancelFunc
	done   chan struct{}
	at     []byte
	err    error
	seq    uint64
}

// start runs a stream from position 10; all tables are done unless state says otherwise.
func start(t *testing.T, budget int64, state ...*fleetv1.GateTable) *rig {
	t.Helper()
	r := prepare(t, budget, state...)
	r.run()
	return r
}

func prepare(t *testing.T, budget int64, state ...*fleetv1.GateTable) *rig {
	if state == nil {
		state = []*fleetv1.GateTable{{Table: keyedTable, Done: true}, {Table: unitTable, Done: true}}
	}
	r := &rig{T: t, done: make(chan struct{}),
		source: &fakeSource{frames: make(chan *sdk.Frame, 256), horizon: &rowv1.Coverage{Exact: true, Xmin: 1 << 40, Xmax: 1 << 40}},
		sink: &fakeSink{got: make(chan *rowv1.FrameHeader, 256), permits: make(chan struct{}, 256),
			recovered: &connectorv1.RecoverResponse{Position: pos(10)}}}
	r.stream = New(Task{Pipeline: "p", Epoch: 3, Source: r.source, Sink: r.sink, Budget: budget, Grace: 300 * time.Millisecond,
		Work: &fleetv1.StreamTask{Tables: gateTables, Gate: state, InitialPosition: pos(5)}})
	return r
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		defer close(r.done)
		r.at, r.err = r.stream.Run(ctx)
	}()
	r.Cleanup(func() { r.stop() })
	if h := r.next(); h.GetApplyOpen().GetEpoch() != 3 {
		r.Fatalf("first frame %v", h)
	}
}

func (r *rig) stop() []byte {
	r.cancel()
	<-r.done
	if r.err != nil {
		r.Errorf("stream: %v", r.err)
	}
	return r.at
}

// next is the next frame the sink gets.
func (r *rig) next() *rowv1.FrameHeader {
	r.Helper()
	select {
	case h := <-r.sink.got:
		return h
	case <-time.After(5 * time.Second):
		r.Fatal("the sink gets nothing")
		return nil
	}
}

// silent fails when the sink gets something within a moment.
func (r *rig) silent(why string) {
	r.Helper()
	select {
	case h := <-r.sink.got:
		r.Fatalf("%s, but the sink got %v", why, h)
	case <-time.After(60 * time.Millisecond):
	}
}

func (r *rig) send(h *rowv1.FrameHeader, payload []byte) { r.source.frames <- sdk.NewFrame(h, payload) }

func (r *rig) begin(p int, id uint64, piece uint32) {
	r.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundBegin{RoundBegin: &rowv1.RoundBegin{Seq: r.seq, Piece: piece,
		Positions: pos(p), TxnIds: []uint64{id}, CommitMicros: []int64{int64(p)}}}}, nil)
}

func (r *rig) end(p int, open bool) {
	r.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundEnd{RoundEnd: &rowv1.RoundEnd{Seq: r.seq, Position: pos(p), Open: open}}}, nil)
	if !open {
		r.seq++
	}
}

// rows sends a batch of inserts of single-byte keys, with its layout before it.
func (r *rig) rows(keys string) {
	b := newRoundBuilder()
	defer b.Release()
	for _, k := range []byte(keys) {
		b.add(sdk.OpInsert, 0, int(k), 1, 1, -1)
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	enc, err := arrowio.NewEncoder(modelSchema)
	if err != nil {
		r.Fatal(err)
	}
	msg, err := enc.Batch(rec)
	if err != nil {
		r.Fatal(err)
	}
	r.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_TableSchema{TableSchema: &rowv1.TableSchema{Table: keyedTable}}}, enc.SchemaMessage())
	r.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundBatch{RoundBatch: &rowv1.RoundBatch{Seq: r.seq, Table: keyedTable,
		Rows: uint32(rec.NumRows())}}}, msg)
}

func (r *rig) round(p int, id uint64, keys string) {
	r.begin(p, id, 0)
	r.rows(keys)
	r.end(p, false)
}

func (r *rig) gate(req *fleetv1.GateRequest) *rowv1.Floor {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	reply := r.stream.Handle(ctx, req)
	if reply.Failure != nil {
		r.Fatal(reply.Failure)
	}
	return reply.Floor
}

// eventually waits for a fact.
func (r *rig) eventually(what string, fact func() bool) {
	r.Helper()
	for end := time.Now().Add(5 * time.Second); !fact(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatal("never: " + what)
		}
	}
}
