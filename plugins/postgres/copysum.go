package postgres

import (
	"encoding/binary"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// rowSum is the sum mod 2^128 of the xxh3-128 of rows: the same in whatever order they come.
type rowSum struct{ hi, lo uint64 }

func (s *rowSum) add(h xxh3.Uint128) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, h.Lo, 0)
	s.hi, _ = bits.Add64(s.hi, h.Hi, carry)
}

// bytes is the wire form: 16 bytes, big endian.
func (s rowSum) bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, s.hi), s.lo)
}
