package stream

import (
	"context"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// answer is the source's answer to a question for single keys. Its rows may be of any size, so it passes frame by frame:
// the source is read as fast as the target writes.
type answer struct {
	frames chan *sdk.Frame // nil: nothing was asked
	failed chan error
}

// next returns the next frame of the answer, nil after its end.
func (a *answer) next(ctx context.Context) (*sdk.Frame, error) {
	if a.frames == nil {
		return nil, nil
	}
	select {
	case f, ok := <-a.frames:
		if ok {
			return f, nil
		}
		a.frames = nil
		return nil, <-a.failed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// readAgain reads single keys again, at or after everything received (Invariant 8), and returns the first frame. The
// stream's group owns the goroutine that reads; it ends with the answer, or when the sink does (ctx).
func (s *Stream) readAgain(ctx context.Context, r *connectorv1.RereadNeeded) (*sdk.Frame, error) {
	if _, err := s.horizon(ctx); err != nil {
		return nil, err
	}
	table, err := s.table(r.Table)
	if err != nil {
		return nil, err
	}
	if table == nil {
		return nil, diag.Internal.New("stream", nil, "the sink asked for keys of table %d, which the pipeline does not have", r.Table)
	}
	s.mu.Lock()
	req := &connectorv1.RereadRequest{Table: table, SchemaVersion: r.SchemaVersion, Keys: r.Keys, Floor: s.gate.Floor(), Lane: r.Lane}
	s.mu.Unlock()
	a := &s.feed.answer
	a.frames, a.failed = make(chan *sdk.Frame), make(chan error, 1)
	frames, failed := a.frames, a.failed
	err = s.group.Go(func(context.Context) error {
		defer close(frames)
		failed <- s.task.Source.Reread(ctx, req, func(f *sdk.Frame) error {
			select {
			case frames <- f:
				return nil
			case <-ctx.Done():
				f.Free()
				return context.Cause(ctx)
			}
		})
		return nil // next has it
	})
	if err != nil {
		a.frames = nil
		return nil, errHalfRound // the stream stops: the sink rolls back what waits for the answer
	}
	f, err := a.next(ctx)
	s.mu.Lock()
	s.aheadOfBarrier()
	s.mu.Unlock()
	if err == nil && !isReread(f) {
		err = diag.Internal.New("stream", nil, "the source did not answer a request for single keys of table %d", r.Table)
	}
	return f, err
}

func isReread(f *sdk.Frame) bool {
	if f == nil {
		return false
	}
	_, ok := f.Header.GetKind().(*rowv1.FrameHeader_Reread)
	return ok
}
