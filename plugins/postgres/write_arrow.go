package postgres

import (
	"encoding/binary"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/droverdb/drover/internal/diag"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// encodeTuples writes the rows of an Arrow record as binary COPY tuples, without header and trailer.
func encodeTuples(dst []byte, t *rowv1.Table, rec arrow.RecordBatch) ([]byte, error) {
	if int(rec.NumCols()) != len(t.Columns) {
		return nil, diag.Internal.New(tableWhere(t), nil, "a batch of %d columns for %d", rec.NumCols(), len(t.Columns))
	}
	codecs := make([]valueCodec, len(t.Columns))
	for i, c := range t.Columns {
		codecs[i] = codecFor(c)
	}
	for row := range int(rec.NumRows()) {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(codecs)))
		for i, codec := range codecs {
			var err error
			if dst, err = appendSized(dst, codec, rec.Column(i), row); err != nil {
				return nil, err
			}
		}
	}
	return dst, nil
}

// appendSized writes one value with its length before it; -1 is NULL.
func appendSized(dst []byte, codec valueCodec, a arrow.Array, row int) ([]byte, error) {
	if a.IsNull(row) {
		return append(dst, 0xff, 0xff, 0xff, 0xff), nil
	}
	at := len(dst)
	dst, err := codec.WriteBinary(append(dst, 0, 0, 0, 0), a, row)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst, nil
}
