package postgres

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/zeebo/xxh3"
	"google.golang.org/grpc/mem"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
)

const (
	// payloadSize is what one chunk_data frame carries at most.
	payloadSize = sdk.PayloadBytes
	// smallPayload and less is copied out of the buffer, so that many small tables do not hold a buffer each.
	smallPayload = payloadSize / 4
)

// copySignature starts a binary COPY; two words follow: flags and the length of an extension.
var copySignature = []byte("PGCOPY\n\377\r\n\000")

// payloads gives out buffers of payloadSize. Unlike gRPC's pool it does not clear them.
type payloads struct{ pool sync.Pool }

var payloadPool = &payloads{pool: sync.Pool{New: func() any { b := make([]byte, payloadSize); return &b }}}

// Get is for buffers of payloadSize only.
func (p *payloads) Get(n int) *[]byte {
	b := p.pool.Get().(*[]byte)
	*b = (*b)[:cap(*b)][:n]
	return b
}

// Put takes a buffer back.
func (p *payloads) Put(b *[]byte) {
	if cap(*b) == payloadSize {
		p.pool.Put(b)
	}
}

// copyOut collects the rows of one COPY: counts, sums and digests them and hands them on in large payloads.
// Payloads hold whole rows, except that a row larger than a payload is cut.
type copyOut struct {
	binary bool
	blanks *blanks // nil: rows are taken as they are
	// emit takes a payload over; nil: rows are only counted and summed.
	emit func(mem.Buffer) error
	// decode, if set, gets every whole row instead of the payloads, and makes the payloads itself with send.
	decode func(row []byte) error
	// decoded, if set, ends the decoding.
	decoded func() error
	// raw: what is emitted now are pieces of a row that is too large to be decoded.
	raw bool

	rows    int64
	bytes   int64
	sum     rowSum
	digest  xxh3.Hasher
	pool    mem.BufferPool // of buf; not needed without emit
	buf     *[]byte        // or nil
	n       int            // bytes of buf in use
	started bool           // the binary header is behind us
	ended   bool           // the binary trailer is behind us
	long    *xxh3.Hasher
	whole   []byte // a long row on its way to decode
}

// row takes a whole CopyData message, which PostgreSQL makes of exactly one row.
func (o *copyOut) row(b []byte) error {
	if o.binary {
		var err error
		if b, err = o.strip(b); err != nil || len(b) == 0 {
			return err
		}
	}
	whole := b
	if o.blanks != nil {
		var err error
		if b, err = o.blanks.trim(b); err != nil {
			return err
		}
	}
	o.rows++
	o.sum.add(xxh3.Hash128(b))
	switch {
	case o.emit == nil:
		return nil
	case o.decode != nil:
		return o.decode(whole)
	}
	return o.put(b)
}

// strip removes the header, which comes with the first row, and the trailer, which comes alone.
func (o *copyOut) strip(b []byte) ([]byte, error) {
	if !o.started {
		o.started = true
		n := len(copySignature)
		if len(b) < n+8 || !bytes.Equal(b[:n], copySignature) {
			return nil, diag.Internal.New("source", nil, "COPY does not start with its signature")
		}
		if binary.BigEndian.Uint32(b[n:])&0xffff0000 != 0 {
			return nil, diag.Internal.New("source", nil, "COPY sets a critical flag that Drover does not know")
		}
		head := n + 8 + int(binary.BigEndian.Uint32(b[n+4:]))
		if head < n+8 || head > len(b) {
			return nil, diag.Internal.New("source", nil, "COPY has a malformed header")
		}
		b = b[head:]
	}
	if len(b) == 2 && b[0] == 0xff && b[1] == 0xff {
		o.ended = true
		return nil, nil
	}
	if o.ended {
		return nil, diag.Internal.New("source", nil, "COPY goes on after its trailer")
	}
	return b, nil
}

// piece takes a part of a row of size bytes that is larger than the reader's buffer.
func (o *copyOut) piece(b []byte, size int, last bool) error {
	if o.long == nil {
		if o.binary {
			var err error
			if b, err = o.strip(b); err != nil {
				return err
			}
		}
		o.long = xxh3.New()
	}
	_, _ = o.long.Write(b)
	if last {
		o.rows++
		o.sum.add(o.long.Sum128())
		o.long = nil
	}
	switch {
	case o.emit == nil:
		return nil
	case o.decode == nil:
		return o.put(b)
	case size > wholeMessage:
		return o.rawPiece(b, last)
	}
	o.whole = append(o.whole, b...)
	if !last {
		return nil
	}
	whole := o.whole
	o.whole = nil
	return o.decode(whole)
}

// rawPiece passes a part of a row on as it is, after all rows before it.
func (o *copyOut) rawPiece(b []byte, last bool) error {
	if !o.raw {
		if err := o.decoded(); err != nil {
			return err
		}
		o.raw = true
	}
	err := o.put(b)
	if err == nil && last {
		err = o.flush()
		o.raw = false
	}
	return err
}

func (o *copyOut) put(b []byte) error {
	if o.n+len(b) > payloadSize && o.n > 0 {
		if err := o.flush(); err != nil {
			return err
		}
	}
	for {
		if o.buf == nil {
			o.buf, o.n = o.pool.Get(payloadSize), 0
		}
		n := copy((*o.buf)[o.n:], b)
		o.n += n
		if b = b[n:]; len(b) == 0 {
			return nil
		}
		if err := o.flush(); err != nil {
			return err
		}
	}
}

// flush hands on what is collected.
func (o *copyOut) flush() error {
	if o.n == 0 {
		return nil
	}
	b := (*o.buf)[:o.n]
	o.n = 0
	if len(b) <= smallPayload {
		return o.send(mem.SliceBuffer(bytes.Clone(b)))
	}
	*o.buf = b
	out := mem.NewBuffer(o.buf, o.pool)
	o.buf = nil
	return o.send(out)
}

// send counts and digests a payload and gives it away.
func (o *copyOut) send(b mem.Buffer) error {
	_, _ = o.digest.Write(b.ReadOnlyData())
	o.bytes += int64(b.Len())
	return o.emit(b)
}

// finish ends the COPY; told is the number of rows in the server's command tag.
func (o *copyOut) finish(told int64) error {
	if o.binary && !o.ended || o.long != nil {
		return diag.CountDiffers.New("source", nil, "COPY ended within a row")
	}
	if told != o.rows {
		return diag.CountDiffers.New("source", nil, "the server sent %d rows and counts %d", o.rows, told)
	}
	switch {
	case o.emit == nil:
		return nil
	case o.decoded != nil:
		return o.decoded()
	}
	return o.flush()
}

// close gives the buffer back; after finish or an error.
func (o *copyOut) close() {
	if o.buf != nil {
		o.pool.Put(o.buf)
		o.buf, o.n = nil, 0
	}
}
