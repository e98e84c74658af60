package postgres

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/apply"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

type layoutKey struct{ table, version uint32 }

// layouts are the announced layouts of all tables; the reader adds, the executor looks up.
type layouts struct {
	mu  sync.RWMutex
	all map[layoutKey]*applyTable
}

func (l *layouts) get(table, version uint32) *applyTable {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.all[layoutKey{table, version}]
}

func (l *layouts) put(t *applyTable) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all[layoutKey{t.table.Index, t.version}] = t
}

// tables are those of which rows have come.
func (l *layouts) tables() []*rowv1.Table {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []*rowv1.Table
	for _, t := range l.all {
		out = append(out, t.table)
	}
	return out
}

// roundReader decodes frames and plans rounds while the executor waits for the target's commits.
type roundReader struct {
	a     *applier
	conn  *pgx.Conn // looks types up; the executor's session is busy
	round *apply.Round
}

// read runs until the stream or ctx ends.
func (a *applier) read(ctx context.Context, next func() (*sdk.Frame, error)) {
	defer close(a.items)
	r := &roundReader{a: a}
	defer r.close(ctx)
	for {
		f, err := next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			err = r.frame(ctx, f)
		}
		if err != nil {
			a.give(ctx, item{err: err})
			return
		}
	}
}

func (r *roundReader) close(ctx context.Context) {
	if r.conn != nil {
		_ = r.conn.Close(context.WithoutCancel(ctx))
	}
	if r.round != nil {
		r.round.Release()
	}
}

// give hands an item to the executor unless it has ended.
func (a *applier) give(ctx context.Context, it item) {
	select {
	case a.items <- it:
	case <-ctx.Done():
		if it.plan != nil {
			it.plan.Release()
		}
	}
}

func (r *roundReader) frame(ctx context.Context, f *sdk.Frame) error {
	switch k := f.Header.GetKind().(type) {
	case *rowv1.FrameHeader_TableSchema:
		defer f.Free()
		return r.layout(ctx, k.TableSchema, f)
	case *rowv1.FrameHeader_RoundBegin:
		defer f.Free()
		if r.round != nil {
			return diag.Internal.New("target", nil, "a round begins inside another one")
		}
		r.round = apply.NewRound(k.RoundBegin)
	case *rowv1.FrameHeader_RoundBatch:
		return r.batch(k.RoundBatch, f)
	case *rowv1.FrameHeader_RoundEnd:
		defer f.Free()
		return r.end(ctx, k.RoundEnd)
	case *rowv1.FrameHeader_Idle:
		defer f.Free()
		r.a.give(ctx, item{idle: k.Idle})
	case *rowv1.FrameHeader_Reread:
		return r.reread(ctx, k.Reread, f)
	case *rowv1.FrameHeader_ChunkData, *rowv1.FrameHeader_ChunkEnd:
		select {
		case r.a.pieces <- f:
		case <-ctx.Done():
			f.Free()
		}
	default:
		f.Free()
		return diag.Internal.New("target", nil, "unexpected frame in an apply stream")
	}
	return nil
}

func (r *roundReader) layout(ctx context.Context, s *rowv1.TableSchema, f *sdk.Frame) error {
	t, err := r.a.planner.Table(s.Table)
	if err != nil {
		return err
	}
	if t == nil {
		return diag.Internal.New("target", nil, "layout of table %d, which is not part of the pipeline", s.Table)
	}
	if r.conn == nil {
		conn, err := connect(ctx, r.a.sink.cfg, "types", connectorv1.Role_ROLE_SINK)
		if err != nil {
			return err
		}
		r.conn = conn
		if err := findOperators(ctx, conn); err != nil {
			return mapError(err, tableWhere(t))
		}
	}
	// The decoder keeps the schema for good; the frame's memory goes back to its pool.
	at, err := newApplyTable(ctx, r.conn, t, s, append([]byte(nil), f.Bytes()...))
	if err != nil {
		return diag.About(err, t.Index)
	}
	r.a.layouts.put(at)
	return nil
}

func (r *roundReader) decode(table, version uint32, drop []byte, f *sdk.Frame) (*apply.Batch, error) {
	t := r.a.layouts.get(table, version)
	if t == nil {
		f.Free()
		return nil, diag.Internal.New("target", nil, "rows of table %d before their layout", table)
	}
	rec, err := t.decoder.Decode(f.Bytes())
	if err != nil {
		f.Free()
		return nil, diag.Internal.New(tableWhere(t.table), err, "")
	}
	b, err := apply.NewBatch(table, version, rec, drop)
	if err != nil {
		rec.Release()
		f.Free()
		return nil, diag.Internal.New(tableWhere(t.table), err, "")
	}
	b.OnRelease(f.Free) // the record refers to the frame's memory
	return b, nil
}

func (r *roundReader) batch(h *rowv1.RoundBatch, f *sdk.Frame) error {
	if r.round == nil || r.round.Seq != h.Seq {
		f.Free()
		return diag.Internal.New("target", nil, "a batch outside its round")
	}
	b, err := r.decode(h.Table, h.SchemaVersion, h.Drop, f)
	if err != nil {
		return err
	}
	r.round.Batches = append(r.round.Batches, b)
	return nil
}

func (r *roundReader) end(ctx context.Context, h *rowv1.RoundEnd) error {
	if r.round == nil || r.round.Seq != h.Seq {
		return diag.Internal.New("target", nil, "the end of a round that was not begun")
	}
	round := r.round
	r.round = nil
	round.Open, round.Position = h.Open, h.Position
	p, err := r.a.planner.Plan(round, r.a.covers)
	if err != nil {
		round.Release()
		return diag.Internal.New("target", err, "")
	}
	r.a.give(ctx, item{plan: p})
	return nil
}
