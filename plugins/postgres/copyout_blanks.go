package postgres

import (
	"encoding/binary"
	"math/bits"
	"strings"

	"github.com/droverdb/drover/internal/diag"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const oidBPChar = 1042

// blanks takes the trailing blanks of char(n) values out of rows in COPY's binary form. The server pads each value to its
// declared length again, so the target's rows are the same; but counting the characters of every blank is a fifth of what
// reading such a row costs it, and the blanks need not be summed and carried either. A value without a declared length
// keeps its blanks.
type blanks struct {
	padded []bool // by column
	row    []byte // the last row, used again
}

// blanksOf is nil when no column of the table is padded.
func blanksOf(t *rowv1.Table) *blanks {
	if textLane(t) {
		return nil
	}
	b := &blanks{padded: make([]bool, len(t.Columns))}
	found := false
	for i, c := range t.Columns {
		b.padded[i] = c.NativeId == oidBPChar && strings.HasPrefix(c.NativeType, "character(")
		found = found || b.padded[i]
	}
	if !found {
		return nil
	}
	return b
}

// trim returns a row without them; it is valid until the next one. What is neither padded nor a length in front of it is
// copied in runs.
func (t *blanks) trim(row []byte) ([]byte, error) {
	if len(row) < 2 || int(binary.BigEndian.Uint16(row)) != len(t.padded) {
		return nil, malformedRow()
	}
	out, from, at := t.row[:0], 0, 2
	for _, padded := range t.padded {
		if at+4 > len(row) {
			return nil, malformedRow()
		}
		size := int(int32(binary.BigEndian.Uint32(row[at:])))
		if at += 4; size < 0 {
			continue
		}
		if size > len(row)-at {
			return nil, malformedRow()
		}
		if padded {
			if kept := withoutBlanks(row[at : at+size]); kept < size {
				out = append(out, row[from:at-4]...)
				out = binary.BigEndian.AppendUint32(out, uint32(kept))
				out = append(out, row[at:at+kept]...)
				from = at + size
			}
		}
		at += size
	}
	if at != len(row) {
		return nil, malformedRow()
	}
	t.row = append(out, row[from:]...)
	return t.row, nil
}

// withoutBlanks is the length of a value without its trailing blanks: a blank is never the end of another character, in
// none of the encodings the server has.
func withoutBlanks(v []byte) int {
	const eight = 0x2020202020202020
	n := len(v)
	for ; n >= 8; n -= 8 {
		if x := binary.BigEndian.Uint64(v[n-8:n]) ^ eight; x != 0 {
			return n - bits.TrailingZeros64(x)/8
		}
	}
	for n > 0 && v[n-1] == ' ' {
		n--
	}
	return n
}

func malformedRow() error {
	return diag.Internal.New("source", nil, "COPY sends a row that is not made of its table's columns")
}
