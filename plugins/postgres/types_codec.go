package postgres

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/droverdb/drover/internal/diag"
)

// appender and valuer are what Arrow's builders and arrays of fixed width have in common.
type appender[T any] interface{ Append(T) }

type valuer[T any] interface{ Value(int) T }

// scalar is the codec of a type of fixed width.
type scalar[T any] struct {
	name  string
	width int
	get   func([]byte) (T, error)
	parse func(string) (T, error)
	put   func([]byte, T) []byte
}

func (c scalar[T]) AppendBinary(b array.Builder, v []byte) error {
	if len(v) != c.width {
		return malformed(c.name)
	}
	x, err := c.get(v)
	if err != nil {
		return err
	}
	return c.add(b, x)
}

func (c scalar[T]) AppendText(b array.Builder, v []byte) error {
	x, err := c.parse(string(v))
	if err != nil && diag.Find(err) == nil {
		err = malformed(c.name)
	}
	if err != nil {
		return err
	}
	return c.add(b, x)
}

func (c scalar[T]) add(b array.Builder, x T) error {
	to, ok := b.(appender[T])
	if !ok {
		return wrongArrow(b.Type())
	}
	to.Append(x)
	return nil
}

func (c scalar[T]) WriteBinary(dst []byte, a arrow.Array, i int) ([]byte, error) {
	from, ok := a.(valuer[T])
	if !ok {
		return dst, wrongArrow(a.DataType())
	}
	return c.put(dst, from.Value(i)), nil
}

func whole[T int16 | int32 | int64 | uint32](bits int, signed bool) func(string) (T, error) {
	return func(s string) (T, error) {
		if !signed {
			x, err := strconv.ParseUint(s, 10, bits)
			return T(x), err
		}
		x, err := strconv.ParseInt(s, 10, bits)
		return T(x), err
	}
}

var (
	boolCodec = scalar[bool]{"boolean", 1,
		func(v []byte) (bool, error) { return v[0] != 0, nil },
		func(s string) (bool, error) { return s == "t", nil },
		func(dst []byte, x bool) []byte {
			if x {
				return append(dst, 1)
			}
			return append(dst, 0)
		}}
	int16Codec = scalar[int16]{"smallint", 2,
		func(v []byte) (int16, error) { return int16(binary.BigEndian.Uint16(v)), nil }, whole[int16](16, true),
		func(dst []byte, x int16) []byte { return binary.BigEndian.AppendUint16(dst, uint16(x)) }}
	int32Codec = scalar[int32]{"integer", 4,
		func(v []byte) (int32, error) { return int32(binary.BigEndian.Uint32(v)), nil }, whole[int32](32, true),
		func(dst []byte, x int32) []byte { return binary.BigEndian.AppendUint32(dst, uint32(x)) }}
	int64Codec = scalar[int64]{"bigint", 8,
		func(v []byte) (int64, error) { return int64(binary.BigEndian.Uint64(v)), nil }, whole[int64](64, true),
		func(dst []byte, x int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(x)) }}
	uint32Codec = scalar[uint32]{"oid", 4,
		func(v []byte) (uint32, error) { return binary.BigEndian.Uint32(v), nil }, whole[uint32](32, false),
		binary.BigEndian.AppendUint32}
	float32Codec = scalar[float32]{"real", 4,
		func(v []byte) (float32, error) { return math.Float32frombits(binary.BigEndian.Uint32(v)), nil },
		func(s string) (float32, error) { x, err := strconv.ParseFloat(s, 32); return float32(x), err },
		func(dst []byte, x float32) []byte { return binary.BigEndian.AppendUint32(dst, math.Float32bits(x)) }}
	float64Codec = scalar[float64]{"double precision", 8,
		func(v []byte) (float64, error) { return math.Float64frombits(binary.BigEndian.Uint64(v)), nil },
		func(s string) (float64, error) {
			if s == "NaN" {
				return math.Float64frombits(0x7ff8 << 48), nil // PostgreSQL's; Go's has another payload
			}
			return strconv.ParseFloat(s, 64)
		},
		func(dst []byte, x float64) []byte { return binary.BigEndian.AppendUint64(dst, math.Float64bits(x)) }}
)

// textCodec carries types whose binary form is their text, and jsonb, which puts a version before it.
type textCodec struct{ jsonb bool }

func (c textCodec) AppendBinary(b array.Builder, v []byte) error {
	if c.jsonb {
		if len(v) == 0 || v[0] != 1 {
			return malformed("jsonb")
		}
		v = v[1:]
	}
	return c.AppendText(b, v)
}

func (textCodec) AppendText(b array.Builder, v []byte) error {
	to, ok := b.(*array.StringBuilder)
	if !ok {
		return wrongArrow(b.Type())
	}
	to.BinaryBuilder.Append(v)
	return nil
}

func (c textCodec) WriteBinary(dst []byte, a arrow.Array, i int) ([]byte, error) {
	from, ok := a.(*array.String)
	if !ok {
		return dst, wrongArrow(a.DataType())
	}
	if c.jsonb {
		dst = append(dst, 1)
	}
	return append(dst, from.Value(i)...), nil
}

// rawCodec carries PostgreSQL's own form, whichever it is.
type rawCodec struct{}

func (rawCodec) AppendBinary(b array.Builder, v []byte) error {
	to, ok := b.(*array.BinaryBuilder)
	if !ok {
		return wrongArrow(b.Type())
	}
	to.Append(v)
	return nil
}

func (c rawCodec) AppendText(b array.Builder, v []byte) error { return c.AppendBinary(b, v) }

func (rawCodec) WriteBinary(dst []byte, a arrow.Array, i int) ([]byte, error) {
	from, ok := a.(*array.Binary)
	if !ok {
		return dst, wrongArrow(a.DataType())
	}
	return append(dst, from.Value(i)...), nil
}

type byteaCodec struct{ rawCodec }

func (c byteaCodec) AppendText(b array.Builder, v []byte) error {
	if len(v) < 2 || v[0] != '\\' || v[1] != 'x' {
		return malformed("bytea")
	}
	out := make([]byte, hex.DecodedLen(len(v)-2))
	if _, err := hex.Decode(out, v[2:]); err != nil {
		return malformed("bytea")
	}
	return c.AppendBinary(b, out)
}

type uuidCodec struct{}

func (uuidCodec) AppendBinary(b array.Builder, v []byte) error {
	to, ok := b.(*array.FixedSizeBinaryBuilder)
	if !ok {
		return wrongArrow(b.Type())
	}
	if len(v) != 16 {
		return malformed("uuid")
	}
	to.Append(v)
	return nil
}

func (c uuidCodec) AppendText(b array.Builder, v []byte) error {
	var digits [32]byte
	n := 0
	for _, d := range v {
		if d == '-' {
			continue
		}
		if n == len(digits) {
			return malformed("uuid")
		}
		digits[n] = d
		n++
	}
	var out [16]byte
	if m, err := hex.Decode(out[:], digits[:n]); err != nil || m != 16 {
		return malformed("uuid")
	}
	return c.AppendBinary(b, out[:])
}

func (uuidCodec) WriteBinary(dst []byte, a arrow.Array, i int) ([]byte, error) {
	from, ok := a.(*array.FixedSizeBinary)
	if !ok {
		return dst, wrongArrow(a.DataType())
	}
	return append(dst, from.Value(i)...), nil
}
