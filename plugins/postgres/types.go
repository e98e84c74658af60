package postgres

import (
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	"github.com/droverdb/drover/plugins/sdk/types"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// valueCodec moves values of one column between PostgreSQL's forms and Arrow. Nulls are the caller's.
type valueCodec interface {
	// AppendBinary reads the form of the type's send function, AppendText that of its output function.
	AppendBinary(b array.Builder, v []byte) error
	AppendText(b array.Builder, v []byte) error
	// WriteBinary appends what the type's receive function reads.
	WriteBinary(dst []byte, a arrow.Array, i int) ([]byte, error)
}

const (
	// pgEpochMicros is 2000-01-01, where PostgreSQL counts from, and pgEpochDays the same in days.
	pgEpochMicros = 946684800000000
	pgEpochDays   = 10957
	// firstLocalOID is the first number that differs from database to database.
	firstLocalOID = 16384

	oidVarchar, oidBpchar, oidNumeric = 1043, 1042, 1700
)

// typed are the types of the lattice with a number that is the same everywhere.
var typed = map[uint32]string{
	16: types.Bool, 21: types.Int16, 23: types.Int32, 20: types.Int64, 26: types.Uint32, 700: types.Float32, 701: types.Float64,
	25: types.Text, oidVarchar: types.Text, oidBpchar: types.Text, 19: types.Text, 114: types.JSON, 142: types.XML,
	3802: types.JSON, 17: types.Bytes, 2950: types.UUID, 1082: types.Date, 1083: types.Time, 1114: types.Timestamp,
	1184: types.TimestampTZ, 1186: types.Interval, oidNumeric: types.Decimal,
}

// ambiguous names have more than one binary form in PostgreSQL, or stand for types without a place in the
// lattice, so they say nothing about a type that only one database knows.
var ambiguous = map[string]bool{types.Text: true, types.JSON: true, types.XML: true, types.Decimal: true}

// latticeOf returns the logical type whose Arrow form a column has, "" when it keeps PostgreSQL's own.
func latticeOf(col *rowv1.Column) string {
	if name := typed[col.GetNativeId()]; name != "" {
		return name
	}
	if name := col.GetLogicalType(); col.GetNativeId() >= firstLocalOID && !ambiguous[name] { // an enum, or a domain
		if _, ok := types.Storage(name); ok {
			return name
		}
	}
	return ""
}

// arrowField is the Arrow column that carries a column in the arrow lane. A type that the lattice does not hold
// keeps PostgreSQL's binary form.
func arrowField(col *rowv1.Column) arrow.Field { return arrowFieldIn(col, arrowio.NativePGBinary) }

func arrowFieldIn(col *rowv1.Column, native string) arrow.Field {
	if t, ok := types.Storage(latticeOf(col)); ok {
		return arrow.Field{Name: col.GetName(), Type: t, Nullable: true}
	}
	return arrowio.NativeField(col.GetName(), native)
}

// codecFor returns the codec of a column in the arrow lane.
func codecFor(col *rowv1.Column) valueCodec {
	switch latticeOf(col) {
	case types.Bool:
		return boolCodec
	case types.Int16:
		return int16Codec
	case types.Int32:
		return int32Codec
	case types.Int64:
		return int64Codec
	case types.Uint32:
		return uint32Codec
	case types.Float32:
		return float32Codec
	case types.Float64:
		return float64Codec
	case types.Text, types.XML, types.Enum:
		return textCodec{}
	case types.JSON:
		return textCodec{jsonb: col.GetNativeId() == 3802}
	case types.Bytes:
		return byteaCodec{}
	case types.UUID:
		return uuidCodec{}
	case types.Date:
		return dateCodec
	case types.Time:
		return timeCodec
	case types.Timestamp, types.TimestampTZ:
		return timestampCodec
	case types.Interval:
		return intervalCodec{}
	case types.Decimal:
		return numericCodec{}
	}
	return rawCodec{}
}

// malformed never holds the value.
func malformed(what string) error {
	return diag.RowRefused.New("", nil, "a value is no %s in the form expected", what)
}

func outOfRange(what string) error {
	return diag.RowRefused.New("", nil, "a %s lies beyond what Arrow can hold; use lane native", what)
}

func wrongArrow(dt arrow.DataType) error {
	return diag.Internal.New("", nil, "an Arrow column of type %s where the table has another", dt)
}

// sameModifier compares the length or precision in a type's name with that of a Relation message. Only types
// that would change a value in silence, or refuse it, count; a limit that is new narrows nothing at the target.
func sameModifier(native string, oid uint32, typmod int32) bool {
	_, rest, limited := strings.Cut(native, "(")
	if !limited {
		return true
	}
	want, _, _ := strings.Cut(rest, ")")
	want = strings.ReplaceAll(want, " ", "")
	n := typmod - 4
	switch {
	case oid != oidVarchar && oid != oidBpchar && oid != oidNumeric:
		return true
	case typmod < 0:
		return false
	case oid == oidNumeric:
		scale := int(n<<21) >> 21 // 11 bits with sign since version 15
		full := strconv.Itoa(int(n>>16)&0xffff) + "," + strconv.Itoa(scale)
		return want == full || want+",0" == full
	}
	return want == strconv.Itoa(int(n))
}
