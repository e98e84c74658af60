package postgres

import (
	"encoding/binary"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk/apply"
)

// beginArray starts a one-dimensional array of n elements in PostgreSQL's binary form.
func beginArray(dst []byte, oid uint32, n int) []byte {
	dst = binary.BigEndian.AppendUint32(dst, 1) // dimensions
	dst = binary.BigEndian.AppendUint32(dst, 1) // there may be NULLs
	dst = binary.BigEndian.AppendUint32(dst, oid)
	dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	return binary.BigEndian.AppendUint32(dst, 1) // lower bound
}

// appendNative writes a value that is in PostgreSQL's form already, with its length before it.
func appendNative(dst []byte, a arrow.Array, row int) ([]byte, error) {
	b, ok := a.(*array.Binary)
	if !ok {
		return nil, diag.Internal.New("target", nil, "a native column has Arrow type %s", a.DataType())
	}
	if b.IsNull(row) {
		return append(dst, 0xff, 0xff, 0xff, 0xff), nil
	}
	v := b.Value(row)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(v)))
	return append(dst, v...), nil
}

// appendRefs writes one column of rows as an array.
func (c *applyColumn) appendRefs(dst []byte, e *apply.Effect, col int, refs []apply.Ref) ([]byte, error) {
	dst = beginArray(dst, c.oid, len(refs))
	var err error
	for _, r := range refs {
		if dst, err = c.append(dst, e.Batches[r.Batch].Column(col), int(r.Row)); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// appendImages writes one column of net images as an array.
func (c *applyColumn) appendImages(dst []byte, e *apply.Effect, col int, images []apply.Image) ([]byte, error) {
	dst = beginArray(dst, c.oid, len(images))
	last, current := int32(-1), arrow.Array(nil)
	var err error
	for _, img := range images {
		if r, ok := e.Simple(img); ok {
			if r.Batch != last {
				last, current = r.Batch, e.Batches[r.Batch].Column(col)
			}
			dst, err = c.append(dst, current, int(r.Row))
		} else if b, row, ok := e.At(img, col); ok {
			dst, err = c.append(dst, b.Column(col), row)
		} else {
			err = diag.Internal.New(tableWhere(e.Table), nil, "column %s of an image is missing", ident(c.name))
		}
		if err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// appendSizedInt8 writes an element of an array of int8.
func appendSizedInt8(dst []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(dst, 8), uint64(n))
}

// int8Param is int8 in binary form.
func int8Param(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// oidParam is an oid in binary form.
func oidParam(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
