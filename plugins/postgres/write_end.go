package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/fault"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// sentCopy is a chunk that was sent whole, and whose COPY the server may still be busy with.
type sentCopy struct {
	in     *copyIn
	table  *rowv1.Table
	result *rowv1.ChunkResult
}

// chunkEnd compares what was read with what arrived, and goes on with the next chunk before the server has answered:
// many small tables must not cost a round trip each.
func (w *chunkWriter) chunkEnd(r *rowv1.ChunkResult) error {
	w.active = false
	if w.in == nil {
		return nil
	}
	if w.arrow != nil {
		w.arrow.Release()
		w.arrow = nil
	}
	if d := w.digest.Sum64(); d != r.Digest || w.bytes != r.Bytes {
		return diag.CountDiffers.New(tableWhere(w.table), nil, "the bytes that arrived are not those that were sent (%d of %d)", w.bytes, r.Bytes)
	}
	if w.binary {
		if err := w.in.writeBytes(copyTrailer); err != nil {
			return err
		}
	}
	if err := w.in.end(); err != nil {
		return err
	}
	w.sent = append(w.sent, sentCopy{w.in, w.table, r})
	w.in = nil
	return nil
}

// settle waits for the server's answers; a count that differs keeps the transaction from committing.
func (w *chunkWriter) settle() error {
	for _, s := range w.sent {
		rows, err := s.in.result()
		if err != nil {
			return copyError(s.table, err)
		}
		if rows != s.result.Rows {
			return diag.About(diag.CountDiffers.New(tableWhere(s.table), nil, "%d rows read, %d rows written", s.result.Rows, rows), s.table.GetIndex())
		}
		w.written = append(w.written, s.result)
	}
	return nil
}

// abort ends what is under way and returns the reason: the first COPY that the server refused, because those after it
// fail for no reason of their own; else cause.
func (w *chunkWriter) abort(cause error) error {
	if w.in != nil {
		cause = copyError(w.table, w.in.abort(cause))
	}
	var first error
	for _, s := range w.sent { // all of them: the session may not be closed while somebody listens to it
		if _, err := s.in.result(); err != nil && first == nil {
			first = copyError(s.table, err)
		}
	}
	if first != nil {
		return first
	}
	return cause
}

func (w *chunkWriter) complete() error {
	if err := w.settle(); err != nil {
		return err
	}
	if w.active || len(w.written)+len(w.stored) != len(w.open.Chunks) {
		return diag.Internal.New("target", nil, "the stream ended after %d of %d chunks", len(w.written)+len(w.stored), len(w.open.Chunks))
	}
	return nil
}

// commit stores the results and ends the transaction in one round trip.
func (w *chunkWriter) commit(ctx context.Context) error {
	if len(w.written) == 0 {
		_, err := w.conn.Exec(ctx, "ROLLBACK")
		return err
	}
	var ids, rows, bytes, digests []int64
	var sums, coverages [][]byte
	for _, r := range w.written {
		var coverage []byte
		if r.Coverage != nil {
			var err error
			if coverage, err = proto.Marshal(r.Coverage); err != nil {
				return err
			}
		}
		ids, rows, bytes, digests = append(ids, int64(r.Chunk)), append(rows, r.Rows), append(bytes, r.Bytes), append(digests, int64(r.Digest))
		sums, coverages = append(sums, r.RowSum), append(coverages, coverage)
	}
	batch := &pgx.Batch{}
	batch.Queue(`UPDATE drover.chunk SET written = true, rows = u.b, bytes = u.c, digest = u.d, row_sum = u.e, coverage = u.f
		FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[], $8::bytea[]) AS u(a, b, c, d, e, f)
		WHERE pipeline = $1 AND chunk = u.a AND epoch = $2`, w.open.Pipeline, int64(w.open.Epoch), ids, rows, bytes, digests, sums, coverages)
	batch.Queue("COMMIT")
	if err := fault.Point("write.before-commit"); err != nil {
		return err
	}
	return errors.Join(w.conn.SendBatch(ctx, batch).Close(), fault.Point("write.after-commit"))
}
