package postgres

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// maxRereadSchema and maxRereadBatch bound what a request may make us read into memory.
const (
	maxRereadSchema = 4 << 20
	maxRereadBatch  = 64 << 20
)

// Reread reads the rows of single keys in one snapshot that sees all of the floor. Its coverage makes the answer a
// chunk of these keys (handover.md, partial images).
func (s *Source) Reread(ctx context.Context, req *connectorv1.RereadRequest, emit func(*sdk.Frame) error) error {
	where := streamWhere(req.GetTable())
	asked, err := keysAsked(req)
	if err != nil {
		return diag.Internal.New(where, err, "the keys to read again cannot be understood")
	}
	defer asked.Release()
	r, err := newRereader(req.GetTable(), asked)
	if err != nil {
		return err
	}
	conn, err := connect(ctx, s.cfg, "reread", connectorv1.Role_ROLE_SOURCE)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	coverage, err := snapshotAfter(ctx, conn, []*rowv1.Table{req.GetTable()}, req.GetFloor())
	if err != nil {
		return err
	}
	for row := range int(asked.NumRows()) {
		if err := r.read(ctx, conn, row); err != nil {
			return mapError(err, where)
		}
	}
	h := &rowv1.FrameHeader{Kind: &rowv1.FrameHeader_Reread{Reread: &rowv1.Reread{Table: req.GetTable().GetIndex(),
		SchemaVersion: req.GetSchemaVersion(), Keys: r.keys, Coverage: coverage}}}
	if r.table.rows == 0 {
		return emit(sdk.NewFrame(h, nil))
	}
	payload, err := r.table.batch()
	if err != nil {
		return diag.Internal.New(where, err, "")
	}
	return emit(sdk.NewPooledFrame(h, payload))
}

// keysAsked decodes the batch of a request.
func keysAsked(req *connectorv1.RereadRequest) (arrow.RecordBatch, error) {
	m := ipc.NewMessageReader(bytes.NewReader(req.GetKeys()), ipc.WithMetadataSizeLimit(maxRereadSchema), ipc.WithBodySizeLimit(maxRereadBatch))
	reader, err := ipc.NewReaderFromMessageReader(m)
	if err != nil {
		return nil, err
	}
	defer reader.Release()
	rec, err := reader.Read()
	if err != nil {
		return nil, err
	}
	want := sdk.RoundColumns + len(req.GetTable().GetColumns())
	if int(rec.NumCols()) != want || len(req.GetTable().GetKey()) == 0 {
		return nil, diag.Internal.New("", nil, "%d columns where the table has %d", rec.NumCols(), want)
	}
	rec.Retain()
	return rec, nil
}

type rereader struct {
	t       *rowv1.Table
	table   *streamTable
	asked   arrow.RecordBatch
	sql     string
	oids    []uint32
	formats []int16
	results []int16
	kind    byte
	keys    [][]byte
	vals    []wireValue
}

// newRereader builds the query and the layout, which is that of the rounds the keys come from.
func newRereader(t *rowv1.Table, asked arrow.RecordBatch) (*rereader, error) {
	r := &rereader{t: t, asked: asked, vals: make([]wireValue, len(t.GetColumns())), kind: valueBinary, results: []int16{1}}
	lane := sdk.LanePGValues
	for _, f := range asked.Schema().Fields()[sdk.RoundColumns:] {
		switch arrowio.NativeOf(f) {
		case "":
			lane = sdk.LaneArrow
		case arrowio.NativePGText:
			r.kind, r.results = valueText, []int16{0}
		}
	}
	var err error
	if r.table, err = newStreamTable(t, lane, r.kind == valueBinary); err != nil {
		return nil, err
	}
	cols := make([]string, len(t.GetColumns()))
	for i, c := range t.GetColumns() {
		cols[i] = ident(c.GetName())
	}
	var conds []string
	for i, k := range t.GetKey() {
		c := t.Columns[k]
		conds = append(conds, ident(c.GetName())+" = $"+strconv.Itoa(i+1))
		r.oids = append(r.oids, c.GetNativeId())
		format := int16(1)
		if arrowio.NativeOf(asked.Schema().Field(sdk.RoundColumns+int(k))) == arrowio.NativePGText {
			format = 0
		}
		r.formats = append(r.formats, format)
	}
	r.sql = "SELECT " + strings.Join(cols, ", ") + " FROM ONLY " + ident(t.GetSource().GetSchema(), t.GetSource().GetName()) +
		" WHERE " + strings.Join(conds, " AND ")
	return r, nil
}

// read adds the row of one key, if there is one.
func (r *rereader) read(ctx context.Context, conn *pgx.Conn, row int) error {
	key, ok := r.asked.Column(2).(*array.Binary)
	if !ok {
		return wrongArrow(r.asked.Column(2).DataType())
	}
	r.keys = append(r.keys, bytes.Clone(key.Value(row)))
	params := make([][]byte, len(r.t.GetKey()))
	for i, k := range r.t.GetKey() {
		col := r.asked.Column(sdk.RoundColumns + int(k))
		if col.IsNull(row) {
			return diag.Internal.New("", nil, "a key to read again holds NULL")
		}
		var codec valueCodec = rawCodec{}
		if arrowio.NativeOf(r.asked.Schema().Field(sdk.RoundColumns+int(k))) == "" {
			codec = codecFor(r.t.Columns[k])
		}
		var err error
		if params[i], err = codec.WriteBinary([]byte{}, col, row); err != nil {
			return err
		}
	}
	res := conn.PgConn().ExecParams(ctx, r.sql, params, r.oids, r.formats, r.results).Read()
	if res.Err != nil {
		return res.Err
	}
	if len(res.Rows) == 0 {
		return nil
	}
	for i, v := range res.Rows[0] {
		r.vals[i] = wireValue{kind: r.kind, data: v}
		if v == nil {
			r.vals[i].kind = valueNull
		}
	}
	return r.table.add(sdk.OpInsert, 0, r.vals, r.vals, false, -1)
}
