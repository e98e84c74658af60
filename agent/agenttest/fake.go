// Package agenttest is a connector without a database, for tests of what lies between source and sink.
package agenttest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc64"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/droverdb/drover/internal/diag"
	"google.golang.org/grpc/mem"

	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Name is the fake's connector name.
const Name = "fake"

// Main serves the fake when the test binary was started as a connector; call it first in TestMain.
func Main() {
	if len(os.Args) > 2 && os.Args[1] == "connector" {
		sdk.Serve(Name, func() sdk.Source { return &Source{} }, func() sdk.Sink { return &Sink{} })
		os.Exit(0)
	}
}

// Endpoint names a fake. Options: frames and size shape a chunk's data; fail makes every call fail; die ends the
// process in the middle of a chunk; block makes checks wait; blockers names a file that holds what they wait for.
func Endpoint(role connectorv1.Role, pipeline string, options ...string) *fleetv1.Endpoint {
	ep := &fleetv1.Endpoint{Name: "fake", Connector: Name, Url: "fake://here", Role: role, Pipeline: pipeline, Options: map[string]string{}}
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		ep.Options[k] = v
	}
	return ep
}

var table = crc64.MakeTable(crc64.ECMA)

type base struct {
	req *connectorv1.OpenRequest
}

func (b *base) number(option string, otherwise int) int {
	if n, err := strconv.Atoi(b.req.GetOptions()[option]); err == nil {
		return n
	}
	return otherwise
}

// Failure is what the option fail makes calls return.
func Failure() error {
	return diag.WalLevel.New("source › wal_level = replica", errors.New("cause"), "seen in a test").WithFix("ALTER SYSTEM;", "restart")
}

func (b *base) Describe(context.Context) (*connectorv1.DescribeResponse, error) {
	return &connectorv1.DescribeResponse{Name: Name, Version: "1", Dialect: "fake", Abilities: []string{sdk.AbilityBlockers}}, nil
}

func (b *base) Open(_ context.Context, req *connectorv1.OpenRequest) (*connectorv1.OpenResponse, error) {
	b.req = req
	return &connectorv1.OpenResponse{ServerVersion: "1", Display: strconv.Itoa(os.Getpid()), Identity: req.Password}, nil
}

func (b *base) Check(ctx context.Context, _ *connectorv1.CheckRequest) (*connectorv1.CheckResponse, error) {
	if b.req.Options["fail"] != "" {
		return nil, Failure()
	}
	if b.req.Options["block"] != "" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	// The environment is how tests see what a connector inherits.
	return &connectorv1.CheckResponse{Problems: []*connectorv1.Problem{{Object: strings.Join(os.Environ(), "\n")}}, Checks: int32(os.Getpid())}, nil
}

func (b *base) Blockers(context.Context, *connectorv1.BlockersRequest) (*connectorv1.BlockersResponse, error) {
	resp := &connectorv1.BlockersResponse{}
	if text, err := os.ReadFile(b.req.Options["blockers"]); err == nil {
		resp.Blockers = strings.Fields(string(text))
	}
	return resp, nil
}

func (b *base) Sum(context.Context, *connectorv1.SumRequest) (*connectorv1.SumResponse, error) {
	return &connectorv1.SumResponse{}, nil
}

func (b *base) Release(context.Context, *connectorv1.ReleaseRequest) (*connectorv1.ReleaseResponse, error) {
	return &connectorv1.ReleaseResponse{Removed: []string{"slot"}}, nil
}

func (b *base) Close() error { return nil }

// Source emits made-up rows.
type Source struct{ base }

// Discover emits two pages.
func (s *Source) Discover(_ context.Context, _ *connectorv1.DiscoverRequest, emit func(*connectorv1.DiscoverResponse) error) error {
	for i := range uint32(2) {
		if err := emit(&connectorv1.DiscoverResponse{Tables: []*rowv1.Table{{Index: i}}}); err != nil {
			return err
		}
	}
	return nil
}

// Prepare answers a position.
func (s *Source) Prepare(context.Context, *connectorv1.PrepareRequest) (*connectorv1.PrepareResponse, error) {
	return &connectorv1.PrepareResponse{Position: make([]byte, 8)}, nil
}

// Position answers a position.
func (s *Source) Position(context.Context, *connectorv1.PositionRequest) (*connectorv1.PositionResponse, error) {
	return &connectorv1.PositionResponse{Position: make([]byte, 8), Horizon: &rowv1.Coverage{Exact: true, Xmin: 1 << 40, Xmax: 1 << 40}}, nil
}

// Split emits three chunks.
func (s *Source) Split(_ context.Context, req *connectorv1.SplitRequest, emit func(*connectorv1.SplitResponse) error) error {
	for i := range uint32(3) {
		if err := emit(&connectorv1.SplitResponse{Chunks: []*rowv1.Chunk{{Id: sdk.ChunkID(req.GetTable().GetIndex(), i)}}}); err != nil {
			return err
		}
	}
	return nil
}

// OpenSnapshot holds nothing until ctx ends.
func (s *Source) OpenSnapshot(ctx context.Context, _ *connectorv1.OpenSnapshotRequest, opened func(*connectorv1.OpenSnapshotResponse) error) error {
	if err := opened(&connectorv1.OpenSnapshotResponse{Snapshot: "s1"}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// ReadChunks emits frames of made-up bytes for every chunk, each frame with other ones.
func (s *Source) ReadChunks(ctx context.Context, req *connectorv1.ReadChunksRequest, emit func(*sdk.Frame) error) error {
	pool := sdk.Payloads(ctx, mem.DefaultBufferPool())
	payload := bytes.Repeat([]byte("drover!\n"), s.number("size", 64<<10)/8)
	for _, c := range req.Chunks {
		err := emit(sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkBegin{ChunkBegin: &rowv1.ChunkBegin{Chunk: c.Id, Lane: "fake"}}}, nil))
		if err != nil {
			return err
		}
		result := &rowv1.ChunkResult{Chunk: c.Id}
		for i := range s.number("frames", 20) {
			if s.req.Options["die"] != "" && i == 3 {
				os.Exit(7)
			}
			buf := pool.Get(len(payload))
			copy(*buf, payload)
			binary.BigEndian.PutUint32(*buf, uint32(i))
			s.note(result, len(payload), func() []byte { return *buf })
			header := &rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkData{ChunkData: &rowv1.ChunkData{Chunk: c.Id}}}
			if err := emit(&sdk.Frame{Header: header, Payload: mem.BufferSlice{mem.NewBuffer(buf, pool)}}); err != nil {
				return err
			}
		}
		end := &rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkEnd{ChunkEnd: &rowv1.ChunkEnd{Result: result}}}
		if err := emit(sdk.NewFrame(end, nil)); err != nil {
			return err
		}
	}
	return nil
}

// note counts a frame as a row, and sums its bytes unless the option sums=no leaves the bare transport to be measured.
func (b *base) note(r *rowv1.ChunkResult, size int, payload func() []byte) {
	r.Rows++
	r.Bytes += int64(size)
	if b.req.Options["sums"] != "no" {
		r.Digest = crc64.Update(r.Digest, table, payload())
	}
	r.RowSum = binary.BigEndian.AppendUint64(nil, r.Digest)
}

// Reread emits one frame.
func (s *Source) Reread(_ context.Context, _ *connectorv1.RereadRequest, emit func(*sdk.Frame) error) error {
	return emit(sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_Reread{Reread: &rowv1.Reread{}}}, []byte("row")))
}

// Stream emits an idle frame at the start, and one for every ack.
func (s *Source) Stream(ctx context.Context, start *connectorv1.StreamRequest_Start, acks <-chan []byte, emit func(*sdk.Frame) error) error {
	position := start.From
	for {
		if err := emit(sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_Idle{Idle: &rowv1.Idle{Position: position}}}, nil)); err != nil {
			return err
		}
		select {
		case position = <-acks:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Sink forgets rows and remembers sums.
type Sink struct{ base }

// ApplySchema reports every step.
func (s *Sink) ApplySchema(_ context.Context, req *connectorv1.ApplySchemaRequest, report func(*connectorv1.ApplySchemaResponse) error) error {
	for _, step := range req.Steps {
		if err := report(&connectorv1.ApplySchemaResponse{Step: step.Id}); err != nil {
			return err
		}
	}
	return nil
}

// Recover answers the epoch it was given.
func (s *Sink) Recover(_ context.Context, req *connectorv1.RecoverRequest) (*connectorv1.RecoverResponse, error) {
	return &connectorv1.RecoverResponse{Found: true, Epoch: req.Epoch, Position: req.InitialPosition}, nil
}

// Reset does nothing.
func (s *Sink) Reset(context.Context, *connectorv1.ResetRequest) (*connectorv1.ResetResponse, error) {
	return &connectorv1.ResetResponse{}, nil
}

// WriteChunks sums what it gets and compares with what the source says.
func (s *Sink) WriteChunks(_ context.Context, next func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error) {
	resp := &connectorv1.WriteChunksResponse{}
	if s.req.Options["fail"] != "" {
		return nil, Failure()
	}
	sum := &rowv1.ChunkResult{}
	for {
		f, err := next()
		if errors.Is(err, io.EOF) {
			return resp, nil
		}
		if err != nil {
			return nil, err
		}
		switch k := f.Header.Kind.(type) {
		case *rowv1.FrameHeader_ChunkBegin:
			sum = &rowv1.ChunkResult{Chunk: k.ChunkBegin.Chunk}
		case *rowv1.FrameHeader_ChunkData:
			s.note(sum, f.Payload.Len(), f.Bytes)
		case *rowv1.FrameHeader_ChunkEnd:
			if sum.Digest != k.ChunkEnd.Result.Digest {
				return nil, diag.CountDiffers.New("chunk", nil, "digest differs")
			}
			resp.Results = append(resp.Results, sum)
		}
		f.Free()
	}
}

// Apply commits every round it is sent.
func (s *Sink) Apply(_ context.Context, next func() (*sdk.Frame, error), respond func(*connectorv1.ApplyResponse) error) error {
	if s.req.Options["fail"] != "" {
		return Failure()
	}
	for {
		f, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if end := f.Header.GetRoundEnd(); end != nil {
			ack := &connectorv1.RoundAck{Seq: end.Seq, Position: end.Position}
			if err := respond(&connectorv1.ApplyResponse{Kind: &connectorv1.ApplyResponse_Committed{Committed: ack}}); err != nil {
				return err
			}
		}
		f.Free()
	}
}
