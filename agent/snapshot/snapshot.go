// Package snapshot moves the chunks of one load task from a source to a sink, to acknowledged.
package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"go.opentelemetry.io/otel/attribute"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/fault"
	"github.com/droverdb/drover/internal/telemetry"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const defaultBudget = 16 << 20

// Reader is the part of a source that a load needs.
type Reader interface {
	ReadChunks(ctx context.Context, req *connectorv1.ReadChunksRequest, emit func(*sdk.Frame) error) error
}

// Writer is the part of a sink that a load needs.
type Writer interface {
	WriteChunks(ctx context.Context, next func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error)
}

// Task is one load: its chunks are read once and written in one target transaction.
type Task struct {
	Pipeline string
	Epoch    uint64
	Work     *fleetv1.LoadTask
	// Budget bounds the bytes between reader and writer; 0: 16 MiB.
	Budget int
	// Arena names memory that both connectors share; empty: payloads pass through the pipe. Used is how much of it is,
	// 0 to 1.
	Arena string
	Used  func() float64
	// Tally counts what passes; may be nil.
	Tally *Tally
}

// load is a task under way.
type load struct {
	Task
	pipe *pipe

	mu   sync.Mutex
	read map[uint64]*rowv1.ChunkResult
}

// Run reads and writes the chunks. It returns after the target has committed, or rolled back. Running the same task
// again is safe: a target that has the chunks answers with what it stored.
func Run(ctx context.Context, t Task, source Reader, sink Writer) (_ *fleetv1.LoadResult, err error) {
	ctx, span := telemetry.Tracer().Start(ctx, "load")
	span.SetAttributes(attribute.String("drover.pipeline", t.Pipeline), attribute.Int("drover.chunks", len(t.Work.Chunks)))
	defer span.End()
	if t.Budget <= 0 {
		t.Budget = defaultBudget
	}
	if err := fault.Point("load.before-read"); err != nil {
		return nil, err
	}
	l := &load{Task: t, pipe: newPipe(t.Budget), read: map[uint64]*rowv1.ChunkResult{}}
	t.Tally.reading(l.ahead)
	resp, readErr, writeErr := l.move(ctx, source, sink)
	switch {
	case writeErr == nil:
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case readErr != nil && !errors.Is(readErr, errWriterLeft):
		return nil, readErr // the writer merely heard of it
	default:
		return nil, writeErr
	}
	if err := fault.Point("load.after-write"); err != nil {
		return nil, err
	}
	if err := l.compare(resp); err != nil {
		return nil, err
	}
	return &fleetv1.LoadResult{Results: resp.Results, AlreadyWritten: resp.AlreadyWritten}, nil
}

var errWriterLeft = errors.New("the target takes no more rows")

// move runs reader and writer until both have ended.
func (l *load) move(ctx context.Context, source Reader, sink Writer) (resp *connectorv1.WriteChunksResponse, readErr, writeErr error) {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer l.Tally.reading(nil)
		readErr = source.ReadChunks(inner, &connectorv1.ReadChunksRequest{
			Chunks: l.Work.Chunks, Tables: l.Work.Tables, Floor: l.Work.Floor, Snapshot: l.Work.Snapshot, Arena: l.Arena,
		}, func(f *sdk.Frame) error { return l.emit(inner, f) })
		if readErr == nil {
			l.pipe.close(io.EOF)
		} else {
			l.pipe.close(readErr)
		}
	}()
	resp, writeErr = sink.WriteChunks(ctx, l.next(inner))
	cancel(errWriterLeft)
	l.pipe.close(errWriterLeft)
	<-done
	if readErr != nil && context.Cause(inner) == errWriterLeft && errors.Is(readErr, context.Canceled) {
		readErr = errWriterLeft
	}
	return resp, readErr, writeErr
}

// next gives the sink the opening frame, then what the source emits.
func (l *load) next(ctx context.Context) func() (*sdk.Frame, error) {
	opened := false
	return func() (*sdk.Frame, error) {
		if !opened {
			opened = true
			return sdk.NewFrame(&rowv1.FrameHeader{
				Kind: &rowv1.FrameHeader_WriteOpen{WriteOpen: &rowv1.WriteOpen{
					Pipeline: l.Pipeline, Epoch: l.Epoch, Chunks: l.Work.Chunks, Tables: l.Work.Tables, Arena: l.Arena}},
				Traceparent: telemetry.Inject(ctx),
			}, nil), nil
		}
		return l.pipe.take(ctx)
	}
}

// emit notes what the source says of a chunk and passes the frame on.
func (l *load) emit(ctx context.Context, f *sdk.Frame) error {
	chunk, rows, size := chunkOf(f.Header), int64(0), int64(f.Moves())
	if end := f.Header.GetChunkEnd(); end != nil {
		l.mu.Lock()
		l.read[end.GetResult().GetChunk()] = end.Result
		l.mu.Unlock()
		rows = end.GetResult().GetRows()
	}
	if err := l.pipe.put(ctx, f); err != nil {
		return err
	}
	l.Tally.add(chunk, rows, size)
	return nil
}

// ahead is how far the reader is ahead of the writer, 1 being as far as it may be.
func (l *load) ahead() float64 {
	used := l.pipe.used()
	if l.Used != nil {
		used = max(used, l.Used())
	}
	return used
}

// chunkOf is the chunk that a frame of a source belongs to.
func chunkOf(h *rowv1.FrameHeader) uint64 {
	switch k := h.Kind.(type) {
	case *rowv1.FrameHeader_ChunkBegin:
		return k.ChunkBegin.GetChunk()
	case *rowv1.FrameHeader_ChunkData:
		return k.ChunkData.GetChunk()
	}
	return h.GetChunkEnd().GetResult().GetChunk()
}

// compare makes sure that the target answers for every chunk, and wrote what was read.
func (l *load) compare(resp *connectorv1.WriteChunksResponse) error {
	written := map[uint64]*rowv1.ChunkResult{}
	for _, r := range resp.GetResults() {
		written[r.Chunk] = r
	}
	for _, c := range l.Work.Chunks {
		where := fmt.Sprintf("chunk %d of table %d", uint32(c.Id), sdk.ChunkTable(c.Id))
		w := written[c.Id]
		if w == nil {
			return diag.CountDiffers.New(where, nil, "the target does not answer for it")
		}
		if resp.AlreadyWritten {
			continue
		}
		l.mu.Lock()
		r := l.read[c.Id]
		l.mu.Unlock()
		switch {
		case r == nil:
			return diag.CountDiffers.New(where, nil, "the source did not finish it")
		case r.Rows != w.Rows:
			return diag.CountDiffers.New(where, nil, "%d rows read, %d written", r.Rows, w.Rows)
		case !bytes.Equal(r.RowSum, w.RowSum) || r.Digest != w.Digest:
			return diag.CountDiffers.New(where, nil, "the sums of the rows read and written differ")
		}
	}
	return nil
}
