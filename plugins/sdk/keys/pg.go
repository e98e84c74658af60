package keys

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// PostgreSQL's numbers of the types whose order is kept here.
const (
	oidBool        = 16
	oidBytea       = 17
	oidName        = 19
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidOID         = 26
	oidBPChar      = 1042
	oidVarchar     = 1043
	oidDate        = 1082
	oidTimestamp   = 1114
	oidTimestampTZ = 1184
	oidNumeric     = 1700
	oidUUID        = 2950
)

// Ordered reports whether AppendPG keeps the order of a PostgreSQL type. For text types that is the order of the
// collation "C" only: the caller decides whether the column has it.
func Ordered(oid uint32) bool {
	switch oid {
	case oidBool, oidBytea, oidName, oidInt8, oidInt2, oidInt4, oidText, oidOID, oidBPChar, oidVarchar,
		oidDate, oidTimestamp, oidTimestampTZ, oidNumeric, oidUUID:
		return true
	}
	return false
}

func malformed(what string) error { return fmt.Errorf("keys: malformed %s value", what) }

// AppendPG appends a value in PostgreSQL's binary or text form. Both forms of one value give the same bytes if the
// type is Ordered and the session is pinned (ISO dates, UTC, hex bytea). Any other type is appended
// as the bytes it came in: unique, but without order, and different for the two forms.
func AppendPG(dst []byte, oid uint32, binary bool, value []byte) ([]byte, error) {
	switch oid {
	case oidText, oidVarchar, oidName:
		return AppendBytes(dst, value), nil
	case oidBPChar:
		return AppendBytes(dst, trimmed(value)), nil
	case oidBytea:
		if binary {
			return AppendBytes(dst, value), nil
		}
		return appendHex(dst, value)
	}
	if !Ordered(oid) {
		return AppendBytes(dst, value), nil
	}
	if binary {
		return appendBinary(dst, oid, value)
	}
	return appendText(dst, oid, value)
}

// trimmed drops what char(n) is padded with: it does not count in comparisons.
func trimmed(v []byte) []byte {
	for len(v) > 0 && v[len(v)-1] == ' ' {
		v = v[:len(v)-1]
	}
	return v
}

func appendBinary(dst []byte, oid uint32, v []byte) ([]byte, error) {
	if oid == oidNumeric {
		return appendNumeric(dst, v)
	}
	if len(v) != width(oid) {
		return dst, malformed("binary")
	}
	switch oid {
	case oidBool:
		return append(dst, v[0]), nil
	case oidOID, oidUUID:
		return append(dst, v...), nil
	}
	// Signed and big endian already, infinities are the extremes: only the sign bit is in the way.
	dst = append(dst, v[0]^0x80)
	return append(dst, v[1:]...), nil
}

func width(oid uint32) int {
	switch oid {
	case oidBool:
		return 1
	case oidInt2:
		return 2
	case oidInt4, oidOID, oidDate:
		return 4
	case oidUUID:
		return 16
	}
	return 8
}

func appendNumeric(dst, v []byte) ([]byte, error) {
	if len(v) < 8 {
		return dst, malformed("numeric")
	}
	n, weight, sign := int(binary.BigEndian.Uint16(v)), int(int16(binary.BigEndian.Uint16(v[2:]))), binary.BigEndian.Uint16(v[4:])
	switch sign {
	case 0xc000:
		return append(dst, classNaN), nil
	case 0xd000:
		return append(dst, classPosInf), nil
	case 0xf000:
		return append(dst, classNegInf), nil
	case 0, 0x4000:
	default:
		return dst, malformed("numeric")
	}
	if len(v) != 8+2*n {
		return dst, malformed("numeric")
	}
	d := decimal{dst: dst, neg: sign == 0x4000}
	for i := range n {
		digit := binary.BigEndian.Uint16(v[8+2*i:])
		if digit > 9999 {
			return dst, malformed("numeric")
		}
		d.digit(int(digit), weight-i)
	}
	return d.finish(), nil
}

func appendText(dst []byte, oid uint32, v []byte) ([]byte, error) {
	switch oid {
	case oidBool:
		if len(v) == 0 || v[0] != 't' && v[0] != 'f' {
			return dst, malformed("boolean")
		}
		return AppendBool(dst, v[0] == 't'), nil
	case oidNumeric:
		return AppendDecimal(dst, v)
	case oidUUID:
		return appendUUIDText(dst, v)
	case oidDate:
		return appendDateText(dst, v)
	case oidTimestamp, oidTimestampTZ:
		return appendTimestampText(dst, v)
	}
	n, err := parseInt(v)
	if err != nil {
		return dst, err
	}
	switch oid {
	case oidInt2:
		return AppendInt16(dst, int16(n)), nil
	case oidInt4:
		return AppendInt32(dst, int32(n)), nil
	case oidOID:
		return AppendUint32(dst, uint32(n)), nil
	}
	return AppendInt64(dst, n), nil
}

// parseInt needs no string and so no allocation. It counts downwards: the smallest number has no positive twin.
func parseInt(v []byte) (int64, error) {
	neg := len(v) > 0 && v[0] == '-'
	if neg {
		v = v[1:]
	}
	if len(v) == 0 || len(v) > 19 {
		return 0, malformed("integer")
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, malformed("integer")
		}
		n = n*10 - int64(c-'0')
	}
	if neg {
		return n, nil
	}
	return -n, nil
}

func appendUUIDText(dst, v []byte) ([]byte, error) {
	var digits [32]byte
	n := 0
	for _, c := range v {
		if c == '-' {
			continue
		}
		if n == len(digits) {
			return dst, malformed("uuid")
		}
		digits[n] = c
		n++
	}
	var out [16]byte
	if _, err := hex.Decode(out[:], digits[:n]); err != nil || n != len(digits) {
		return dst, malformed("uuid")
	}
	return append(dst, out[:]...), nil
}

func appendHex(dst, v []byte) ([]byte, error) {
	if len(v) < 2 || v[0] != '\\' || v[1] != 'x' || len(v)%2 != 0 {
		return dst, malformed("bytea")
	}
	for v = v[2:]; len(v) > 0; v = v[2:] {
		var b [1]byte
		if _, err := hex.Decode(b[:], v[:2]); err != nil {
			return dst, malformed("bytea")
		}
		dst = append(dst, b[0])
		if b[0] == escape {
			dst = append(dst, escaped)
		}
	}
	return append(dst, escape, terminator), nil
}
