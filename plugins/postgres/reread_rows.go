package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/mem"

	"github.com/droverdb/drover/internal/fault"
	"github.com/droverdb/drover/plugins/sdk"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// sendRows answers with the rows of all keys as one COPY in the snapshot that conn has open: a row of any size passes in
// pieces, as in a load. It gives way to whoever waits for the table.
func (s *Source) sendRows(ctx context.Context, conn *pgx.Conn, r *rereader, h *rowv1.Reread, emit func(*sdk.Frame) error) error {
	where := streamWhere(r.t)
	places, err := r.places(ctx, conn)
	if err != nil {
		return mapError(unreadable(err, where), where)
	}
	h.Keys = r.keys
	if err := emit(sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_Reread{Reread: h}}, nil)); err != nil {
		return err
	}
	if err := fault.Point("reread.before-rows"); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer s.giveWay(ctx, conn.PgConn().PID(), cancel)()
	out := &copyOut{binary: h.Lane != sdk.LanePGCopyText, pool: payloadPool}
	defer out.close()
	var refused error
	out.emit = func(b mem.Buffer) error {
		refused = emit(sdk.NewPooledFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkData{ChunkData: &rowv1.ChunkData{}}}, b))
		return refused
	}
	if len(places) > 0 {
		err = newCopyStream(conn.PgConn()).run(ctx, r.copySQL(places, out.binary), func(int) (*copyOut, error) { return out, nil },
			func(int) error { return nil })
	}
	if refused != nil {
		return refused
	}
	if err != nil {
		return mapError(unreadable(causeOf(ctx, err), where), where)
	}
	if err := fault.Point("reread.after-rows"); err != nil {
		return err
	}
	end := &rowv1.ChunkEnd{Result: &rowv1.ChunkResult{Rows: out.rows, Bytes: out.bytes, Digest: out.digest.Sum64()}}
	return emit(sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkEnd{ChunkEnd: end}}, nil))
}

// places are where the snapshot has the rows: COPY takes no parameters, and a place needs no quoting. A key without a row
// has none.
func (r *rereader) places(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	var places []string
	for row := range int(r.asked.NumRows()) {
		key, params, err := r.key(row)
		if err != nil {
			return nil, err
		}
		r.keys = append(r.keys, key)
		res := conn.PgConn().ExecParams(ctx, "SELECT ctid::text"+r.where, params, r.oids, r.formats, nil).Read()
		if res.Err != nil {
			return nil, res.Err
		}
		for _, found := range res.Rows {
			places = append(places, `"`+string(found[0])+`"`)
		}
	}
	return places, nil
}

func (r *rereader) copySQL(places []string, binary bool) string {
	format := "text"
	if binary {
		format = "binary"
	}
	return "COPY (SELECT " + columnList(r.t) + " FROM ONLY " + ident(r.t.GetSource().GetSchema(), r.t.GetSource().GetName()) +
		" WHERE ctid = ANY (" + literal("{"+strings.Join(places, ",")+"}") + "::tid[])) TO STDOUT (FORMAT " + format + ")"
}
