package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
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

// maxRereadSchema and maxRereadBatch bound what a request may make us read into memory, maxRereadRow and maxReread
// the rows of an answer in one frame.
const (
	maxRereadSchema = 4 << 20
	maxRereadBatch  = 64 << 20
	maxRereadRow    = 4 << 20
	maxReread       = 16 << 20
)

// Reread reads the rows of single keys in one snapshot that sees all of the floor. Its coverage makes the answer a
// chunk of these keys (handover.md, partial images). Rows that are too large for a frame are named, and have to be asked
// for as a stream.
func (s *Source) Reread(ctx context.Context, req *connectorv1.RereadRequest, emit func(*sdk.Frame) error) error {
	return diag.About(s.reread(ctx, req, emit), req.GetTable().GetIndex())
}

func (s *Source) reread(ctx context.Context, req *connectorv1.RereadRequest, emit func(*sdk.Frame) error) error {
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
	h := &rowv1.Reread{Table: req.GetTable().GetIndex(), SchemaVersion: req.GetSchemaVersion(), Coverage: coverage, Lane: req.GetLane()}
	if req.GetLane() != "" {
		return s.sendRows(ctx, conn, r, h, emit)
	}
	for row := range int(asked.NumRows()) {
		if err := r.read(ctx, conn, row); err != nil {
			return mapError(unreadable(err, where), where)
		}
	}
	h.Keys, h.Large = r.keys, r.large
	header := &rowv1.FrameHeader{Kind: &rowv1.FrameHeader_Reread{Reread: h}}
	if r.table.rows == 0 {
		return emit(sdk.NewFrame(header, nil))
	}
	payload, err := r.table.batch()
	if err != nil {
		return diag.Internal.New(where, err, "")
	}
	return emit(sdk.NewPooledFrame(header, payload))
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
	where   string // the condition for one key
	oids    []uint32
	formats []int16
	kind    byte
	keys    [][]byte
	large   [][]byte
	bytes   int
	vals    []wireValue
}

// newRereader builds the query and the layout, which is that of the rounds the keys come from.
func newRereader(t *rowv1.Table, asked arrow.RecordBatch) (*rereader, error) {
	r := &rereader{t: t, asked: asked, vals: make([]wireValue, len(t.GetColumns())), kind: valueBinary}
	lane := sdk.LanePGValues
	for _, f := range asked.Schema().Fields()[sdk.RoundColumns:] {
		switch arrowio.NativeOf(f) {
		case "":
			lane = sdk.LaneArrow
		case arrowio.NativePGText:
			r.kind = valueText
		}
	}
	var err error
	if r.table, err = newStreamTable(t, lane, r.kind == valueBinary); err != nil {
		return nil, err
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
	r.where = " FROM ONLY " + ident(t.GetSource().GetSchema(), t.GetSource().GetName()) + " WHERE " + strings.Join(conds, " AND ")
	return r, nil
}

// rowSQL reads a row unless it is too large: its values then stay where they are. OFFSET keeps the sum from being
// worked out anew for every column.
func (r *rereader) rowSQL() (sql string, results []int16) {
	limit := strconv.Itoa(maxRereadRow)
	var inner, sizes, out []string
	results = []int16{1}
	for i, c := range r.t.GetColumns() {
		inner = append(inner, fmt.Sprintf("%s AS c%d", ident(c.GetName()), i))
		sizes = append(sizes, sizeSQL(ident(c.GetName()), c.GetNativeId()))
		out = append(out, fmt.Sprintf("CASE WHEN size <= %s THEN c%d END", limit, i))
		results = append(results, map[byte]int16{valueText: 0, valueBinary: 1}[r.kind])
	}
	return "SELECT size, " + strings.Join(out, ", ") + " FROM (SELECT " + strings.Join(inner, ", ") + ", " +
		strings.Join(sizes, " + ") + " AS size" + r.where + " OFFSET 0) AS r", results
}

// sizeSQL tells about how large a value is without fetching it. A value of another type than letters and bytes tells only
// how much it takes compressed; what is in doubt counts as large.
func sizeSQL(value string, oid uint32) string {
	switch oid {
	case oidBytea, oidText, oidVarchar, oidBPChar:
		return "coalesce(octet_length(" + value + "), 0)::bigint"
	}
	return "coalesce(pg_column_size(" + value + "), 0)::bigint * " + strconv.Itoa(compression)
}

// compression is what pglz and lz4 seldom exceed with documents and arrays.
const compression = 16

// read adds the row of one key, if there is one.
func (r *rereader) read(ctx context.Context, conn *pgx.Conn, row int) error {
	key, params, err := r.key(row)
	if err != nil {
		return err
	}
	sql, results := r.rowSQL()
	res := conn.PgConn().ExecParams(ctx, sql, params, r.oids, r.formats, results).Read()
	if res.Err != nil {
		return res.Err
	}
	if len(res.Rows) == 1 {
		size := binary.BigEndian.Uint64(res.Rows[0][0])
		if size > maxRereadRow || r.bytes > maxReread {
			r.large = append(r.large, key)
			return nil
		}
		r.bytes += int(size)
	}
	r.keys = append(r.keys, key)
	if len(res.Rows) == 0 {
		return nil
	}
	for i, v := range res.Rows[0][1:] {
		r.vals[i] = wireValue{kind: r.kind, data: v}
		if v == nil {
			r.vals[i].kind = valueNull
		}
	}
	return r.table.add(sdk.OpInsert, 0, r.vals, r.vals, false, -1)
}

// key returns the bytes and the parameters of a key that is asked for.
func (r *rereader) key(row int) ([]byte, [][]byte, error) {
	key, ok := r.asked.Column(2).(*array.Binary)
	if !ok {
		return nil, nil, wrongArrow(r.asked.Column(2).DataType())
	}
	params := make([][]byte, len(r.t.GetKey()))
	for i, k := range r.t.GetKey() {
		col := r.asked.Column(sdk.RoundColumns + int(k))
		if col.IsNull(row) {
			return nil, nil, diag.Internal.New("", nil, "a key to read again holds NULL")
		}
		var codec valueCodec = rawCodec{}
		if arrowio.NativeOf(r.asked.Schema().Field(sdk.RoundColumns+int(k))) == "" {
			codec = codecFor(r.t.Columns[k])
		}
		var err error
		if params[i], err = codec.WriteBinary([]byte{}, col, row); err != nil {
			return nil, nil, err
		}
	}
	return bytes.Clone(key.Value(row)), params, nil
}
