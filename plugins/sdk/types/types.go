// Package types is the lattice of logical types: every dialect maps its types into it and out of it, so that
// two dialects need not know each other.
package types

import "github.com/apache/arrow-go/v18/arrow"

// Logical types. A column's type in no dialect's words.
const (
	Bool        = "bool"
	Int16       = "int16"
	Int32       = "int32"
	Int64       = "int64"
	Uint32      = "uint32"
	Float32     = "float32"
	Float64     = "float64"
	Decimal     = "decimal"
	Text        = "text"
	Bytes       = "bytes"
	UUID        = "uuid"
	Date        = "date"
	Time        = "time"
	Timestamp   = "timestamp"
	TimestampTZ = "timestamptz"
	Interval    = "interval"
	JSON        = "json"
	XML         = "xml"
	Enum        = "enum"
)

// Fit says what happens to values when a type is mapped to another.
type Fit int

const (
	// Lossy: some values change or are refused; it needs the user's consent.
	Lossy Fit = iota
	// Widened: every value survives, the type does not.
	Widened
	// Exact: the type and every value survive.
	Exact
)

func (f Fit) String() string {
	switch f {
	case Exact:
		return "exact"
	case Widened:
		return "widened"
	}
	return "lossy"
}

// wider lists, per type, those that hold all its values.
var wider = map[string][]string{
	Bool:    {Int16, Int32, Int64, Uint32, Decimal, Text},
	Int16:   {Int32, Int64, Float32, Float64, Decimal, Text},
	Int32:   {Int64, Float64, Decimal, Text},
	Int64:   {Decimal, Text},
	Uint32:  {Int64, Float64, Decimal, Text},
	Float32: {Float64, Text},
	Float64: {Text},
	Decimal: {Text}, Bytes: {}, UUID: {Text}, Date: {Text}, Time: {Text}, Timestamp: {Text}, TimestampTZ: {Text},
	Interval: {Text}, JSON: {Text}, XML: {Text}, Enum: {Text}, Text: {},
}

// Map tells how values of one logical type fit another.
func Map(from, to string) Fit {
	if from == to {
		return Exact
	}
	for _, w := range wider[from] {
		if w == to {
			return Widened
		}
	}
	return Lossy
}

// microsUTC and micros are kept because making a type allocates.
var (
	micros    = &arrow.TimestampType{Unit: arrow.Microsecond}
	microsUTC = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	uuidBytes = &arrow.FixedSizeBinaryType{ByteWidth: 16}
)

// Storage is the Arrow type that carries a logical type; ok is false for one the lattice does not hold.
// Decimals travel as text: they may be longer than any Arrow decimal, and keep their scale, NaN and infinity.
func Storage(logical string) (t arrow.DataType, ok bool) {
	switch logical {
	case Bool:
		return arrow.FixedWidthTypes.Boolean, true
	case Int16:
		return arrow.PrimitiveTypes.Int16, true
	case Int32:
		return arrow.PrimitiveTypes.Int32, true
	case Int64:
		return arrow.PrimitiveTypes.Int64, true
	case Uint32:
		return arrow.PrimitiveTypes.Uint32, true
	case Float32:
		return arrow.PrimitiveTypes.Float32, true
	case Float64:
		return arrow.PrimitiveTypes.Float64, true
	case Decimal, Text, JSON, XML, Enum:
		return arrow.BinaryTypes.String, true
	case Bytes:
		return arrow.BinaryTypes.Binary, true
	case UUID:
		return uuidBytes, true
	case Date:
		return arrow.FixedWidthTypes.Date32, true
	case Time:
		return arrow.FixedWidthTypes.Time64us, true
	case Timestamp:
		return micros, true
	case TimestampTZ:
		return microsUTC, true
	case Interval:
		return arrow.FixedWidthTypes.MonthDayNanoInterval, true
	}
	return nil, false
}
