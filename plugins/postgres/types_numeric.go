package postgres

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Signs of numeric's binary form.
const (
	numericNegative = 0x4000
	numericNaN      = 0xc000
	numericInf      = 0xd000
	numericNegInf   = 0xf000
)

// numericCodec carries numeric as text: any precision, the scale as it was written, NaN and infinity.
type numericCodec struct{}

func (numericCodec) AppendBinary(b array.Builder, v []byte) error {
	to, ok := b.(*array.StringBuilder)
	if !ok {
		return wrongArrow(b.Type())
	}
	var room [64]byte
	text, err := appendNumericText(room[:0], v)
	if err != nil {
		return err
	}
	to.BinaryBuilder.Append(text)
	return nil
}

func (numericCodec) AppendText(b array.Builder, v []byte) error { return textCodec{}.AppendText(b, v) }

func (numericCodec) WriteBinary(dst []byte, a arrow.Array, i int) ([]byte, error) {
	from, ok := a.(*array.String)
	if !ok {
		return dst, wrongArrow(a.DataType())
	}
	return appendNumericBinary(dst, from.Value(i))
}

// appendNumericText writes what numeric_out does: groups of four decimal digits, the first of weight
// 10000^weight, and scale digits after the point.
func appendNumericText(dst, v []byte) ([]byte, error) {
	if len(v) < 8 {
		return dst, malformed("numeric")
	}
	n, weight := int(binary.BigEndian.Uint16(v)), int(int16(binary.BigEndian.Uint16(v[2:])))
	sign, scale := binary.BigEndian.Uint16(v[4:]), int(binary.BigEndian.Uint16(v[6:]))
	v = v[8:]
	if len(v) != 2*n {
		return dst, malformed("numeric")
	}
	switch sign {
	case 0:
	case numericNegative:
		dst = append(dst, '-')
	case numericNaN:
		return append(dst, "NaN"...), nil
	case numericInf:
		return append(dst, "Infinity"...), nil
	case numericNegInf:
		return append(dst, "-Infinity"...), nil
	default:
		return dst, malformed("numeric")
	}
	group := func(g int) int { // the group of weight 10000^g
		if i := weight - g; i >= 0 && i < n {
			return int(binary.BigEndian.Uint16(v[2*i:]))
		}
		return 0
	}
	if weight < 0 {
		dst = append(dst, '0')
	} else {
		dst = strconv.AppendInt(dst, int64(group(weight)), 10)
		for g := weight - 1; g >= 0; g-- {
			dst = appendGroup(dst, group(g))
		}
	}
	if scale == 0 {
		return dst, nil
	}
	dst = append(dst, '.')
	at := len(dst)
	for g := -1; len(dst)-at < scale; g-- {
		dst = appendGroup(dst, group(g))
	}
	return dst[:at+scale], nil
}

func appendGroup(dst []byte, g int) []byte {
	return append(dst, byte('0'+g/1000%10), byte('0'+g/100%10), byte('0'+g/10%10), byte('0'+g%10))
}

// appendNumericBinary writes what numeric_recv reads.
func appendNumericBinary(dst []byte, s string) ([]byte, error) {
	head := func(n, weight int, sign uint16, scale int) {
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
		dst = binary.BigEndian.AppendUint16(dst, uint16(int16(weight)))
		dst = binary.BigEndian.AppendUint16(dst, sign)
		dst = binary.BigEndian.AppendUint16(dst, uint16(scale))
	}
	switch s {
	case "NaN":
		head(0, 0, numericNaN, 0)
		return dst, nil
	case "Infinity":
		head(0, 0, numericInf, 0x20)
		return dst, nil
	case "-Infinity":
		head(0, 0, numericNegInf, 0x20)
		return dst, nil
	}
	sign := uint16(0)
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		sign, s = numericNegative, rest
	}
	left, right, _ := strings.Cut(s, ".")
	if left == "" || strings.Trim(left+right, "0123456789") != "" || len(right) > 0x3fff {
		return dst, malformed("numeric")
	}
	scale := len(right)
	left = strings.TrimLeft(left, "0")
	digits := strings.Repeat("0", (4-len(left)%4)%4) + left + right + strings.Repeat("0", (4-scale%4)%4)
	weight := (len(left)+3)/4 - 1
	for strings.HasPrefix(digits, "0000") {
		digits, weight = digits[4:], weight-1
	}
	for strings.HasSuffix(digits, "0000") {
		digits = digits[:len(digits)-4]
	}
	if digits == "" {
		sign, weight = 0, 0
	}
	if weight > 0x7fff {
		return dst, malformed("numeric")
	}
	head(len(digits)/4, weight, sign, scale)
	for ; digits != ""; digits = digits[4:] {
		g := int(digits[0]-'0')*1000 + int(digits[1]-'0')*100 + int(digits[2]-'0')*10 + int(digits[3]-'0')
		dst = binary.BigEndian.AppendUint16(dst, uint16(g))
	}
	return dst, nil
}
