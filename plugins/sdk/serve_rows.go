package sdk

import (
	"context"

	"google.golang.org/grpc"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// rows answers RowsService. Frames cross as *Frame, so that payloads are not copied into messages.
type rows struct {
	connectorv1.UnimplementedRowsServiceServer
	server *server
}

// stream is what frames are received from: either end of a gRPC stream.
type stream interface {
	RecvMsg(m any) error
}

// receiver reads frames off a stream. io.EOF passes unchanged: it is the end of what the peer sends.
func receiver(s stream) func() (*Frame, error) {
	return func() (*Frame, error) {
		f := &Frame{}
		if err := s.RecvMsg(f); err != nil {
			return nil, err
		}
		return f, nil
	}
}

func sender(to grpc.ServerStream) func(*Frame) error {
	return func(f *Frame) error { return to.SendMsg(f) }
}

func (r *rows) ReadChunks(req *connectorv1.ReadChunksRequest, to grpc.ServerStreamingServer[rowv1.Frame]) error {
	s, err := r.server.asSource()
	if err != nil {
		return wire.Status(err)
	}
	ctx, emit, end := lend(to.Context(), req.Arena, sender(to))
	defer end()
	return wire.Status(s.ReadChunks(ctx, req, emit))
}

func (r *rows) Reread(req *connectorv1.RereadRequest, to grpc.ServerStreamingServer[rowv1.Frame]) error {
	s, err := r.server.asSource()
	if err != nil {
		return wire.Status(err)
	}
	return wire.Status(s.Reread(to.Context(), req, sender(to)))
}

// Stream hands acks to the source while it emits. The receiving goroutine ends with the handler, because gRPC
// cancels the stream's context then; the server waits for it when it closes.
func (r *rows) Stream(both grpc.BidiStreamingServer[connectorv1.StreamRequest, rowv1.Frame]) error {
	s, err := r.server.asSource()
	if err != nil {
		return wire.Status(err)
	}
	first, err := both.Recv()
	if err != nil {
		return err
	}
	if first.GetStart() == nil {
		return wire.Status(diag.Internal.New("connector "+r.server.name, nil, "a stream began without start"))
	}
	ctx, cancel := context.WithCancel(both.Context())
	defer cancel()
	acks := make(chan []byte)
	r.server.readers.Go(func() { forwardAcks(ctx, both, acks) })
	emit, end := traced(ctx, sender(both))
	defer end()
	return wire.Status(s.Stream(ctx, first.GetStart(), acks, emit))
}

func forwardAcks(ctx context.Context, from grpc.BidiStreamingServer[connectorv1.StreamRequest, rowv1.Frame], to chan<- []byte) {
	for {
		req, err := from.Recv()
		if err != nil {
			return
		}
		select {
		case to <- req.GetAck():
		case <-ctx.Done():
			return
		}
	}
}

func (r *rows) WriteChunks(from grpc.ClientStreamingServer[rowv1.Frame, connectorv1.WriteChunksResponse]) error {
	s, err := r.server.asSink()
	if err != nil {
		return wire.Status(err)
	}
	next, giveBack := borrow(receiver(from))
	defer giveBack()
	next, end := tracedWrite(from.Context(), next)
	defer end()
	resp, err := s.WriteChunks(from.Context(), next)
	if err != nil {
		return wire.Status(err)
	}
	return from.SendAndClose(resp)
}

func (r *rows) Apply(both grpc.BidiStreamingServer[rowv1.Frame, connectorv1.ApplyResponse]) error {
	s, err := r.server.asSink()
	if err != nil {
		return wire.Status(err)
	}
	next, respond, end := tracedApply(both.Context(), receiver(both), both.Send)
	defer end()
	return wire.Status(s.Apply(both.Context(), next, respond))
}
