// Package apply is the sink agent's side of the row streams: it serves TransferService from the local connectors.
package apply

import (
	"context"
	"crypto/tls"
	"net"
	"sync"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/droverdb/drover/agent/link"
	"github.com/droverdb/drover/agent/transfer"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	"github.com/droverdb/drover/internal/telemetry"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
	transferv1 "github.com/droverdb/drover/proto/drover/transfer/v1"
)

// Open gives a share in an endpoint's sink, and what gives it back.
type Open func(ctx context.Context, ep *fleetv1.Endpoint) (sdk.Sink, func(), error)

// Server listens for source agents.
type Server struct {
	transferv1.UnimplementedTransferServiceServer
	open   Open
	grants *grants
	server *grpc.Server
	listen net.Listener
}

// Listen opens the address. Off this machine it needs TLS with client certificates.
func Listen(address string, c *tls.Config, open Open) (*Server, error) {
	creds, err := link.Credentials(address, c)
	if err != nil {
		return nil, err
	}
	if c != nil && c.ClientAuth != tls.RequireAndVerifyClientCert {
		return nil, diag.TLSRequired.New(address, nil, "source agents must show a certificate")
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, diag.StateUnusable.New(address, err, "the transfer address cannot be listened on").
			WithFix("Choose another transfer address, or end the process that uses it.")
	}
	s := &Server{open: open, grants: newGrants(), listen: l, server: grpc.NewServer(append(sdk.ServerOptions(), grpc.Creds(creds),
		grpc.InitialWindowSize(transfer.StreamWindow), grpc.InitialConnWindowSize(2*transfer.StreamWindow))...)}
	transferv1.RegisterTransferServiceServer(s.server, s)
	return s, nil
}

// Address is where the server really listens.
func (s *Server) Address() string { return s.listen.Addr().String() }

// Run serves until Stop.
func (s *Server) Run() error { return s.server.Serve(s.listen) }

// Stop ends all streams; a transaction that is not committed is rolled back by its sink.
func (s *Server) Stop() { s.server.Stop() }

// sink opens the target that the coordinator has granted to whoever calls, and names its pipeline.
func (s *Server) sink(ctx context.Context) (_ sdk.Sink, pipeline string, release func(), err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	v := md.Get(transfer.GrantHeader)
	if len(v) != 1 {
		return nil, "", nil, diag.NotGranted.New("transfer", nil, "the caller shows no grant")
	}
	g, err := s.grants.find(ctx, []byte(v[0]))
	if err != nil {
		return nil, "", nil, err
	}
	sink, release, err := s.open(ctx, g.Sink)
	return sink, g.Pipeline, release, err
}

// Grant replaces what the coordinator has granted.
func (s *Server) Grant(all []*fleetv1.Grant) { s.grants.replace(all) }

// Grants are those that hold now.
func (s *Server) Grants() []*fleetv1.Grant { return s.grants.list() }

// Recover raises the fence of a stream.
func (s *Server) Recover(ctx context.Context, req *connectorv1.RecoverRequest) (*connectorv1.RecoverResponse, error) {
	sink, pipeline, release, err := s.sink(ctx)
	if err != nil {
		return nil, wire.Status(err)
	}
	defer release()
	if err := belongs(pipeline, req.Pipeline); err != nil {
		return nil, wire.Status(err)
	}
	a, err := sink.Recover(ctx, req)
	return a, wire.Status(err)
}

// Blockers tells what the target's sessions wait for.
func (s *Server) Blockers(ctx context.Context, req *connectorv1.BlockersRequest) (*connectorv1.BlockersResponse, error) {
	sink, _, release, err := s.sink(ctx)
	if err != nil {
		return nil, wire.Status(err)
	}
	defer release()
	w, ok := sink.(sdk.Waiter)
	if !ok {
		return &connectorv1.BlockersResponse{}, nil
	}
	a, err := w.Blockers(ctx, req)
	return a, wire.Status(err)
}

// WriteChunks writes what arrives in one target transaction.
func (s *Server) WriteChunks(st grpc.BidiStreamingServer[rowv1.Frame, transferv1.WriteChunksResponse]) error {
	sink, pipeline, release, err := s.sink(st.Context())
	if err != nil {
		return wire.Status(err)
	}
	defer release()
	r := &receiver{stream: st, pipeline: pipeline, credit: func(n int64) error {
		return st.Send(&transferv1.WriteChunksResponse{Kind: &transferv1.WriteChunksResponse_Credit{Credit: &transferv1.Credit{Bytes: n}}})
	}}
	if err := r.begin(); err != nil {
		return err
	}
	done, err := sink.WriteChunks(st.Context(), r.next)
	if err != nil {
		return wire.Status(err)
	}
	return r.locked(func() error {
		return st.Send(&transferv1.WriteChunksResponse{Kind: &transferv1.WriteChunksResponse_Done{Done: done}})
	})
}

// Apply applies the rounds that arrive.
func (s *Server) Apply(st grpc.BidiStreamingServer[rowv1.Frame, transferv1.ApplyResponse]) error {
	sink, pipeline, release, err := s.sink(st.Context())
	if err != nil {
		return wire.Status(err)
	}
	defer release()
	r := &receiver{stream: st, pipeline: pipeline, credit: func(n int64) error {
		return st.Send(&transferv1.ApplyResponse{Kind: &transferv1.ApplyResponse_Credit{Credit: &transferv1.Credit{Bytes: n}}})
	}}
	if err := r.begin(); err != nil {
		return err
	}
	defer r.setTrace(nil)
	return wire.Status(sink.Apply(st.Context(), r.next, func(a *connectorv1.ApplyResponse) error {
		return r.locked(func() error {
			return st.Send(&transferv1.ApplyResponse{Kind: &transferv1.ApplyResponse_Response{Response: a}})
		})
	}))
}

// receiver takes frames and gives credit back for those the sink has taken.
type receiver struct {
	stream   grpc.ServerStream
	pipeline string
	credit   func(bytes int64) error
	owed     int64
	last     int64

	mu sync.Mutex // one sender at a time
	// span is of a traced round that arrives.
	span trace.Span
}

func (r *receiver) locked(send func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return send()
}

func (r *receiver) begin() error {
	return r.locked(func() error { return r.credit(transfer.Window) })
}

// next returns a frame. Asking for the next one means that the sink is done with the last.
func (r *receiver) next() (*sdk.Frame, error) {
	r.owed, r.last = r.owed+r.last, 0
	if r.owed >= transfer.Grain {
		n := r.owed
		r.owed = 0
		if err := r.locked(func() error { return r.credit(n) }); err != nil {
			return nil, err
		}
	}
	f := &sdk.Frame{}
	if err := r.stream.RecvMsg(f); err != nil {
		return nil, err
	}
	if err := r.opens(f); err != nil {
		f.Free()
		return nil, err
	}
	r.last = int64(f.Payload.Len())
	r.trace(f)
	return f, nil
}

// opens makes sure that the frame which opens a stream names the pipeline of the grant.
func (r *receiver) opens(f *sdk.Frame) error {
	switch k := f.Header.GetKind().(type) {
	case *rowv1.FrameHeader_WriteOpen:
		return belongs(r.pipeline, k.WriteOpen.Pipeline)
	case *rowv1.FrameHeader_ApplyOpen:
		return belongs(r.pipeline, k.ApplyOpen.Pipeline)
	}
	return nil
}

func belongs(granted, named string) error {
	if granted != named {
		return diag.NotGranted.New("pipeline "+named, nil, "the grant is for pipeline %s", granted)
	}
	return nil
}

// trace shows how long a traced round takes to arrive, and hands its trace on. A pending next may outlive the call.
func (r *receiver) trace(f *sdk.Frame) {
	begin, end := f.Header.GetRoundBegin(), f.Header.GetRoundEnd()
	if begin != nil && f.Header.Traceparent != "" {
		ctx, span := telemetry.Tracer().Start(telemetry.Extract(r.stream.Context(), f.Header.Traceparent), "transfer.receive",
			trace.WithLinks(trace.LinkFromContext(r.stream.Context())))
		f.Header.Traceparent = telemetry.Inject(ctx)
		r.setTrace(span)
	}
	if end != nil && !end.Open {
		r.setTrace(nil)
	}
}

// setTrace ends the span of the round before.
func (r *receiver) setTrace(span trace.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.span != nil {
		r.span.End()
	}
	r.span = span
}
