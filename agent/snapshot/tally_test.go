package snapshot

import (
	"context"
	"io"
	"testing"

	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// slowSink takes all frames and looks at the tally before it commits.
type slowSink struct{ look func() }

func (s slowSink) WriteChunks(_ context.Context, next func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error) {
	resp := &connectorv1.WriteChunksResponse{}
	for {
		f, err := next()
		if err == io.EOF {
			s.look()
			return resp, nil
		}
		if err != nil {
			return nil, err
		}
		if end := f.Header.GetChunkEnd(); end != nil {
			resp.Results = append(resp.Results, end.Result)
		}
	}
}

type framesOf func(emit func(*sdk.Frame) error) error

func (f framesOf) ReadChunks(_ context.Context, _ *connectorv1.ReadChunksRequest, emit func(*sdk.Frame) error) error {
	return f(emit)
}

// Each chunk's bytes count as they pass, the schema's too; its rows when they are all read. Once everything is read
// nothing is said of the room between the two sides.
func TestTally_CountsEachChunkWhileItMoves(t *testing.T) {
	tally, during := &Tally{}, &fleetv1.TaskProgress{}
	source := framesOf(func(emit func(*sdk.Frame) error) error {
		for chunk := range uint64(2) {
			for _, f := range []*sdk.Frame{
				sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkBegin{ChunkBegin: &rowv1.ChunkBegin{Chunk: chunk}}}, make([]byte, 10)),
				sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkData{ChunkData: &rowv1.ChunkData{Chunk: chunk}}}, make([]byte, 1000)),
				sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkEnd{ChunkEnd: &rowv1.ChunkEnd{Result: &rowv1.ChunkResult{Chunk: chunk, Rows: 7}}}}, nil),
			} {
				if err := emit(f); err != nil {
					return err
				}
			}
			if chunk == 0 {
				tally.Fill(during)
			}
		}
		return nil
	})
	after := &fleetv1.TaskProgress{}
	task := Task{Work: &fleetv1.LoadTask{Chunks: []*rowv1.Chunk{{Id: 0}, {Id: 1}}}, Tally: tally}
	if _, err := Run(t.Context(), task, source, slowSink{func() { tally.Fill(after) }}); err != nil {
		t.Fatal(err)
	}
	if during.Bytes != 1010 || during.Rows != 7 || len(during.Chunks) != 1 || during.Ahead == nil {
		t.Errorf("while the second chunk is read: %v", during)
	}
	if c := after.Chunks; len(c) != 2 || c[1].Chunk != 1 || c[1].Bytes != 1010 || after.Rows != 14 || after.Ahead != nil {
		t.Errorf("before the commit: %v", after)
	}
}
