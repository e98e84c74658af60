package conform

import (
	"bytes"
	"context"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// chunks splits every table.
func (p *pair) chunks(ctx context.Context, t *testing.T) []*rowv1.Chunk {
	t.Helper()
	var out []*rowv1.Chunk
	seen := map[uint64]bool{}
	for _, table := range p.tables {
		must(t, p.src.Split(ctx, &connectorv1.SplitRequest{Table: table, TargetBytes: 32 << 10}, func(r *connectorv1.SplitResponse) error {
			for _, c := range r.Chunks {
				if seen[c.Id] || sdk.ChunkTable(c.Id) != table.Index || c.Table != table.Index {
					t.Errorf("chunk %x: id taken or of another table", c.Id)
				}
				seen[c.Id] = true
			}
			out = append(out, r.Chunks...)
			return nil
		}))
	}
	return out
}

// read returns the frames of chunks, opened for writing under an epoch, and the results the source claims.
func (p *pair) read(ctx context.Context, t *testing.T, chunks []*rowv1.Chunk, epoch uint64) ([]*sdk.Frame, []*rowv1.ChunkResult) {
	t.Helper()
	frames := []*sdk.Frame{sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_WriteOpen{WriteOpen: &rowv1.WriteOpen{
		Pipeline: pipeline, Epoch: epoch, Chunks: chunks, Tables: p.tables}}}, nil)}
	var results []*rowv1.ChunkResult
	must(t, p.src.ReadChunks(ctx, &connectorv1.ReadChunksRequest{Chunks: chunks, Tables: p.tables}, func(f *sdk.Frame) error {
		if e := f.Header.GetChunkEnd(); e != nil {
			results = append(results, e.Result)
		}
		frames = append(frames, keep(f))
		return nil
	}))
	if len(results) != len(chunks) {
		t.Fatalf("%d chunks asked, %d ended", len(chunks), len(results))
	}
	return frames, results
}

// keep copies a frame, so that it can be written more than once.
func keep(f *sdk.Frame) *sdk.Frame {
	defer f.Free()
	out := &sdk.Frame{Header: proto.Clone(f.Header).(*rowv1.FrameHeader)}
	if b := f.Payload.Materialize(); len(b) > 0 {
		out.Payload = mem.BufferSlice{mem.SliceBuffer(b)}
	}
	return out
}

func copies(frames []*sdk.Frame) []*sdk.Frame {
	var out []*sdk.Frame
	for _, f := range frames {
		out = append(out, sdk.NewFrame(proto.Clone(f.Header).(*rowv1.FrameHeader), f.Payload.Materialize()))
	}
	return out
}

func (k Kit) load(t *testing.T) {
	p, ctx := k.prepared(t)
	chunks := p.chunks(ctx, t)
	frames, read := p.read(ctx, t, chunks, 1)
	var rows int64
	for _, r := range read {
		rows += r.Rows
		if !r.Coverage.GetExact() && r.Coverage.GetThrough() == nil {
			t.Errorf("chunk %x has no coverage", r.Chunk)
		}
	}
	if rows != p.Rows {
		t.Fatalf("chunks hold %d rows, the source %d", rows, p.Rows)
	}
	w, err := p.dst.WriteChunks(ctx, feed(copies(frames)))
	must(t, err)
	if w.AlreadyWritten || p.CountTarget(t) != p.Rows {
		t.Fatalf("already %v, target has %d of %d rows", w.AlreadyWritten, p.CountTarget(t), p.Rows)
	}
	again, err := p.dst.WriteChunks(ctx, feed(copies(frames)))
	must(t, err)
	if !again.AlreadyWritten || p.CountTarget(t) != p.Rows || !sameResults(again.Results, read) {
		t.Fatal("writing the same chunks again must answer with what is stored, and change nothing")
	}
	more := &rowv1.Chunk{Id: sdk.ChunkID(chunks[0].Table, 9999), Table: chunks[0].Table, Keys: &rowv1.KeyRange{From: []byte{1}}}
	must(t, second(p.dst.Reset(ctx, &connectorv1.ResetRequest{Pipeline: pipeline, Epoch: 1, Plan: append(chunks, more)})))
	rec, err := p.dst.Recover(ctx, &connectorv1.RecoverRequest{Pipeline: pipeline, Chunks: true})
	must(t, err)
	if !sameResults(rec.Written, read) || len(rec.Chunks) != len(chunks)+1 {
		t.Error("recover does not tell the chunks that are written, or not those that are planned")
	}
	p.sums(ctx, t, read)
}

// sums compares what was read with what the target holds.
func (p *pair) sums(ctx context.Context, t *testing.T, read []*rowv1.ChunkResult) {
	t.Helper()
	a, err := p.src.Sum(ctx, &connectorv1.SumRequest{Tables: p.tables, Role: connectorv1.Role_ROLE_SOURCE})
	must(t, err)
	b, err := p.dst.Sum(ctx, &connectorv1.SumRequest{Tables: p.tables, Role: connectorv1.Role_ROLE_SINK})
	must(t, err)
	if len(a.Sums) != len(p.tables) || len(b.Sums) != len(p.tables) {
		t.Fatalf("sums of %d and %d of %d tables", len(a.Sums), len(b.Sums), len(p.tables))
	}
	of := map[uint32]*connectorv1.SumResponse_One{}
	for _, s := range a.Sums {
		of[s.Table] = s
	}
	for _, s := range b.Sums {
		if o := of[s.Table]; o == nil || o.Rows != s.Rows || !bytes.Equal(o.RowSum, s.RowSum) {
			t.Errorf("table %d: the target's sum is not the source's", s.Table)
		}
	}
	rows := map[uint32]int64{}
	for _, r := range read {
		rows[sdk.ChunkTable(r.Chunk)] += r.Rows
	}
	for _, s := range b.Sums {
		if rows[s.Table] != s.Rows {
			t.Errorf("table %d: %d rows summed, %d read", s.Table, s.Rows, rows[s.Table])
		}
	}
}

func sameResults(a, b []*rowv1.ChunkResult) bool {
	of := map[uint64]*rowv1.ChunkResult{}
	for _, r := range a {
		of[r.Chunk] = r
	}
	for _, r := range b {
		o := of[r.Chunk]
		if o == nil || o.Rows != r.Rows || o.Digest != r.Digest || !bytes.Equal(o.RowSum, r.RowSum) {
			return false
		}
	}
	return len(a) == len(b)
}

func (k Kit) fence(t *testing.T) {
	p, ctx := k.prepared(t)
	chunks := p.chunks(ctx, t)
	first, _ := p.read(ctx, t, chunks, 5)
	must(t, second(p.dst.Recover(ctx, &connectorv1.RecoverRequest{Pipeline: pipeline, Epoch: 7})))
	_, err := p.dst.WriteChunks(ctx, feed(copies(first)))
	if d := diag.Find(err); d == nil || d.Code.ID != diag.FencedOut.ID || p.CountTarget(t) != 0 {
		t.Fatalf("chunks of an older epoch: %v, %d rows", err, p.CountTarget(t))
	}
	open := &rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ApplyOpen{ApplyOpen: &rowv1.ApplyOpen{Pipeline: pipeline, Epoch: 6, Tables: p.tables}}}
	begin := &rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundBegin{RoundBegin: &rowv1.RoundBegin{Seq: 1}}}
	end := &rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundEnd{RoundEnd: &rowv1.RoundEnd{Seq: 1, Position: bytes.Repeat([]byte{1}, 16)}}}
	err = p.dst.Apply(ctx, feed([]*sdk.Frame{sdk.NewFrame(open, nil), sdk.NewFrame(begin, nil), sdk.NewFrame(end, nil)}),
		func(*connectorv1.ApplyResponse) error { t.Error("a fenced stream was acknowledged"); return nil })
	if d := diag.Find(err); d == nil || d.Code.ID != diag.FencedOut.ID {
		t.Fatalf("apply with an older epoch: %v", err)
	}
}
