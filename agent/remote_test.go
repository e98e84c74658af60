package agent_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/droverdb/drover/agent"
	"github.com/droverdb/drover/agent/apply"
	"github.com/droverdb/drover/agent/snapshot"
	"github.com/droverdb/drover/agent/transfer"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func TestTwoAgents_LoadAndStreamOverMutualTLS(t *testing.T) {
	c, address := startCoordinator(t)
	// The unix socket needs no TLS, so only the transfer listener gets it; both ends use one certificate.
	cert := certificate(t)
	writer := startAgent(t, agent.Config{Name: "writer", Coordinator: address, NoSource: true, TransferListen: "127.0.0.1:0", TransferTLS: cert})
	if h := c.await(t); h.TransferAddress == "" || h.Source {
		t.Fatalf("%v", h)
	}
	startAgent(t, agent.Config{Name: "reader", Coordinator: address, NoSink: true, TransferTLS: cert})
	c.await(t) // the reader dialled last: tasks go to it
	task := func(id uint64, to *fleetv1.Endpoint) *fleetv1.Task {
		return &fleetv1.Task{Id: id, Epoch: 1, Pipeline: "p", Source: source("frames=40", "size=1048576"), Sink: to,
			SinkAgent: "writer", SinkAddress: writer.TransferAddress()}
	}
	load := task(1, sink())
	load.Work = &fleetv1.Task_Load{Load: oneChunk()} // 40 MiB: more than the window of credits
	c.task(t, load)
	if r := c.result(t, 1); r.Failure != nil || r.GetLoad().Results[0].Rows != 40 {
		t.Fatalf("%v", r)
	}
	load = task(2, sink("fail=1"))
	load.Work = &fleetv1.Task_Load{Load: oneChunk()}
	c.task(t, load)
	if r := c.result(t, 2); r.Failure.GetCode() != diag.WalLevel.ID || len(r.Failure.Fix) != 2 {
		t.Fatalf("%v", r)
	}
	stream := task(3, sink())
	stream.Work = &fleetv1.Task_Stream{Stream: &fleetv1.StreamTask{InitialPosition: make([]byte, 8)}}
	c.task(t, stream)
	if c.next(t).GetEvent().GetStreamStarted() == nil {
		t.Fatal("the stream does not start")
	}
	c.send(t, &fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_Cancel{Cancel: &fleetv1.Cancel{Task: 3}}})
	if r := c.result(t, 3); r.GetStream() == nil {
		t.Fatalf("%v", r)
	}
}

func TestTransfer_RefusesAPeerWithoutACertificate(t *testing.T) {
	cert := certificate(t)
	s, err := apply.Listen("127.0.0.1:0", cert, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run() }()
	defer func() { s.Stop(); <-done }()
	bare := cert.Clone()
	bare.Certificates = nil
	conn, err := transfer.Dial(s.Address(), bare)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	to, err := conn.Sink(sink())
	if err != nil {
		t.Fatal(err)
	}
	_, err = to.Recover(t.Context(), &connectorv1.RecoverRequest{})
	if e := diag.Find(err); e == nil || e.Code.ID != diag.NoAgent.ID {
		t.Fatal(err)
	}
	open := cert.Clone()
	open.ClientAuth = 0
	if _, err := apply.Listen("127.0.0.1:0", open, nil); diag.Find(err) == nil {
		t.Fatal("a listener that asks for no client certificate was opened")
	}
}

// slowSink takes a few frames, then waits: credits must stop the sender.
type slowSink struct {
	sdk.Sink
	taken  chan struct{}
	resume chan struct{}
}

func (s *slowSink) WriteChunks(_ context.Context, next func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error) {
	resp := &connectorv1.WriteChunksResponse{}
	for n := 0; ; n++ {
		if n == 2 {
			close(s.taken)
			<-s.resume
		}
		f, err := next()
		if errors.Is(err, io.EOF) {
			return resp, nil
		}
		if err != nil {
			return nil, err
		}
		if end := f.Header.GetChunkEnd(); end != nil {
			resp.Results = append(resp.Results, end.Result)
		}
		f.Free()
	}
}

// endless emits more than any window until it has sent all its frames.
type endless struct {
	frames int
	sent   atomic.Int64
}

func (e *endless) ReadChunks(_ context.Context, req *connectorv1.ReadChunksRequest, emit func(*sdk.Frame) error) error {
	for range e.frames {
		e.sent.Add(1)
		h := &rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkData{ChunkData: &rowv1.ChunkData{}}}
		if err := emit(sdk.NewFrame(h, make([]byte, 1<<20))); err != nil {
			return err
		}
	}
	end := &rowv1.ChunkEnd{Result: &rowv1.ChunkResult{Chunk: req.Chunks[0].Id}}
	return emit(sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkEnd{ChunkEnd: end}}, nil))
}

func TestTransfer_CreditsBoundWhatIsUnderWay(t *testing.T) {
	slow := &slowSink{taken: make(chan struct{}), resume: make(chan struct{})}
	s, err := apply.Listen("127.0.0.1:0", nil, func(context.Context, *fleetv1.Endpoint) (sdk.Sink, func(), error) { return slow, func() {}, nil })
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run() }()
	defer func() { s.Stop(); <-done }()
	conn, err := transfer.Dial(s.Address(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	to, err := conn.Sink(sink())
	if err != nil {
		t.Fatal(err)
	}
	from := &endless{frames: 100}
	result := make(chan error, 1)
	go func() {
		_, err := snapshot.Run(t.Context(), snapshot.Task{Pipeline: "p", Work: oneChunk(), Budget: 4 << 20}, from, to)
		result <- err
	}()
	<-slow.taken
	select {
	case err := <-result:
		t.Fatalf("the load ended while the sink waits: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if n := from.sent.Load(); n > 32 { // window 16, pipe 4, one taken, one in each hand
		t.Fatalf("%d MiB left the source while the sink waits", n)
	}
	close(slow.resume)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if n := from.sent.Load(); n != 100 {
		t.Fatalf("%d frames sent", n)
	}
}
