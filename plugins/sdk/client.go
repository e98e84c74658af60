package sdk

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// Client is a connector in another process. It implements Source and Sink; which of the two works is decided by Open.
type Client struct {
	name    string
	control connectorv1.ConnectorServiceClient

	mu   sync.Mutex
	conn *grpc.ClientConn // rows
	rows connectorv1.RowsServiceClient
	// senders may still be blocked in a caller's next() when a call has failed; Close waits for them.
	senders sync.WaitGroup
	onOpen  func(rows *grpc.ClientConn)
	onClose func() error
	closed  bool
}

var (
	_ Source = (*Client)(nil)
	_ Sink   = (*Client)(nil)
	_ Waiter = (*Client)(nil)
)

// NewClient makes a client over an established control connection. Launch is the usual way to one.
func NewClient(name string, control grpc.ClientConnInterface) *Client {
	return &Client{name: name, control: connectorv1.NewConnectorServiceClient(control)}
}

func (c *Client) fail(ctx context.Context, err error) error {
	return wire.Call(ctx, err, "connector "+c.name, diag.ConnectorDied)
}

// ask makes one unary call.
func ask[Q, A any](c *Client, ctx context.Context, method func(context.Context, Q, ...grpc.CallOption) (A, error), req Q) (A, error) {
	a, err := method(ctx, req)
	return a, c.fail(ctx, err)
}

// each makes one call that answers in pages.
func each[Q, A any](c *Client, ctx context.Context, method func(context.Context, Q, ...grpc.CallOption) (grpc.ServerStreamingClient[A], error), req Q, emit func(*A) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := method(ctx, req)
	if err != nil {
		return c.fail(ctx, err)
	}
	for {
		page, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.fail(ctx, err)
		}
		if err := emit(page); err != nil {
			return err
		}
	}
}

// Describe needs no database.
func (c *Client) Describe(ctx context.Context) (*connectorv1.DescribeResponse, error) {
	return ask(c, ctx, c.control.Describe, &connectorv1.DescribeRequest{})
}

// Open connects the connector to its database and this client to the connector's row streams.
func (c *Client) Open(ctx context.Context, req *connectorv1.OpenRequest) (*connectorv1.OpenResponse, error) {
	a, err := ask(c, ctx, c.control.Open, req)
	if err != nil {
		return nil, err
	}
	if err := c.connectRows(ctx, a.RowsSocket); err != nil {
		return nil, err
	}
	return a, nil
}

// connectRows waits until the connection stands; after that the socket's file is not needed any more.
func (c *Client) connectRows(ctx context.Context, socket string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return diag.ConnectorDied.New("connector "+c.name, nil, "it was closed")
	}
	if c.conn != nil {
		return nil
	}
	conn, err := grpc.NewClient("unix:"+socket, append(DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return diag.Internal.New("connector "+c.name, err, "its rows socket cannot be used")
	}
	conn.Connect()
	for s := conn.GetState(); s != connectivity.Ready; s = conn.GetState() {
		if s == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, s) {
			return errors.Join(diag.ConnectorDied.New("connector "+c.name, ctx.Err(), "its rows socket does not answer"), conn.Close())
		}
	}
	c.conn, c.rows = conn, connectorv1.NewRowsServiceClient(conn)
	if c.onOpen != nil {
		c.onOpen(conn)
	}
	return nil
}

func (c *Client) opened() (connectorv1.RowsServiceClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rows == nil {
		return nil, diag.Internal.New("connector "+c.name, nil, "called before Open")
	}
	return c.rows, nil
}

// Check returns all problems at once.
func (c *Client) Check(ctx context.Context, req *connectorv1.CheckRequest) (*connectorv1.CheckResponse, error) {
	return ask(c, ctx, c.control.Check, req)
}

// Sum returns rows and order-independent row sums.
func (c *Client) Sum(ctx context.Context, req *connectorv1.SumRequest) (*connectorv1.SumResponse, error) {
	return ask(c, ctx, c.control.Sum, req)
}

// Release removes what a pipeline made in the database.
func (c *Client) Release(ctx context.Context, req *connectorv1.ReleaseRequest) (*connectorv1.ReleaseResponse, error) {
	return ask(c, ctx, c.control.Release, req)
}

// Discover emits the catalog in pages.
func (c *Client) Discover(ctx context.Context, req *connectorv1.DiscoverRequest, emit func(*connectorv1.DiscoverResponse) error) error {
	return c.Catalog(ctx, req, func(page *connectorv1.DiscoverResponse) error {
		if err := unpack(&page.Packed, &page.Tables, &page.Steps); err != nil {
			return err
		}
		return emit(page)
	})
}

// Catalog is Discover with tables and steps packed, for who passes them on.
func (c *Client) Catalog(ctx context.Context, req *connectorv1.DiscoverRequest, emit func(*connectorv1.DiscoverResponse) error) error {
	return each(c, ctx, c.control.Discover, req, emit)
}

// Prepare makes the slot.
func (c *Client) Prepare(ctx context.Context, req *connectorv1.PrepareRequest) (*connectorv1.PrepareResponse, error) {
	return ask(c, ctx, c.control.Prepare, req)
}

// Position tells the end of the log.
func (c *Client) Position(ctx context.Context, req *connectorv1.PositionRequest) (*connectorv1.PositionResponse, error) {
	return ask(c, ctx, c.control.Position, req)
}

// Split emits the chunks of a table.
func (c *Client) Split(ctx context.Context, req *connectorv1.SplitRequest, emit func(*connectorv1.SplitResponse) error) error {
	return each(c, ctx, c.control.Split, req, emit)
}

// OpenSnapshot holds a shared snapshot until ctx ends.
func (c *Client) OpenSnapshot(ctx context.Context, req *connectorv1.OpenSnapshotRequest, opened func(*connectorv1.OpenSnapshotResponse) error) error {
	return each(c, ctx, c.control.OpenSnapshot, req, opened)
}

// ApplySchema runs schema steps and reports each.
func (c *Client) ApplySchema(ctx context.Context, req *connectorv1.ApplySchemaRequest, report func(*connectorv1.ApplySchemaResponse) error) error {
	return each(c, ctx, c.control.ApplySchema, req, report)
}

// Recover raises the fence and tells what the target holds.
func (c *Client) Recover(ctx context.Context, req *connectorv1.RecoverRequest) (*connectorv1.RecoverResponse, error) {
	return ask(c, ctx, c.control.Recover, req)
}

// Reset empties tables and forgets their chunks.
func (c *Client) Reset(ctx context.Context, req *connectorv1.ResetRequest) (*connectorv1.ResetResponse, error) {
	return ask(c, ctx, c.control.Reset, req)
}

// Blockers tells what the connector's other calls wait for.
func (c *Client) Blockers(ctx context.Context, req *connectorv1.BlockersRequest) (*connectorv1.BlockersResponse, error) {
	return ask(c, ctx, c.control.Blockers, req)
}

// Close ends the connections and the process behind them. It may be called more than once.
func (c *Client) Close() error {
	c.mu.Lock()
	closed, conn := c.closed, c.conn
	c.closed = true
	c.mu.Unlock()
	if closed {
		return nil
	}
	var errs []error
	if conn != nil {
		errs = append(errs, conn.Close())
	}
	if c.onClose != nil {
		errs = append(errs, c.onClose())
	}
	c.senders.Wait()
	return errors.Join(errs...)
}
