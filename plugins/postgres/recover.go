package postgres

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/fault"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Recover tells what the target holds of a pipeline and, when req.Epoch is not 0, raises its fence: once it returns,
// nothing of an older epoch can be committed by Apply or WriteChunks. Idempotent; an older epoch is FencedOut.
func (s *Sink) Recover(ctx context.Context, req *connectorv1.RecoverRequest) (*connectorv1.RecoverResponse, error) {
	conn, err := connect(ctx, s.cfg, "recover", connectorv1.Role_ROLE_SINK)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if req.Create {
		if err := s.ensureBookkeeping(ctx, conn); err != nil {
			return nil, err
		}
	} else if found, err := bookkeepingFound(ctx, conn); err != nil || !found {
		return &connectorv1.RecoverResponse{}, mapError(err, "target › schema drover")
	}
	resp := &connectorv1.RecoverResponse{}
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM drover.pipeline WHERE name = $1)`, req.Pipeline).Scan(&resp.Found); err != nil {
		return nil, mapError(err, "target › drover.pipeline")
	}
	if req.Create || req.Epoch > 0 {
		if err := fault.Point("recover.before-fence"); err != nil {
			return nil, err
		}
		if err := errors.Join(s.fence(ctx, conn, req), fault.Point("recover.after-fence")); err != nil {
			return nil, err
		}
	}
	if err := recall(ctx, conn, req.Pipeline, resp); err != nil || !req.Chunks {
		return resp, err
	}
	resp.Chunks, err = recallChunks(ctx, conn, req.Pipeline)
	return resp, err
}

// fence stores the epoch unless a newer one is there. Writers of chunks share a lock on the pipeline's row until they
// commit, so raising its fence waits for them; sessions of an older epoch that hold it up are ended.
func (s *Sink) fence(ctx context.Context, conn *pgx.Conn, req *connectorv1.RecoverRequest) error {
	if req.Epoch > math.MaxInt64 {
		return diag.Internal.New("target › drover.stream", nil, "epoch is out of range")
	}
	err := keepMemo(ctx, conn, req.Pipeline, req.Memo)
	if err != nil || req.Epoch == 0 {
		return mapError(err, "target › drover.pipeline")
	}
	var initial []byte
	if len(req.InitialPosition) > 0 {
		initial = req.InitialPosition
	}
	var held int64
	err = s.whileEnding(ctx, conn, req.Epoch, func() error {
		err := conn.QueryRow(ctx, `INSERT INTO drover.stream AS s (pipeline, epoch, position) VALUES ($1, $2, $3)
			ON CONFLICT (pipeline) DO UPDATE SET epoch = excluded.epoch, updated = now(),
				position = coalesce(s.position, excluded.position)
			WHERE s.epoch <= excluded.epoch RETURNING s.epoch`, req.Pipeline, int64(req.Epoch), initial).Scan(&held)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "UPDATE drover.pipeline SET fence = $2 WHERE name = $1 AND fence < $2", req.Pipeline, int64(req.Epoch))
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return fencedOut("target › stream of "+req.Pipeline, req.Epoch)
	}
	return mapError(err, "target › drover.stream")
}

// execer is a session or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// keepMemo makes sure that the pipeline is known, and stores the memo when there is one.
func keepMemo(ctx context.Context, conn execer, pipeline string, memo []byte) error {
	_, err := conn.Exec(ctx, `INSERT INTO drover.pipeline (name, version) VALUES ($1, $2) ON CONFLICT DO NOTHING`, pipeline, bookkeepingVersion)
	if err == nil && len(memo) > 0 {
		_, err = conn.Exec(ctx, `UPDATE drover.pipeline SET memo = $2 WHERE name = $1`, pipeline, memo)
	}
	return err
}

// recall reads position, epochs, memo and finished chunks.
func recall(ctx context.Context, conn *pgx.Conn, pipeline string, resp *connectorv1.RecoverResponse) error {
	err := conn.QueryRow(ctx, `SELECT coalesce(s.epoch, 0), coalesce(s.position, ''), coalesce(p.memo, ''),
			greatest(coalesce(s.epoch, 0), coalesce((SELECT max(epoch) FROM drover.chunk WHERE pipeline = $1), 0))
		FROM (SELECT $1::text AS name) n LEFT JOIN drover.stream s ON s.pipeline = n.name
			LEFT JOIN drover.pipeline p ON p.name = n.name`, pipeline).
		Scan(&resp.Epoch, &resp.Position, &resp.Memo, &resp.MaxEpoch)
	if err != nil {
		return mapError(err, "target › drover.stream")
	}
	rows, err := conn.Query(ctx, `SELECT chunk, rows, bytes, digest, row_sum, coverage FROM drover.chunk
		WHERE pipeline = $1 AND written ORDER BY chunk`, pipeline)
	if err != nil {
		return mapError(err, "target › drover.chunk")
	}
	if resp.Written, err = pgx.CollectRows(rows, storedResult); err != nil {
		return mapError(err, "target › drover.chunk")
	}
	resp.Aside, err = recallAside(ctx, conn, pipeline)
	return mapError(err, "target › drover.aside")
}

// recallChunks reads the ranges of all chunks, written or planned.
func recallChunks(ctx context.Context, conn *pgx.Conn, pipeline string) ([]*rowv1.Chunk, error) {
	rows, err := conn.Query(ctx, `SELECT chunk, key_from, key_to, read_range, coalesce(est_rows, 0), coalesce(est_bytes, 0)
		FROM drover.chunk WHERE pipeline = $1 ORDER BY chunk`, pipeline)
	if err != nil {
		return nil, mapError(err, "target › drover.chunk")
	}
	chunks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*rowv1.Chunk, error) {
		c, id := &rowv1.Chunk{Keys: &rowv1.KeyRange{}}, int64(0)
		err := row.Scan(&id, &c.Keys.From, &c.Keys.To, &c.ReadRange, &c.EstimatedRows, &c.EstimatedBytes)
		c.Id, c.Table = uint64(id), sdk.ChunkTable(uint64(id))
		return c, err
	})
	return chunks, mapError(err, "target › drover.chunk")
}

func storedResult(row pgx.CollectableRow) (*rowv1.ChunkResult, error) {
	r := &rowv1.ChunkResult{}
	var chunk, digest int64
	var coverage []byte
	if err := row.Scan(&chunk, &r.Rows, &r.Bytes, &digest, &r.RowSum, &coverage); err != nil {
		return nil, err
	}
	r.Chunk, r.Digest = uint64(chunk), uint64(digest)
	if len(coverage) > 0 {
		r.Coverage = &rowv1.Coverage{}
		return r, proto.Unmarshal(coverage, r.Coverage)
	}
	return r, nil
}

// Reset empties tables and forgets their chunks in one transaction, and stores memo and plan when they are given.
// The epoch must not be older than the stream's.
func (s *Sink) Reset(ctx context.Context, req *connectorv1.ResetRequest) (*connectorv1.ResetResponse, error) {
	conn, err := connect(ctx, s.cfg, "reset", connectorv1.Role_ROLE_SINK)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := s.ensureBookkeeping(ctx, conn); err != nil {
		return nil, err
	}
	resp := &connectorv1.ResetResponse{}
	err = s.whileEnding(ctx, conn, req.Epoch, func() error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return reset(ctx, tx, req, resp) })
	})
	return resp, mapError(err, "target")
}

func reset(ctx context.Context, tx pgx.Tx, req *connectorv1.ResetRequest, resp *connectorv1.ResetResponse) error {
	var newer bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM drover.stream WHERE pipeline = $1 AND epoch > $2 FOR UPDATE)`,
		req.Pipeline, int64(req.Epoch)).Scan(&newer)
	if err != nil {
		return err
	}
	if newer && req.Epoch > 0 {
		return fencedOut("target › stream of "+req.Pipeline, req.Epoch)
	}
	if err := resetTables(ctx, tx, req, resp); err != nil {
		return err
	}
	if err := setAside(ctx, tx, req); err != nil {
		return err
	}
	if err := keepMemo(ctx, tx, req.Pipeline, req.Memo); err != nil || len(req.Plan) == 0 {
		return err
	}
	r := rangesOf(req.Plan)
	if _, err := tx.Exec(ctx, `DELETE FROM drover.chunk WHERE pipeline = $1 AND NOT written AND chunk >> 32 IN (SELECT DISTINCT c >> 32 FROM unnest($2::bigint[]) AS c)`,
		req.Pipeline, r.ids); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO drover.chunk (pipeline, chunk, epoch, key_from, key_to, read_range, est_rows, est_bytes)
		SELECT $1, a, $2, b, c, d, e, f FROM unnest($3::bigint[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bigint[], $8::bigint[]) AS u(a, b, c, d, e, f)
		ON CONFLICT DO NOTHING`, req.Pipeline, int64(req.Epoch), r.ids, r.from, r.to, r.read, r.rows, r.bytes)
	return err
}

// resetTables empties the tables that exist, and forgets what was loaded and read again of them.
func resetTables(ctx context.Context, tx pgx.Tx, req *connectorv1.ResetRequest, resp *connectorv1.ResetResponse) error {
	var rels []relation
	for _, t := range req.Tables {
		r, err := relationOf(ctx, tx.Conn().PgConn(), t)
		if err == nil && req.Fit {
			err = fits(ctx, tx, r, req.Retyped)
		}
		if err != nil {
			return diag.About(err, t.Index)
		}
		if r.oid != 0 {
			rels = append(rels, r)
		}
		if err := forget(ctx, tx, req.Pipeline, t.Index); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM drover.aside WHERE pipeline = $1 AND tbl = $2", req.Pipeline, int64(t.Index)); err != nil {
			return err
		}
		if unique, err := otherUnique(ctx, tx, r); err != nil {
			return err
		} else if unique {
			resp.Unique = append(resp.Unique, t.Index)
		}
	}
	return emptyTables(ctx, tx.Conn().PgConn(), rels, false)
}

// forget drops what was loaded and read again of a table.
func forget(ctx context.Context, tx pgx.Tx, pipeline string, table uint32) error {
	for _, sql := range []string{"DELETE FROM drover.chunk WHERE pipeline = $1 AND chunk >> 32 = $2", "DELETE FROM drover.key_coverage WHERE pipeline = $1 AND tbl = $2"} {
		if _, err := tx.Exec(ctx, sql, pipeline, int64(table)); err != nil {
			return err
		}
	}
	return nil
}

// ranges are chunks as columns.
type ranges struct {
	ids, rows, bytes []int64
	from, to, read   [][]byte
}

// rangesOf orders chunks by id, so that sessions that lock several never wait for each other in a circle.
func rangesOf(chunks []*rowv1.Chunk) ranges {
	var r ranges
	for _, c := range slices.SortedFunc(slices.Values(chunks), func(a, b *rowv1.Chunk) int { return cmp.Compare(a.Id, b.Id) }) {
		r.ids, r.rows, r.bytes = append(r.ids, int64(c.Id)), append(r.rows, c.EstimatedRows), append(r.bytes, c.EstimatedBytes)
		r.from, r.to, r.read = append(r.from, c.Keys.GetFrom()), append(r.to, c.Keys.GetTo()), append(r.read, c.ReadRange)
	}
	return r
}

// Release forgets the pipeline at the target, and the schema drover with the last one. Rows stay.
func (s *Sink) Release(ctx context.Context, req *connectorv1.ReleaseRequest) (*connectorv1.ReleaseResponse, error) {
	conn, err := connect(ctx, s.cfg, "release", connectorv1.Role_ROLE_SINK)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	resp := &connectorv1.ReleaseResponse{}
	if found, err := bookkeepingFound(ctx, conn); err != nil || !found {
		return resp, mapError(err, "target › schema drover")
	}
	if err := s.ensureBookkeeping(ctx, conn); err != nil {
		return nil, err
	}
	s.tokens.mu.Lock()
	s.tokens.made = false
	s.tokens.mu.Unlock()
	if err := fault.Point("tokens.before-drop"); err != nil {
		return nil, err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return release(ctx, tx, req.Pipeline, resp) })
	return resp, errors.Join(mapError(err, "target › schema drover"), fault.Point("tokens.after-drop"))
}

// tokenTables are what the target keeps of pipelines, and the column that names one; the pipeline itself comes last.
var tokenTables = []struct{ name, pipeline string }{{"stream", "pipeline"}, {"chunk", "pipeline"}, {"step", "pipeline"},
	{"key_coverage", "pipeline"}, {"aside", "pipeline"}, {"pipeline", "name"}}

func release(ctx context.Context, tx pgx.Tx, pipeline string, resp *connectorv1.ReleaseResponse) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(bookkeepingLock)); err != nil {
		return err
	}
	known := false
	for _, t := range tokenTables {
		tag, err := tx.Exec(ctx, "DELETE FROM drover."+t.name+" WHERE "+t.pipeline+" = $1", pipeline)
		if err != nil {
			return err
		}
		known = tag.RowsAffected() > 0 // of the last one, the pipeline itself
	}
	if known {
		resp.Removed = append(resp.Removed, "tokens of pipeline "+pipeline)
	}
	var left bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM drover.pipeline)").Scan(&left); err != nil || left {
		return err
	}
	if _, err := tx.Exec(ctx, "DROP SCHEMA drover CASCADE"); err != nil {
		return err
	}
	resp.Removed = append(resp.Removed, "schema drover")
	return nil
}

// targetName is the quoted name of a table at the target.
func targetName(t *rowv1.Table) string {
	return ident(t.GetTarget().GetSchema(), t.GetTarget().GetName())
}

func tableWhere(t *rowv1.Table) string {
	return "target › table " + t.GetTarget().GetSchema() + "." + t.GetTarget().GetName()
}
