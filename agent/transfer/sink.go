// Package transfer carries row streams from a source agent to a sink agent, with explicit credits: gRPC's own windows
// hide megabytes per stream.
package transfer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/droverdb/drover/agent/link"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	transferv1 "github.com/droverdb/drover/proto/drover/transfer/v1"
)

// GrantHeader carries the secret of the grant that a call is made under.
const GrantHeader = "drover-grant-bin"

// StreamWindow is gRPC's own window between agents: enough for a fast link across a continent. (Between agent and
// connector it is small, so that frames stay in the processor's cache.)
const StreamWindow = 8 << 20

// Conn is a connection to a sink agent.
type Conn struct {
	address string
	conn    *grpc.ClientConn
	client  transferv1.TransferServiceClient
	// senders may still be blocked in a caller's next() when a call has failed; Close waits for them.
	senders sync.WaitGroup
}

// Dial makes a connection; it is established by the first call. Plaintext is for this machine only.
func Dial(address string, c *tls.Config) (*Conn, error) {
	creds, err := link.Credentials(address, c)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(address, append(sdk.DialOptions(), grpc.WithTransportCredentials(creds),
		grpc.WithInitialWindowSize(StreamWindow), grpc.WithInitialConnWindowSize(2*StreamWindow))...)
	if err != nil {
		return nil, diag.NoAgent.New(address, err, "the sink agent's address cannot be used")
	}
	return &Conn{address: address, conn: conn, client: transferv1.NewTransferServiceClient(conn)}, nil
}

// Close ends the connection.
func (c *Conn) Close() error {
	err := c.conn.Close()
	c.senders.Wait()
	return err
}

// Sink is a target behind another agent. It writes and applies, and tells what it waits for; everything else is a task of
// that agent.
type Sink struct {
	refused
	conn  *Conn
	grant string
}

var (
	_ sdk.Sink   = (*Sink)(nil)
	_ sdk.Waiter = (*Sink)(nil)
)

// Sink is the target that the coordinator has granted under this secret.
func (c *Conn) Sink(grant []byte) *Sink { return &Sink{conn: c, grant: string(grant)} }

func (s *Sink) outgoing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, GrantHeader, s.grant)
}

func (s *Sink) fail(ctx context.Context, err error) error {
	return link.Call(ctx, err, "sink agent "+s.conn.address, diag.NoAgent)
}

// Recover raises the fence of a stream at the target.
func (s *Sink) Recover(ctx context.Context, req *connectorv1.RecoverRequest) (*connectorv1.RecoverResponse, error) {
	a, err := s.conn.client.Recover(s.outgoing(ctx), req)
	return a, s.fail(ctx, err)
}

// Blockers tells what the target's sessions wait for.
func (s *Sink) Blockers(ctx context.Context, req *connectorv1.BlockersRequest) (*connectorv1.BlockersResponse, error) {
	a, err := s.conn.client.Blockers(s.outgoing(ctx), req)
	return a, s.fail(ctx, err)
}

// WriteChunks sends what next returns and waits for the target's commit.
func (s *Sink) WriteChunks(ctx context.Context, next func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error) {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	st, err := s.conn.client.WriteChunks(s.outgoing(inner))
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	credits := newPurse()
	s.conn.send(inner, cancel, st, credits, next)
	for {
		a, err := st.Recv()
		if err != nil {
			return nil, s.ended(ctx, inner, err)
		}
		switch k := a.Kind.(type) {
		case *transferv1.WriteChunksResponse_Credit:
			credits.add(k.Credit.Bytes)
		case *transferv1.WriteChunksResponse_Done:
			return k.Done, nil
		case *transferv1.WriteChunksResponse_Failure:
			return nil, wire.Error(k.Failure)
		}
	}
}

// Apply sends rounds and hands every response to respond. As with sdk.Client, a pending call of next may outlive it
// when the sink fails.
func (s *Sink) Apply(ctx context.Context, next func() (*sdk.Frame, error), respond func(*connectorv1.ApplyResponse) error) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	st, err := s.conn.client.Apply(s.outgoing(inner))
	if err != nil {
		return s.fail(ctx, err)
	}
	credits := newPurse()
	s.conn.send(inner, cancel, st, credits, next)
	for {
		a, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return s.ended(ctx, inner, err)
		}
		switch k := a.Kind.(type) {
		case *transferv1.ApplyResponse_Credit:
			credits.add(k.Credit.Bytes)
		case *transferv1.ApplyResponse_Response:
			if err := respond(k.Response); err != nil {
				return err
			}
		case *transferv1.ApplyResponse_Failure:
			return wire.Error(k.Failure)
		}
	}
}

// ended tells why a stream ended: next's own error if that was the reason.
func (s *Sink) ended(ctx, inner context.Context, err error) error {
	if cause := context.Cause(inner); cause != nil && ctx.Err() == nil {
		return cause
	}
	if errors.Is(err, io.EOF) {
		return diag.NoAgent.New("sink agent "+s.conn.address, nil, "it ended the stream without an answer")
	}
	return s.fail(ctx, err)
}

// send pumps frames into a stream while credits last. Errors of next cancel the stream.
func (c *Conn) send(ctx context.Context, cancel context.CancelCauseFunc, st grpc.ClientStream, credits *purse, next func() (*sdk.Frame, error)) {
	c.senders.Go(func() {
		for ctx.Err() == nil {
			f, err := next()
			if errors.Is(err, io.EOF) {
				_ = st.CloseSend()
				return
			}
			if err != nil {
				cancel(err)
				return
			}
			if credits.spend(ctx, int64(f.Payload.Len())) != nil {
				f.Free()
				return
			}
			if st.SendMsg(f) != nil {
				return // the receiving side has the reason
			}
		}
	})
}
