package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc/mem"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/fault"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// readSettings make ranges be read through the key's index (or by page numbers) and never by a scan of the whole
// table; several readers work at once, so that no query needs workers of its own.
const readSettings = "SET LOCAL enable_seqscan = off; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off; "

// ReadChunks reads the chunks in one transaction, in order: from the named snapshot, or from an own one that sees all of
// the floor. It holds nothing afterwards; reading again gives other bytes only if the snapshot is another.
func (s *Source) ReadChunks(ctx context.Context, req *connectorv1.ReadChunksRequest, emit func(*sdk.Frame) error) error {
	tables := map[uint32]*rowv1.Table{}
	for _, t := range req.Tables {
		tables[t.Index] = t
	}
	for _, c := range req.Chunks {
		if tables[c.Table] == nil {
			return diag.Internal.New("source", nil, "chunk %d is of table %d, which the request does not describe", c.Id, c.Table)
		}
	}
	conn, err := s.snap.readers.take(ctx, s.cfg, "read")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var refused error // what emit said is the caller's own business and not the database's
	err = causeOf(ctx, s.readChunks(ctx, cancel, conn, req, tables, func(f *sdk.Frame) error {
		refused = emit(f)
		return refused
	}))
	s.snap.readers.give(conn, err)
	if refused != nil {
		return refused
	}
	return aboutTables(mapError(unreadable(err, tableNames(req.Tables)), tableNames(req.Tables)), req.Tables)
}

// unreadable tells rows that the server has and cannot give from everything else that may go wrong.
func unreadable(err error, where string) error {
	var pe *pgconn.PgError
	if diag.Find(err) == nil && errors.As(err, &pe) && (strings.HasPrefix(pe.Code, "22") || pe.Code == "XX001") {
		return diag.RowUnreadable.New(where, serverError{pe}, "")
	}
	return err
}

// aboutTables: what is said of a single table is about it.
func aboutTables(err error, tables []*rowv1.Table) error {
	if len(tables) != 1 {
		return err
	}
	return diag.About(err, tables[0].GetIndex())
}

func (s *Source) readChunks(ctx context.Context, cancel context.CancelCauseFunc, conn *pgx.Conn, req *connectorv1.ReadChunksRequest,
	tables map[uint32]*rowv1.Table, emit func(*sdk.Frame) error) error {
	coverage, err := beginRead(ctx, conn, req)
	if err != nil {
		return err
	}
	if err := fault.Point("read.before-copy"); err != nil {
		return err
	}
	if req.Snapshot == "" {
		// The holder of a shared snapshot keeps the locks anyway: giving way here would help nobody.
		defer s.giveWay(ctx, conn.PgConn().PID(), cancel)()
	}
	var sql strings.Builder
	sql.WriteString(readSettings)
	for _, c := range req.Chunks {
		t := tables[c.Table]
		one, err := copySQL(t, t.Source, c)
		if err != nil {
			return err
		}
		sql.WriteString(one + "; ")
	}
	r := chunkReader{pool: sdk.Payloads(ctx, payloadPool), chunks: req.Chunks, tables: tables, coverage: coverage, emit: emit}
	defer r.close()
	if err := newCopyStream(conn.PgConn()).run(ctx, sql.String(), r.begin, r.end); err != nil {
		return err
	}
	if err := fault.Point("read.after-copy"); err != nil {
		return err
	}
	_, err = script(ctx, conn, "COMMIT")
	return err
}

// beginRead starts the transaction and tells what its snapshot includes.
func beginRead(ctx context.Context, conn *pgx.Conn, req *connectorv1.ReadChunksRequest) (*rowv1.Coverage, error) {
	if req.Snapshot == "" {
		return snapshotAfter(ctx, conn, req.Tables, req.Floor)
	}
	cells, err := script(ctx, conn, importSQL(req.Snapshot)+snapshotSQL)
	if err != nil {
		return nil, err
	}
	coverage, err := coverageOf(cells[0], cells[1])
	if err == nil && !sdk.SeesAll(coverage, req.Floor.GetPending()) {
		err = diag.Internal.New("source", nil, "the shared snapshot is older than the floor")
	}
	return coverage, err
}

func importSQL(snapshot string) string {
	return "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT " + literal(snapshot) + "; "
}

// chunkReader turns the COPYs of one query into the frames of its chunks.
type chunkReader struct {
	pool     mem.BufferPool
	chunks   []*rowv1.Chunk
	tables   map[uint32]*rowv1.Table
	coverage *rowv1.Coverage
	emit     func(*sdk.Frame) error
	out      *copyOut
	arrow    *arrowRows // nil unless that is the lane
}

func (r *chunkReader) begin(n int) (*copyOut, error) {
	c := r.chunks[n]
	t := r.tables[c.Table]
	out := &copyOut{binary: !textLane(t), blanks: blanksOf(t), pool: r.pool}
	out.emit = func(b mem.Buffer) error {
		h := &rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkData{ChunkData: &rowv1.ChunkData{Chunk: c.Id, Native: out.raw}}}
		return r.emit(&sdk.Frame{Header: h, Payload: mem.BufferSlice{b}})
	}
	begin := &rowv1.ChunkBegin{Chunk: c.Id, Table: c.Table, Lane: sdk.LanePGCopyBinary}
	var schema []byte
	switch {
	case !out.binary:
		begin.Lane = sdk.LanePGCopyText
	case t.Lane == sdk.LaneArrow:
		rows, err := newArrowRows(t, out.send)
		if err != nil {
			return nil, err
		}
		begin.Lane, schema = sdk.LaneArrow, rows.enc.SchemaMessage()
		out.decode, out.decoded = rows.append, rows.flush
		r.arrow = rows
	}
	r.out = out
	return out, r.emit(sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkBegin{ChunkBegin: begin}}, schema))
}

func (r *chunkReader) end(n int) error {
	out := r.out
	result := &rowv1.ChunkResult{Chunk: r.chunks[n].Id, Rows: out.rows, Bytes: out.bytes, Digest: out.digest.Sum64(),
		RowSum: out.sum.bytes(), Coverage: r.coverage}
	r.close()
	return r.emit(&sdk.Frame{Header: &rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkEnd{ChunkEnd: &rowv1.ChunkEnd{Result: result}}}})
}

func (r *chunkReader) close() {
	if r.out != nil {
		r.out.close()
		r.out = nil
	}
	if r.arrow != nil {
		r.arrow.close()
		r.arrow = nil
	}
}
