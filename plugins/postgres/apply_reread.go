package postgres

import (
	"bytes"
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/apply"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// rereadAnswer is a reread frame, decoded.
type rereadAnswer struct {
	header *rowv1.Reread
	rows   *apply.Batch
}

func (r *roundReader) reread(ctx context.Context, h *rowv1.Reread, f *sdk.Frame) error {
	answer := &rereadAnswer{header: h}
	if f.Payload.Len() == 0 {
		f.Free()
	} else {
		b, err := r.decode(h.Table, h.SchemaVersion, nil, f)
		if err != nil {
			return err
		}
		answer.rows = b
	}
	select {
	case r.a.rereads <- answer:
	case <-ctx.Done():
		if answer.rows != nil {
			answer.rows.Release()
		}
	}
	return nil
}

// ask has single keys read again at the source; the round's transaction stays open meanwhile.
func (a *applier) ask(ctx context.Context, e *apply.Effect, keys []apply.Ref) (*apply.Reread, error) {
	answer, err := a.question(ctx, e, keys, "")
	if err != nil {
		return nil, err
	}
	large := answer.header.Large
	var known []apply.Ref
	for _, k := range keys {
		key := e.Batches[k.Batch].Key(int(k.Row))
		if !slices.ContainsFunc(large, func(l []byte) bool { return bytes.Equal(l, key) }) {
			known = append(known, k)
		}
	}
	if err := a.keep(e, known, answer.header.Coverage); err != nil {
		return nil, err
	}
	return &apply.Reread{Rows: answer.rows, Coverage: answer.header.Coverage, Large: large}, nil
}

// question asks for keys and waits for the first frame of the answer.
func (a *applier) question(ctx context.Context, e *apply.Effect, keys []apply.Ref, lane string) (*rereadAnswer, error) {
	need := &connectorv1.RereadNeeded{Table: e.Table.Index, SchemaVersion: e.Version, Seq: a.seq, Lane: lane}
	for _, k := range keys {
		need.KeyBytes = append(need.KeyBytes, bytes.Clone(e.Batches[k.Batch].Key(int(k.Row))))
	}
	var err error
	if need.Keys, err = keyStream(e, keys); err != nil {
		return nil, diag.Internal.New(tableWhere(e.Table), err, "")
	}
	err = a.respond(&connectorv1.ApplyResponse{Kind: &connectorv1.ApplyResponse_Reread{Reread: need}})
	if err != nil {
		return nil, err
	}
	answer, err := amid(ctx, a, a.rereads)
	if err != nil {
		return nil, err
	}
	if answer.header.Table != e.Table.Index || answer.header.Coverage == nil || answer.header.Lane != lane {
		return nil, diag.Internal.New(tableWhere(e.Table), nil, "the answer to a reread does not fit the question")
	}
	return answer, nil
}

// keep has the coverage of keys stored with the piece at hand.
func (a *applier) keep(e *apply.Effect, keys []apply.Ref, c *rowv1.Coverage) error {
	coverage, err := proto.Marshal(c)
	if err == nil && len(keys) > 0 {
		a.added = append(a.added, coverRows{e, keys, coverage})
	}
	return err
}

// amid waits for what the reader hands over while a round is under way. Rounds that were already on their way are set aside.
func amid[T any](ctx context.Context, a *applier, from <-chan T) (one T, err error) {
	for {
		select {
		case one = <-from:
			return one, nil
		case it, ok := <-a.items:
			if !ok {
				return one, diag.CallCancelled.New("target", nil, "the stream ended before rows were read again")
			}
			if it.err != nil {
				return one, it.err
			}
			a.waiting = append(a.waiting, it)
		case <-ctx.Done():
			return one, context.Cause(ctx)
		}
	}
}

// keyStream copies rows into a complete Arrow IPC stream.
func keyStream(e *apply.Effect, keys []apply.Ref) ([]byte, error) {
	schema := e.Batches[keys[0].Batch].Record().Schema()
	cols := make([]arrow.Array, schema.NumFields())
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	for i := range cols {
		var parts []arrow.Array
		for _, k := range keys {
			parts = append(parts, array.NewSlice(e.Batches[k.Batch].Record().Column(i), int64(k.Row), int64(k.Row)+1))
		}
		col, err := array.Concatenate(parts, memory.DefaultAllocator)
		for _, p := range parts {
			p.Release()
		}
		if err != nil {
			return nil, err
		}
		cols[i] = col
	}
	rec := array.NewRecordBatch(schema, cols, int64(len(keys)))
	defer rec.Release()
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(schema))
	if err := w.Write(rec); err != nil {
		return nil, err
	}
	return out.Bytes(), w.Close()
}
