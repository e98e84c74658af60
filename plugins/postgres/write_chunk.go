package postgres

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/zeebo/xxh3"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// chunkWriter writes the chunks of one write_open frame.
type chunkWriter struct {
	sink    *Sink
	conn    *pgx.Conn
	pg      *pgconn.PgConn
	open    *rowv1.WriteOpen
	tables  map[uint32]*rowv1.Table
	stored  map[uint64]*rowv1.ChunkResult
	written []*rowv1.ChunkResult

	chunk  uint64 // the chunk between chunk_begin and chunk_end, when active
	active bool
	table  *rowv1.Table
	in     *copyIn // nil: the rows are at the target already
	sent   []sentCopy
	binary bool
	arrow  *arrowio.Decoder
	digest xxh3.Hasher
	bytes  int64
	grows  int // how many bytes of log one of the payload may become
	buf    []byte
}

var (
	copyHeader  = append(slices.Clone(copySignature), 0, 0, 0, 0, 0, 0, 0, 0)
	copyTrailer = []byte{0xff, 0xff}
)

func (w *chunkWriter) run(ctx context.Context, next func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error) {
	if err := w.begin(ctx); err != nil {
		return nil, mapError(err, "target › drover.chunk")
	}
	all := len(w.stored) == len(w.open.Chunks)
	if all {
		if err := drain(next); err != nil {
			return nil, err
		}
	} else if err := w.frames(ctx, next); err != nil {
		return nil, w.abort(err)
	}
	if err := w.commit(ctx); err != nil {
		var pe *pgconn.PgError
		coded := mapError(err, "target › drover.chunk")
		if errors.As(err, &pe) {
			coded = blame(coded, pe, w.open.Tables)
		}
		return nil, coded
	}
	return w.response(all)
}

// begin opens the transaction and puts up the fence of every chunk, below the pipeline's own. A session of an older
// epoch that still holds one of them is ended: its rows are not committed and never will be. The lock on the
// pipeline's row is what Recover waits for: what it then tells as written is complete.
func (w *chunkWriter) begin(ctx context.Context) error {
	if w.open.Epoch > 1<<62 {
		return diag.Internal.New("target › drover.chunk", nil, "epoch is out of range")
	}
	name := appName(w.open.Pipeline, whatWrite+strconv.FormatUint(w.open.Epoch, 10))
	if _, err := w.pg.Exec(ctx, "SET application_name = "+literal(name)+"; BEGIN").ReadAll(); err != nil {
		return err
	}
	r := rangesOf(w.open.Chunks)
	raised := 0
	err := w.sink.whileEnding(ctx, w.conn, w.open.Epoch, func() error {
		tag, err := w.conn.Exec(ctx, `WITH p AS (SELECT FROM drover.pipeline WHERE name = $1 AND fence <= $2 AND owner = $9 FOR SHARE)
			INSERT INTO drover.chunk AS c (pipeline, chunk, epoch, key_from, key_to, read_range, est_rows, est_bytes)
			SELECT $1, u.a, $2, u.b, u.c, u.d, u.e, u.f
			FROM p, unnest($3::bigint[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bigint[], $8::bigint[]) AS u(a, b, c, d, e, f)
			ON CONFLICT (pipeline, chunk) DO UPDATE SET epoch = excluded.epoch, key_from = excluded.key_from, key_to = excluded.key_to,
				read_range = excluded.read_range WHERE c.epoch <= excluded.epoch AND NOT c.written`,
			w.open.Pipeline, int64(w.open.Epoch), r.ids, r.from, r.to, r.read, r.rows, r.bytes, w.sink.cfg.Owner)
		raised = int(tag.RowsAffected())
		return err
	})
	if err != nil || raised == len(r.ids) {
		return err
	}
	return w.recallStored(ctx, r.ids, raised)
}

// recallStored explains why some chunks could not be fenced: they are written, or a newer epoch owns them or all.
func (w *chunkWriter) recallStored(ctx context.Context, ids []int64, raised int) error {
	rows, err := w.conn.Query(ctx, `SELECT chunk, rows, bytes, digest, row_sum, coverage FROM drover.chunk
		WHERE pipeline = $1 AND chunk = ANY ($2) AND written AND EXISTS (SELECT FROM drover.pipeline WHERE name = $1 AND owner = $3)`,
		w.open.Pipeline, ids, w.sink.cfg.Owner)
	if err != nil {
		return err
	}
	stored, err := pgx.CollectRows(rows, storedResult)
	if err != nil {
		return err
	}
	if raised+len(stored) < len(ids) {
		if err := w.sink.stillOurs(ctx, w.conn, w.open.Pipeline); err != nil {
			return err
		}
		return fencedOut("target › chunks of "+w.open.Pipeline, w.open.Epoch)
	}
	w.stored = map[uint64]*rowv1.ChunkResult{}
	for _, r := range stored {
		w.stored[r.Chunk] = r
	}
	return nil
}

func (w *chunkWriter) frames(ctx context.Context, next func() (*sdk.Frame, error)) error {
	for {
		f, err := next()
		if errors.Is(err, io.EOF) {
			return w.complete()
		}
		if err != nil {
			return err
		}
		err = w.frame(ctx, f)
		f.Free()
		if err != nil {
			return err
		}
	}
}

func (w *chunkWriter) frame(ctx context.Context, f *sdk.Frame) error {
	switch k := f.Header.GetKind().(type) {
	case *rowv1.FrameHeader_ChunkBegin:
		return w.chunkBegin(ctx, k.ChunkBegin, f)
	case *rowv1.FrameHeader_ChunkData:
		if !w.active || k.ChunkData.Chunk != w.chunk {
			return diag.Internal.New("target", nil, "data of a chunk that was not begun")
		}
		return w.data(f, k.ChunkData.Native)
	case *rowv1.FrameHeader_ChunkEnd:
		if !w.active || k.ChunkEnd.GetResult().GetChunk() != w.chunk {
			return diag.Internal.New("target", nil, "end of a chunk that was not begun")
		}
		return w.chunkEnd(k.ChunkEnd.Result)
	}
	return diag.Internal.New("target", nil, "unexpected frame in a write stream")
}

func (w *chunkWriter) chunkBegin(ctx context.Context, b *rowv1.ChunkBegin, f *sdk.Frame) error {
	known := slices.ContainsFunc(w.open.Chunks, func(c *rowv1.Chunk) bool { return c.Id == b.Chunk })
	table := w.tables[b.Table]
	if w.active || !known || table == nil {
		return diag.Internal.New("target", nil, "chunk %d was not announced", b.Chunk)
	}
	w.active, w.chunk, w.table, w.bytes, w.grows = true, b.Chunk, table, 0, 1
	if blanksOf(table) != nil {
		w.grows = 4
	}
	w.digest.Reset()
	if w.stored[b.Chunk] != nil {
		return nil
	}
	format, columns := "binary", ""
	w.binary = b.Lane != sdk.LanePGCopyText
	switch b.Lane {
	case sdk.LanePGCopyBinary:
	case sdk.LanePGCopyText:
		format = "text"
	case sdk.LaneArrow:
		dec, err := arrowio.NewDecoder(f.Bytes())
		if err != nil {
			return diag.Internal.New(tableWhere(table), err, "")
		}
		w.arrow = dec
	default:
		return diag.Internal.New(tableWhere(table), nil, "lane %q is not known", b.Lane)
	}
	if len(table.Columns) > 0 {
		columns = " (" + columnList(table) + ")"
	}
	var last *copyIn
	if n := len(w.sent); n > 0 {
		last = w.sent[n-1].in
	}
	in, err := beginCopy(ctx, w.pg, "COPY "+targetName(table)+columns+" FROM STDIN (FORMAT "+format+")", last)
	if err != nil {
		return copyError(table, err)
	}
	w.in = in
	if w.binary {
		return in.writeBytes(copyHeader)
	}
	return nil
}

func (w *chunkWriter) data(f *sdk.Frame, native bool) error {
	if w.in == nil {
		return nil
	}
	for _, b := range f.Payload {
		_, _ = w.digest.Write(b.ReadOnlyData())
	}
	w.bytes += int64(f.Payload.Len())
	w.sink.flusher.wrote(w.grows * f.Payload.Len())
	if w.arrow == nil || native {
		return w.in.write(f.Payload)
	}
	rec, err := w.arrow.Decode(f.Bytes())
	if err != nil {
		return diag.Internal.New(tableWhere(w.table), err, "")
	}
	defer rec.Release()
	if w.buf, err = encodeTuples(w.buf[:0], w.table, rec); err != nil {
		return err
	}
	return w.in.writeBytes(w.buf)
}

func (w *chunkWriter) response(all bool) (*connectorv1.WriteChunksResponse, error) {
	resp := &connectorv1.WriteChunksResponse{AlreadyWritten: all}
	byID := map[uint64]*rowv1.ChunkResult{}
	for _, r := range w.written {
		byID[r.Chunk] = r
	}
	for _, c := range w.open.Chunks {
		r := byID[c.Id]
		if r == nil {
			r = w.stored[c.Id]
		}
		resp.Results = append(resp.Results, r)
	}
	return resp, nil
}
