package postgres

import (
	"context"
	"strings"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// sumBatch is how many tables are summed in one round trip.
const sumBatch = 64

// Sum reads whole tables, or one chunk of one, in COPY's own encoding whatever the lane of the table is:
// so it also proves that Arrow carried every value unchanged.
func (s *Source) Sum(ctx context.Context, req *connectorv1.SumRequest) (*connectorv1.SumResponse, error) {
	return sum(ctx, s.cfg, &s.snap.readers, req, (*rowv1.Table).GetSource)
}

// Sum is the source's Sum over the target's tables.
func (s *Sink) Sum(ctx context.Context, req *connectorv1.SumRequest) (*connectorv1.SumResponse, error) {
	return sum(ctx, s.cfg, &s.sums, req, (*rowv1.Table).GetTarget)
}

func sum(ctx context.Context, cfg Config, pool *readers, req *connectorv1.SumRequest, ref func(*rowv1.Table) *rowv1.TableRef) (*connectorv1.SumResponse, error) {
	tables := req.Tables
	if req.Table != nil {
		tables = []*rowv1.Table{req.Table}
	}
	if req.Chunk != nil && len(tables) != 1 {
		return nil, diag.Internal.New("connector", nil, "the sum of a chunk needs its table")
	}
	conn, err := pool.take(ctx, cfg, "compare")
	if err != nil {
		return nil, err
	}
	resp := &connectorv1.SumResponse{}
	err = func() error {
		begin := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
		if req.Snapshot != "" {
			begin = importSQL(req.Snapshot)
		}
		if _, err := script(ctx, conn, begin); err != nil {
			return err
		}
		stream := newCopyStream(conn.PgConn())
		for at := 0; at < len(tables); at += sumBatch {
			sums, err := sumTables(ctx, stream, tables[at:min(at+sumBatch, len(tables))], req.Chunk, ref)
			if err != nil {
				return err
			}
			resp.Sums = append(resp.Sums, sums...)
		}
		_, err := script(ctx, conn, "COMMIT")
		return err
	}()
	pool.give(conn, err)
	if err != nil {
		return nil, mapError(err, sumPlace(tables, ref))
	}
	return resp, nil
}

func sumPlace(tables []*rowv1.Table, ref func(*rowv1.Table) *rowv1.TableRef) string {
	if len(tables) != 1 {
		return "tables"
	}
	return "table " + ref(tables[0]).GetSchema() + "." + ref(tables[0]).GetName()
}

func sumTables(ctx context.Context, stream *copyStream, tables []*rowv1.Table, chunk *rowv1.Chunk, ref func(*rowv1.Table) *rowv1.TableRef) ([]*connectorv1.SumResponse_One, error) {
	var sql strings.Builder
	sql.WriteString(readSettings)
	for _, t := range tables {
		one, err := copySQL(t, ref(t), chunk)
		if err != nil {
			return nil, err
		}
		sql.WriteString(one + "; ")
	}
	var sums []*connectorv1.SumResponse_One
	var out *copyOut
	err := stream.run(ctx, sql.String(), func(n int) (*copyOut, error) {
		out = &copyOut{binary: !textLane(tables[n]), blanks: blanksOf(tables[n])}
		return out, nil
	}, func(n int) error {
		sums = append(sums, &connectorv1.SumResponse_One{Table: tables[n].Index, Rows: out.rows, RowSum: out.sum.bytes()})
		return nil
	})
	return sums, err
}
