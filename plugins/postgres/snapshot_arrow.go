package postgres

import (
	"encoding/binary"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/mem"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const (
	// arrowBatchBytes of COPY make one record batch, or arrowBatchRows, whichever comes first.
	arrowBatchBytes = 1 << 20
	arrowBatchRows  = 64 << 10
)

// arrowRows turns binary COPY tuples into record batches of the lattice's types.
type arrowRows struct {
	table  *rowv1.Table
	enc    *arrowio.Encoder
	build  *array.RecordBuilder
	codecs []valueCodec
	send   func(mem.Buffer) error
	rows   int
	bytes  int
}

func newArrowRows(t *rowv1.Table, send func(mem.Buffer) error) (*arrowRows, error) {
	a := &arrowRows{table: t, send: send}
	var fields []arrow.Field
	for _, c := range t.Columns {
		fields = append(fields, arrowField(c))
		a.codecs = append(a.codecs, codecFor(c))
	}
	schema := arrow.NewSchema(fields, nil)
	enc, err := arrowio.NewEncoder(schema)
	if err != nil {
		return nil, diag.Internal.New(chunkTable(t), err, "")
	}
	a.enc = enc
	a.build = array.NewRecordBuilder(memory.DefaultAllocator, schema)
	return a, nil
}

// append takes one tuple: the number of fields, then each with its length before it; -1 is NULL.
func (a *arrowRows) append(row []byte) error {
	if len(row) < 2 || int(binary.BigEndian.Uint16(row)) != len(a.codecs) {
		return diag.SchemaChanged.New(chunkTable(a.table), nil, "a row does not have %d columns", len(a.codecs))
	}
	rest := row[2:]
	for i, codec := range a.codecs {
		if len(rest) < 4 {
			return a.damaged()
		}
		size := int(int32(binary.BigEndian.Uint32(rest)))
		rest = rest[4:]
		field := a.build.Field(i)
		if size < 0 {
			field.AppendNull()
			continue
		}
		if size > len(rest) {
			return a.damaged()
		}
		if err := codec.AppendBinary(field, rest[:size]); err != nil {
			return a.refused(err, i)
		}
		rest = rest[size:]
	}
	a.rows++
	if a.bytes += len(row); a.bytes >= arrowBatchBytes || a.rows >= arrowBatchRows {
		return a.flush()
	}
	return nil
}

func (a *arrowRows) damaged() error {
	return diag.Internal.New(chunkTable(a.table), nil, "a row ends within a value")
}

// refused names the column of a value that Arrow cannot hold.
func (a *arrowRows) refused(err error, column int) error {
	if e := diag.Find(err); e != nil && e.Where == "" {
		e.Where = chunkTable(a.table) + ", column " + a.table.Columns[column].Name
	}
	return diag.About(err, a.table.GetIndex())
}

func (a *arrowRows) flush() error {
	if a.rows == 0 {
		return nil
	}
	rec := a.build.NewRecordBatch()
	defer rec.Release()
	a.rows, a.bytes = 0, 0
	msg, err := a.enc.Batch(rec)
	if err != nil {
		return diag.Internal.New(chunkTable(a.table), err, "")
	}
	return a.send(mem.SliceBuffer(msg))
}

func (a *arrowRows) close() { a.build.Release() }
