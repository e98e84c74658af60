package conform

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/droverdb/drover/internal/position"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// run pipes a source's stream into a sink's apply until cancelled; every commit is acknowledged.
type running struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	acked  []byte
	errs   []error
}

func (p *pair) run(ctx context.Context, from []byte, epoch uint64) *running {
	ctx, cancel := context.WithCancel(ctx)
	r := &running{cancel: cancel}
	frames := make(chan *sdk.Frame, 64)
	acks := make(chan []byte, 1024)
	frames <- sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ApplyOpen{ApplyOpen: &rowv1.ApplyOpen{
		Pipeline: pipeline, Epoch: epoch, Tables: p.tables}}}, nil)
	r.wg.Go(func() {
		defer close(frames)
		r.note(ctx, p.src.Stream(ctx, &connectorv1.StreamRequest_Start{Pipeline: pipeline, From: from, Tables: p.tables, Lane: sdk.LanePGValues},
			acks, func(f *sdk.Frame) error {
				select {
				case frames <- f:
					return nil
				case <-ctx.Done():
					f.Free()
					return ctx.Err()
				}
			}))
	})
	r.wg.Go(func() {
		r.note(ctx, p.dst.Apply(ctx, func() (*sdk.Frame, error) {
			f, ok := <-frames
			if !ok {
				return nil, io.EOF
			}
			return f, nil
		}, func(a *connectorv1.ApplyResponse) error {
			if c := a.GetCommitted(); c != nil {
				r.mu.Lock()
				r.acked = bytes.Clone(c.Position)
				r.mu.Unlock()
				acks <- c.Position
			}
			return nil
		}))
	})
	return r
}

func (r *running) note(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		r.mu.Lock()
		r.errs = append(r.errs, err)
		r.mu.Unlock()
		r.cancel()
	}
}

func (r *running) stop(t *testing.T) []byte {
	t.Helper()
	r.cancel()
	r.wg.Wait()
	for _, err := range r.errs {
		t.Errorf("stream: %v", err)
	}
	return r.acked
}

func (k Kit) stream(t *testing.T) {
	p, ctx := k.prepared(t)
	start, err := p.src.Prepare(ctx, &connectorv1.PrepareRequest{Pipeline: pipeline, Tables: p.tables})
	must(t, err)
	if d, err := p.src.Describe(ctx); err != nil || position.Print(d.PositionFormat, start.Position) != start.Printable {
		t.Errorf("the position prints as %q, not as %q (%v)", position.Print(d.GetPositionFormat(), start.Position), start.Printable, err)
	}
	again, err := p.src.Prepare(ctx, &connectorv1.PrepareRequest{Pipeline: pipeline, Tables: p.tables})
	must(t, err)
	if !again.Existed {
		t.Error("the second prepare does not tell that the slot existed")
	}
	must(t, second(p.dst.Recover(ctx, &connectorv1.RecoverRequest{Pipeline: pipeline, Epoch: 2, InitialPosition: start.Position})))
	r := p.run(ctx, start.Position, 2)
	p.Change(t)
	p.await(t, int64(p.Inserted))
	first := r.stop(t)
	if len(first) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	rec, err := p.dst.Recover(ctx, &connectorv1.RecoverRequest{Pipeline: pipeline, Epoch: 3})
	must(t, err)
	if bytes.Compare(rec.Position, first) < 0 {
		t.Fatal("the target's token is behind what was acknowledged")
	}
	r = p.run(ctx, rec.Position, 3)
	p.Change(t)
	p.await(t, 2*int64(p.Inserted))
	r.stop(t)
}

// await waits until the target holds n rows, and checks that it does not go beyond.
func (p *pair) await(t *testing.T, n int64) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if p.CountTarget(t) >= n {
			break
		}
	}
	time.Sleep(100 * time.Millisecond)
	if got := p.CountTarget(t); got != n {
		t.Fatalf("the target holds %d rows, want %d", got, n)
	}
}
