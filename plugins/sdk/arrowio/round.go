package arrowio

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/droverdb/drover/plugins/sdk"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// NativeKey is the field metadata key that names the native encoding of a column of type binary.
const NativeKey = "drover.native"

// Native encodings of PostgreSQL values.
const (
	NativePGBinary = "pg-binary"
	NativePGText   = "pg-text"
)

var lead = []arrow.Field{
	{Name: sdk.ColOp, Type: arrow.PrimitiveTypes.Uint8},
	{Name: sdk.ColTxn, Type: arrow.PrimitiveTypes.Uint32},
	{Name: sdk.ColKey, Type: arrow.BinaryTypes.Binary},
	{Name: sdk.ColUnchanged, Type: arrow.BinaryTypes.Binary, Nullable: true},
	{Name: sdk.ColOld, Type: arrow.PrimitiveTypes.Int32, Nullable: true},
}

// RoundSchema is the layout of a table's round batches: the leading columns, then one field per column.
// Every data column may be null: a delete carries key columns only. Names are those of the columns.
func RoundSchema(cols []*rowv1.Column, fields []arrow.Field) *arrow.Schema {
	all := make([]arrow.Field, 0, len(lead)+len(fields))
	all = append(all, lead...)
	for i, f := range fields {
		if i < len(cols) {
			f.Name = cols[i].GetName()
		}
		f.Nullable = true
		all = append(all, f)
	}
	return arrow.NewSchema(all, nil)
}

// NativeField is a column whose values keep a native encoding.
func NativeField(name, encoding string) arrow.Field {
	return arrow.Field{
		Name: name, Type: arrow.BinaryTypes.Binary, Nullable: true,
		Metadata: arrow.NewMetadata([]string{NativeKey}, []string{encoding}),
	}
}

// NativeOf returns the native encoding of a field, or "" when its type is its meaning.
func NativeOf(f arrow.Field) string {
	v, _ := f.Metadata.GetValue(NativeKey)
	return v
}
