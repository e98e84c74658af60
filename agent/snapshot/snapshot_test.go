package snapshot

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/fault"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type reader func(ctx context.Context, emit func(*sdk.Frame) error) error

func (r reader) ReadChunks(ctx context.Context, _ *connectorv1.ReadChunksRequest, emit func(*sdk.Frame) error) error {
	return r(ctx, emit)
}

type writer func(ctx context.Context, next func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error)

func (w writer) WriteChunks(ctx context.Context, next func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error) {
	return w(ctx, next)
}

func data(n int) *sdk.Frame {
	return sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkData{ChunkData: &rowv1.ChunkData{Chunk: 1}}}, make([]byte, n))
}

func end(rows int64) *sdk.Frame {
	r := &rowv1.ChunkResult{Chunk: 1, Rows: rows}
	return sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkEnd{ChunkEnd: &rowv1.ChunkEnd{Result: r}}}, nil)
}

// reads emits three frames and the end.
func reads(_ context.Context, emit func(*sdk.Frame) error) error {
	for range 3 {
		if err := emit(data(10)); err != nil {
			return err
		}
	}
	return emit(end(3))
}

// writes takes everything and answers what the chunk's end says.
func writes(_ context.Context, next func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error) {
	a := &connectorv1.WriteChunksResponse{}
	for {
		f, err := next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, err
		}
		if e := f.Header.GetChunkEnd(); e != nil {
			a.Results = append(a.Results, e.Result)
		}
		f.Free()
	}
}

func answers(already bool, rows ...int64) writer {
	return func(context.Context, func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error) {
		a := &connectorv1.WriteChunksResponse{AlreadyWritten: already}
		for _, n := range rows {
			a.Results = append(a.Results, &rowv1.ChunkResult{Chunk: 1, Rows: n})
		}
		return a, nil
	}
}

func run(ctx context.Context, r reader, w writer) (*fleetv1.LoadResult, error) {
	return Run(ctx, Task{Pipeline: "p", Budget: 1 << 10, Work: &fleetv1.LoadTask{Chunks: []*rowv1.Chunk{{Id: 1}}}}, r, w)
}

func TestRun_OpensMovesAndCompares(t *testing.T) {
	opened := false
	r, err := run(t.Context(), reads, func(ctx context.Context, next func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error) {
		f, err := next()
		opened = err == nil && f.Header.GetWriteOpen().GetPipeline() == "p"
		return writes(ctx, next)
	})
	if err != nil || !opened || r.Results[0].Rows != 3 {
		t.Fatal(r, err)
	}
}

// endless emits until it is told to stop.
func endless(_ context.Context, emit func(*sdk.Frame) error) error {
	for {
		if err := emit(data(500)); err != nil {
			return err
		}
	}
}

func TestRun_StopsTheSourceWhenTheTargetHasTheChunks(t *testing.T) {
	r, err := run(t.Context(), endless, answers(true, 7))
	if err != nil || !r.AlreadyWritten || r.Results[0].Rows != 7 {
		t.Fatal(r, err)
	}
}

func TestRun_ReportsTheSideThatFailed(t *testing.T) {
	refused := diag.DiskFull.New("target", nil, "full")
	full := func(context.Context, func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error) {
		return nil, refused
	}
	if _, err := run(t.Context(), endless, full); !errors.Is(err, refused) {
		t.Errorf("sink failed: %v", err)
	}
	lost := diag.ConnLost.New("source", nil, "gone")
	dies := func(_ context.Context, emit func(*sdk.Frame) error) error {
		return errors.Join(emit(data(1)), lost)
	}
	if _, err := run(t.Context(), dies, writes); !errors.Is(err, lost) {
		t.Errorf("source failed: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := run(ctx, endless, writes); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestRun_RefusesWhatDoesNotAddUp(t *testing.T) {
	swallow := func(a writer) writer {
		return func(ctx context.Context, next func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error) {
			if _, err := writes(ctx, next); err != nil {
				return nil, err
			}
			return a(ctx, next)
		}
	}
	for name, w := range map[string]writer{"fewer rows": swallow(answers(false, 2)), "no answer": swallow(answers(false))} {
		_, err := run(t.Context(), reads, w)
		if e := diag.Find(err); e == nil || e.Code.ID != diag.CountDiffers.ID {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := run(t.Context(), endless, answers(false, 3))
	if e := diag.Find(err); e == nil || e.Code.ID != diag.CountDiffers.ID {
		t.Errorf("answered before the end of the chunk: %v", err)
	}
}

func TestRun_HoldsNoMoreThanItsBudget(t *testing.T) {
	var emitted atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := run(ctx, func(ctx context.Context, emit func(*sdk.Frame) error) error {
		for {
			if err := emit(data(300)); err != nil {
				return err
			}
			emitted.Add(1)
		}
	}, func(ctx context.Context, _ func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if err == nil || emitted.Load() > 3 { // 1 KiB holds two or three frames of 300 bytes
		t.Fatal(emitted.Load(), err)
	}
}

func TestRun_PassesItsFaultPoints(t *testing.T) {
	for _, point := range []string{"load.before-read", "load.after-write"} {
		if err := fault.Arm(point + "=error"); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t.Context(), reads, writes); !errors.Is(err, fault.ErrInjected) {
			t.Errorf("%s: %v", point, err)
		}
	}
	if err := fault.Arm(""); err != nil {
		t.Fatal(err)
	}
}
