// Package keys encodes key values so that comparing the bytes compares the values.
//
// Which chunk a key belongs to is then one bytes.Compare, the same for every dialect. All functions append
// to dst and allocate only when dst is full. A composite key is its columns appended one after another: every
// encoding is either of fixed width or ends itself, so no column can run into the next.
package keys

import "encoding/binary"

// AppendBool orders false before true.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// AppendInt16 takes two bytes.
func AppendInt16(dst []byte, v int16) []byte {
	return binary.BigEndian.AppendUint16(dst, uint16(v)^1<<15)
}

// AppendInt32 takes four bytes.
func AppendInt32(dst []byte, v int32) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(v)^1<<31)
}

// AppendInt64 takes eight bytes.
func AppendInt64(dst []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(v)^1<<63)
}

// AppendUint32 takes four bytes.
func AppendUint32(dst []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(dst, v) }

// AppendUint64 takes eight bytes.
func AppendUint64(dst []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(dst, v) }

// AppendUUID takes the 16 bytes as they are.
func AppendUUID(dst []byte, v [16]byte) []byte { return append(dst, v[:]...) }

const (
	escape     = 0x00
	escaped    = 0xff // follows escape: a zero byte of the value
	terminator = 0x00 // follows escape: the end; less than anything a longer value can have there
)

// AppendBytes orders as bytes.Compare does, a prefix before what it begins.
func AppendBytes[T ~string | ~[]byte](dst []byte, v T) []byte {
	for i := 0; i < len(v); i++ {
		dst = append(dst, v[i])
		if v[i] == escape {
			dst = append(dst, escaped)
		}
	}
	return append(dst, escape, terminator)
}
