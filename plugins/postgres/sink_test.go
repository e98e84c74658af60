package postgres

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/zeebo/xxh3"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const testPipeline = "p1"

// openSink opens a sink on a fresh database that has run sql.
func openSink(t testing.TB, url string) *Sink {
	t.Helper()
	s := NewSink()
	_, err := s.Open(t.Context(), &connectorv1.OpenRequest{Role: connectorv1.Role_ROLE_SINK, Url: url, Pipeline: testPipeline})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func recovered(t testing.TB, s *Sink, epoch uint64, initial []byte) *connectorv1.RecoverResponse {
	t.Helper()
	r, err := s.Recover(t.Context(), &connectorv1.RecoverRequest{Pipeline: testPipeline, Epoch: epoch, Create: true, InitialPosition: initial})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantCode(t testing.TB, err error, code diag.Code) {
	t.Helper()
	if e := diag.Find(err); e == nil || e.Code.ID != code.ID {
		t.Fatalf("error %v, want %s %s", err, code.ID, code.Title)
	}
}

// testTable describes a table at the target: "name type" pairs; the first keys columns are the key.
func testTable(index uint32, name string, keys int, cols ...string) *rowv1.Table {
	ref := &rowv1.TableRef{Schema: "public", Name: name}
	t := &rowv1.Table{Index: index, Source: ref, Target: ref, Lane: sdk.LanePGCopyBinary, Gate: rowv1.GateMode_GATE_MODE_KEYED}
	oids := map[string]uint32{"int4": 23, "int8": 20, "text": 25, "_int4": 1007, "varchar": 1043, "json": 114, "numeric": 1700}
	for i, c := range cols {
		n, typ, _ := strings.Cut(c, " ")
		t.Columns = append(t.Columns, &rowv1.Column{Name: n, NativeType: typ, NativeId: oids[typ], Nullable: i >= keys})
		if i < keys {
			t.Key = append(t.Key, uint32(i))
		}
	}
	if keys == 0 {
		t.Gate = rowv1.GateMode_GATE_MODE_UNIT_FULL_ROW
	}
	return t
}

// frames returns a next function over frames; at the end it waits for ctx when hold is set.
func frames(fs ...*sdk.Frame) func() (*sdk.Frame, error) {
	i := 0
	return func() (*sdk.Frame, error) {
		if i == len(fs) {
			return nil, io.EOF
		}
		i++
		return fs[i-1], nil
	}
}

// copyBytes is what COPY says in binary, without header and trailer.
func copyBytes(t testing.TB, url, query string) []byte {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var b bytes.Buffer
	if _, err := conn.PgConn().CopyTo(t.Context(), &b, "COPY ("+query+") TO STDOUT (FORMAT binary)"); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()[19 : b.Len()-2]
}

func writeOpenFrame(epoch uint64, tables []*rowv1.Table, chunks ...*rowv1.Chunk) *sdk.Frame {
	return sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_WriteOpen{WriteOpen: &rowv1.WriteOpen{
		Pipeline: testPipeline, Epoch: epoch, Chunks: chunks, Tables: tables}}}, nil)
}

// chunkFrames carry one chunk, its payload cut into pieces.
func chunkFrames(table *rowv1.Table, id uint64, rows int64, payload []byte, lane string) []*sdk.Frame {
	fs := []*sdk.Frame{sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkBegin{ChunkBegin: &rowv1.ChunkBegin{
		Chunk: id, Table: table.Index, Lane: lane}}}, nil)}
	for at := 0; at < len(payload); at += 1000 {
		fs = append(fs, sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkData{ChunkData: &rowv1.ChunkData{Chunk: id}}},
			bytes.Clone(payload[at:min(at+1000, len(payload))])))
	}
	res := &rowv1.ChunkResult{Chunk: id, Rows: rows, Bytes: int64(len(payload)), Digest: xxh3.Hash(payload), RowSum: make([]byte, 16),
		Coverage: &rowv1.Coverage{Exact: true, Xmin: 7, Xmax: 9, HighWater: position(5, 5)}}
	return append(fs, sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkEnd{ChunkEnd: &rowv1.ChunkEnd{Result: res}}}, nil))
}

// stream is one Apply call of a test.
type stream struct {
	t      testing.TB
	in     chan *sdk.Frame
	out    chan *connectorv1.ApplyResponse
	done   chan error
	native string
	seq    uint64
	piece  uint32
	enc    map[uint32]*arrowio.Encoder
	tables []*rowv1.Table
}

func applyStream(t testing.TB, s *Sink, epoch uint64, native string, tables ...*rowv1.Table) *stream {
	t.Helper()
	st := &stream{t: t, in: make(chan *sdk.Frame), out: make(chan *connectorv1.ApplyResponse, 100), done: make(chan error, 1),
		native: native, enc: map[uint32]*arrowio.Encoder{}, tables: tables}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() {
		st.done <- s.Apply(ctx, func() (*sdk.Frame, error) {
			select {
			case f, ok := <-st.in:
				if !ok {
					return nil, io.EOF
				}
				return f, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}, func(r *connectorv1.ApplyResponse) error { st.out <- r; return nil })
		cancel()
	}()
	st.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ApplyOpen{ApplyOpen: &rowv1.ApplyOpen{Pipeline: testPipeline, Epoch: epoch, Tables: tables}}}, nil)
	for _, tb := range tables {
		enc, err := arrowio.NewEncoder(layoutOf(tb, native))
		if err != nil {
			t.Fatal(err)
		}
		st.enc[tb.Index] = enc
		st.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_TableSchema{TableSchema: &rowv1.TableSchema{Table: tb.Index, Version: 1, Columns: tb.Columns}}},
			bytes.Clone(enc.SchemaMessage()))
	}
	return st
}

func (st *stream) send(h *rowv1.FrameHeader, payload []byte) {
	select {
	case st.in <- sdk.NewFrame(h, payload):
	case err := <-st.done:
		st.done <- err
	case <-time.After(20 * time.Second):
		st.t.Fatal("the sink takes no frame")
	}
}

func (st *stream) begin(pos uint64, trunc ...*rowv1.Truncate) {
	if st.piece == 0 {
		st.seq++
	}
	st.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundBegin{RoundBegin: &rowv1.RoundBegin{Seq: st.seq, Piece: st.piece,
		Positions: position(pos, pos), TxnIds: []uint64{pos}, CommitMicros: []int64{1}, Truncates: trunc}}}, nil)
}

func (st *stream) batch(tb *rowv1.Table, drop []byte, rows ...change) {
	rec := record(tb, st.native, rows)
	defer rec.Release()
	payload, err := st.enc[tb.Index].Batch(rec)
	if err != nil {
		st.t.Fatal(err)
	}
	st.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundBatch{RoundBatch: &rowv1.RoundBatch{Seq: st.seq, Table: tb.Index, SchemaVersion: 1,
		Rows: uint32(len(rows)), Drop: drop}}}, payload)
}

func (st *stream) end(pos uint64, open bool) {
	st.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundEnd{RoundEnd: &rowv1.RoundEnd{Seq: st.seq, Open: open, Position: position(pos, pos+1)}}}, nil)
	if st.piece++; !open {
		st.piece = 0
	}
}

// round sends a whole round and waits for its commit.
func (st *stream) round(pos uint64, tb *rowv1.Table, rows ...change) *connectorv1.RoundAck {
	st.t.Helper()
	st.begin(pos)
	st.batch(tb, nil, rows...)
	st.end(pos, false)
	return st.committed()
}

func (st *stream) answer() *connectorv1.ApplyResponse {
	st.t.Helper()
	select {
	case r := <-st.out:
		return r
	case err := <-st.done:
		st.done <- err
		st.t.Fatalf("apply ended: %v", err)
	case <-time.After(20 * time.Second):
		st.t.Fatal("no answer")
	}
	return nil
}

func (st *stream) committed() *connectorv1.RoundAck {
	st.t.Helper()
	a := st.answer().GetCommitted()
	if a == nil {
		st.t.Fatal("asked for a reread, not expected")
	}
	return a
}

// fails waits for the end of Apply and returns its error.
func (st *stream) fails() error {
	st.t.Helper()
	select {
	case err := <-st.done:
		return err
	case <-time.After(30 * time.Second):
		st.t.Fatal("apply does not end")
	}
	return nil
}

func (st *stream) close() {
	st.t.Helper()
	close(st.in)
	if err := st.fails(); err != nil {
		st.t.Fatal(err)
	}
}

func wantRows(t testing.TB, url, query, want string) {
	t.Helper()
	if got := strings.TrimSpace(dev.MustQuery(t, url, query)); got != want {
		t.Fatalf("%s\n got %q\nwant %q", query, got, want)
	}
}

func recoverRequest(epoch uint64) *connectorv1.RecoverRequest {
	return &connectorv1.RecoverRequest{Pipeline: testPipeline, Epoch: epoch, Create: true}
}
