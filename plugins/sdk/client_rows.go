package sdk

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// ReadChunks emits the frames of the chunks; their payload is what the socket delivered, uncopied, or lies in the
// arena of the request.
func (c *Client) ReadChunks(ctx context.Context, req *connectorv1.ReadChunksRequest, emit func(*Frame) error) error {
	return c.read(ctx, emit, func(ctx context.Context, r connectorv1.RowsServiceClient) (grpc.ServerStreamingClient[rowv1.Frame], error) {
		return r.ReadChunks(ctx, req)
	})
}

// Reread emits one reread frame.
func (c *Client) Reread(ctx context.Context, req *connectorv1.RereadRequest, emit func(*Frame) error) error {
	return c.read(ctx, emit, func(ctx context.Context, r connectorv1.RowsServiceClient) (grpc.ServerStreamingClient[rowv1.Frame], error) {
		return r.Reread(ctx, req)
	})
}

func (c *Client) read(ctx context.Context, emit func(*Frame) error, begin func(context.Context, connectorv1.RowsServiceClient) (grpc.ServerStreamingClient[rowv1.Frame], error)) error {
	r, err := c.opened()
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := begin(inner, r)
	if err != nil {
		return c.fail(ctx, err)
	}
	return c.drain(ctx, s, emit)
}

// drain emits every frame of a stream until its end.
func (c *Client) drain(ctx context.Context, s stream, emit func(*Frame) error) error {
	next := receiver(s)
	for {
		f, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.fail(ctx, err)
		}
		if err := emit(f); err != nil {
			return err
		}
	}
}

// Stream emits rounds until ctx ends; acks go the other way.
func (c *Client) Stream(ctx context.Context, start *connectorv1.StreamRequest_Start, acks <-chan []byte, emit func(*Frame) error) error {
	r, err := c.opened()
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	s, err := r.Stream(inner)
	if err == nil {
		err = s.Send(&connectorv1.StreamRequest{Kind: &connectorv1.StreamRequest_Start_{Start: start}})
	}
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the reason comes with the first receive
		cancel()
		return c.fail(ctx, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		sendAcks(inner, s, acks)
	}()
	defer func() { cancel(); <-done }()
	return c.drain(ctx, s, emit)
}

func sendAcks(ctx context.Context, to grpc.BidiStreamingClient[connectorv1.StreamRequest, rowv1.Frame], acks <-chan []byte) {
	for {
		select {
		case <-ctx.Done():
			return
		case p, ok := <-acks:
			if !ok {
				return
			}
			if to.Send(&connectorv1.StreamRequest{Kind: &connectorv1.StreamRequest_Ack{Ack: p}}) != nil {
				return // drain returns the reason
			}
		}
	}
}

// WriteChunks sends what next returns. The target may answer before all is sent: then the rest is not asked for.
func (c *Client) WriteChunks(ctx context.Context, next func() (*Frame, error)) (*connectorv1.WriteChunksResponse, error) {
	r, err := c.opened()
	if err != nil {
		return nil, err
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := r.WriteChunks(inner)
	if err != nil {
		return nil, c.fail(ctx, err)
	}
	for {
		f, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := s.SendMsg(f); err != nil {
			break // the reason, or an early answer, comes with the response
		}
	}
	a, err := s.CloseAndRecv()
	return a, c.fail(ctx, err)
}

// Apply sends rounds and hands every response to respond. When the sink fails, Apply returns at once even if next
// blocks: that one pending call of next may then outlive it, and its frame is freed.
func (c *Client) Apply(ctx context.Context, next func() (*Frame, error), respond func(*connectorv1.ApplyResponse) error) error {
	r, err := c.opened()
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, err := r.Apply(inner)
	if err != nil {
		return c.fail(ctx, err)
	}
	c.senders.Go(func() {
		if err := sendRounds(inner, s, next); err != nil {
			cancel(err)
		}
	})
	for {
		a, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if cause := context.Cause(inner); cause != nil && ctx.Err() == nil {
				return cause // next failed
			}
			return c.fail(ctx, err)
		}
		if err := respond(a); err != nil {
			return err
		}
	}
}

// sendRounds returns the error of next; a broken stream is reported by the receiving side.
func sendRounds(ctx context.Context, to grpc.BidiStreamingClient[rowv1.Frame, connectorv1.ApplyResponse], next func() (*Frame, error)) error {
	for ctx.Err() == nil {
		f, err := next()
		if errors.Is(err, io.EOF) {
			_ = to.CloseSend()
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			f.Free()
			return nil
		}
		if to.SendMsg(f) != nil {
			return nil
		}
	}
	return nil
}
