package sdk

import (
	"context"

	"google.golang.org/grpc"

	"github.com/droverdb/drover/internal/diag/wire"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// control answers ConnectorService from the connector in this process.
type control struct {
	connectorv1.UnimplementedConnectorServiceServer
	server *server
}

// call runs one unary method of a side, and makes its error travel.
func call[C, Q, A any](ctx context.Context, side func() (C, error), method func(C, context.Context, Q) (A, error), req Q) (A, error) {
	c, err := side()
	if err != nil {
		var none A
		return none, wire.Status(err)
	}
	a, err := method(c, ctx, req)
	return a, wire.Status(err)
}

// pages runs one method that answers in pages.
func pages[C, Q, A any](side func() (C, error), method func(C, context.Context, Q, func(*A) error) error, req Q, to grpc.ServerStreamingServer[A]) error {
	c, err := side()
	if err != nil {
		return wire.Status(err)
	}
	return wire.Status(method(c, to.Context(), req, to.Send))
}

func (c *control) Describe(ctx context.Context, _ *connectorv1.DescribeRequest) (*connectorv1.DescribeResponse, error) {
	a, err := c.server.describer().Describe(ctx)
	return a, wire.Status(err)
}

func (c *control) Open(ctx context.Context, req *connectorv1.OpenRequest) (*connectorv1.OpenResponse, error) {
	side, socket, err := c.server.take(req.Role)
	if err != nil {
		return nil, wire.Status(err)
	}
	a, err := side.Open(ctx, req)
	if err != nil {
		return nil, wire.Status(err)
	}
	return &connectorv1.OpenResponse{
		RowsSocket: socket, ServerVersion: a.ServerVersion, Display: a.Display, Identity: a.Identity, Instance: a.Instance, Sorting: a.Sorting, Encoding: a.Encoding, Undo: a.Undo,
	}, nil
}

func (c *control) Check(ctx context.Context, req *connectorv1.CheckRequest) (*connectorv1.CheckResponse, error) {
	if err := unpack(&req.Packed, &req.Tables, &req.Steps); err != nil {
		return nil, wire.Status(err)
	}
	defer GiveBack(len(req.Steps))
	return call(ctx, c.server.connector, Connector.Check, req)
}

func (c *control) Sum(ctx context.Context, req *connectorv1.SumRequest) (*connectorv1.SumResponse, error) {
	return call(ctx, c.server.connector, Connector.Sum, req)
}

func (c *control) Release(ctx context.Context, req *connectorv1.ReleaseRequest) (*connectorv1.ReleaseResponse, error) {
	return call(ctx, c.server.connector, Connector.Release, req)
}

func (c *control) Prepare(ctx context.Context, req *connectorv1.PrepareRequest) (*connectorv1.PrepareResponse, error) {
	return call(ctx, c.server.asSource, Source.Prepare, req)
}

func (c *control) Position(ctx context.Context, req *connectorv1.PositionRequest) (*connectorv1.PositionResponse, error) {
	return call(ctx, c.server.asSource, Source.Position, req)
}

func (c *control) Recover(ctx context.Context, req *connectorv1.RecoverRequest) (*connectorv1.RecoverResponse, error) {
	return call(ctx, c.server.asSink, Sink.Recover, req)
}

func (c *control) Reset(ctx context.Context, req *connectorv1.ResetRequest) (*connectorv1.ResetResponse, error) {
	return call(ctx, c.server.asSink, Sink.Reset, req)
}

func (c *control) Blockers(ctx context.Context, req *connectorv1.BlockersRequest) (*connectorv1.BlockersResponse, error) {
	return call(ctx, c.server.asWaiter, Waiter.Blockers, req)
}

// Discover sends tables and steps packed.
func (c *control) Discover(req *connectorv1.DiscoverRequest, to grpc.ServerStreamingServer[connectorv1.DiscoverResponse]) error {
	s, err := c.server.asSource()
	if err != nil {
		return wire.Status(err)
	}
	found := 0
	err = s.Discover(to.Context(), req, func(page *connectorv1.DiscoverResponse) error {
		found += len(page.Tables) + len(page.Steps)
		packed, err := packPage(page)
		if err != nil {
			return err
		}
		return to.Send(packed)
	})
	GiveBack(found)
	return wire.Status(err)
}

func (c *control) Split(req *connectorv1.SplitRequest, to grpc.ServerStreamingServer[connectorv1.SplitResponse]) error {
	return pages(c.server.asSource, Source.Split, req, to)
}

func (c *control) OpenSnapshot(req *connectorv1.OpenSnapshotRequest, to grpc.ServerStreamingServer[connectorv1.OpenSnapshotResponse]) error {
	return pages(c.server.asSnapshotter, Snapshotter.OpenSnapshot, req, to)
}

func (c *control) ApplySchema(req *connectorv1.ApplySchemaRequest, to grpc.ServerStreamingServer[connectorv1.ApplySchemaResponse]) error {
	var none []*rowv1.Table
	if err := unpack(&req.Packed, &none, &req.Steps); err != nil {
		return wire.Status(err)
	}
	defer GiveBack(len(req.Steps))
	return pages(c.server.asSink, Sink.ApplySchema, req, to)
}
