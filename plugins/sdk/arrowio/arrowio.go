// Package arrowio reads and writes single Arrow IPC messages.
//
// A row stream sends its schema once and then one encapsulated record batch message per frame, so neither
// side can use the readers and writers of a whole IPC stream. Dictionaries are not used on the wire.
package arrowio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/mem"
)

// continuation precedes the metadata length of every encapsulated message.
const continuation = 0xffffffff

var errMessage = errors.New("arrowio: malformed message")

// Encoder writes the batches of one schema. It is not safe for concurrent use.
type Encoder struct {
	schema  *arrow.Schema
	message []byte
}

// NewEncoder makes an encoder of a schema.
func NewEncoder(schema *arrow.Schema) (*Encoder, error) {
	p := ipc.GetSchemaPayload(schema, memory.DefaultAllocator)
	defer p.Release()
	var out bytes.Buffer
	if _, err := p.WritePayload(&out); err != nil {
		return nil, fmt.Errorf("arrowio: schema: %w", err)
	}
	return &Encoder{schema: schema, message: out.Bytes()}, nil
}

// Schema is what the encoder was made with.
func (e *Encoder) Schema() *arrow.Schema { return e.schema }

// SchemaMessage is the payload of the frame that announces the schema. It must not be changed.
func (e *Encoder) SchemaMessage() []byte { return e.message }

// Batch returns one record batch message. The bytes are the caller's and hold nothing of rec, so
// the memory of rec may be used again at once.
func (e *Encoder) Batch(rec arrow.RecordBatch) ([]byte, error) {
	out := bytes.NewBuffer(make([]byte, 0, estimate(rec)))
	if err := e.write(out, rec); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// PooledBatch is Batch in memory of a pool.
func (e *Encoder) PooledBatch(rec arrow.RecordBatch, pool mem.BufferPool) (mem.Buffer, error) {
	mine := pool.Get(estimate(rec))
	out := bytes.NewBuffer((*mine)[:0])
	if err := e.write(out, rec); err != nil {
		pool.Put(mine)
		return nil, err
	}
	if whole := out.Bytes(); len(whole) <= cap(*mine) {
		*mine = whole
		return mem.NewBuffer(mine, pool), nil
	}
	pool.Put(mine) // the estimate was too low: the buffer has grown out of it
	return mem.SliceBuffer(out.Bytes()), nil
}

func (e *Encoder) write(out *bytes.Buffer, rec arrow.RecordBatch) error {
	if rec.NumCols() != int64(e.schema.NumFields()) {
		return fmt.Errorf("arrowio: batch has %d columns, schema %d", rec.NumCols(), e.schema.NumFields())
	}
	p, err := ipc.GetRecordBatchPayload(rec)
	if err != nil {
		return fmt.Errorf("arrowio: batch: %w", err)
	}
	defer p.Release()
	if _, err := p.WritePayload(out); err != nil {
		return fmt.Errorf("arrowio: batch: %w", err)
	}
	return nil
}

// estimate is an upper bound of the message's size in almost all cases: growing a buffer copies it.
func estimate(rec arrow.RecordBatch) int {
	n := 512
	for _, col := range rec.Columns() {
		n += 256
		for _, b := range col.Data().Buffers() {
			if b != nil {
				n += b.Len() + 64
			}
		}
		for _, child := range col.Data().Children() {
			n += int(child.SizeInBytes()) + 256
		}
	}
	return n
}

// Decoder reads the batches of one schema. It is not safe for concurrent use.
type Decoder struct {
	message []byte
	schema  *arrow.Schema
	feed    *feed
	reader  *ipc.Reader
}

// NewDecoder makes a decoder from the payload of the frame that announced the schema.
func NewDecoder(schemaMessage []byte) (*Decoder, error) {
	d := &Decoder{message: bytes.Clone(schemaMessage)}
	if err := d.reset(); err != nil {
		return nil, err
	}
	d.schema = d.reader.Schema()
	return d, nil
}

func (d *Decoder) reset() error {
	d.feed = &feed{next: d.message}
	reader, err := ipc.NewReaderFromMessageReader(d.feed)
	if err != nil {
		return fmt.Errorf("arrowio: schema: %w", err)
	}
	d.reader = reader
	return nil
}

// Schema is the schema announced.
func (d *Decoder) Schema() *arrow.Schema { return d.schema }

// Decode reads one record batch message. The record refers to payload: keep it unchanged until the
// record is released. The record is the caller's to release.
func (d *Decoder) Decode(payload []byte) (arrow.RecordBatch, error) {
	if d.reader == nil { // a damaged message ends the reader underneath for good
		if err := d.reset(); err != nil {
			return nil, err
		}
	}
	d.feed.next = payload
	rec, err := d.reader.Read()
	if err != nil {
		d.reader.Release()
		d.reader = nil
		return nil, fmt.Errorf("arrowio: batch: %w", err)
	}
	rec.Retain() // the reader lets go of its own reference at the next call
	return rec, nil
}

// Release frees what the decoder holds.
func (d *Decoder) Release() {
	if d.reader != nil {
		d.reader.Release()
		d.reader = nil
	}
}

// feed hands one payload at a time to the stream reader, without copying it.
type feed struct {
	next []byte
	msg  *ipc.Message
}

func (f *feed) Retain() {}

func (f *feed) Release() { f.drop() }

func (f *feed) drop() {
	if f.msg != nil {
		f.msg.Release()
		f.msg = nil
	}
}

func (f *feed) Message() (msg *ipc.Message, err error) {
	defer func() {
		if recover() != nil { // flatbuffers panic on damaged input
			msg, err = nil, errMessage
		}
	}()
	f.drop()
	b := f.next
	f.next = nil
	if b == nil {
		return nil, io.ErrUnexpectedEOF
	}
	if len(b) < 8 || binary.LittleEndian.Uint32(b) != continuation {
		return nil, errMessage
	}
	n := int(binary.LittleEndian.Uint32(b[4:]))
	if n < 8 || n > len(b)-8 {
		return nil, errMessage
	}
	meta, body := memory.NewBufferBytes(b[8:8+n]), memory.NewBufferBytes(b[8+n:])
	f.msg = ipc.NewMessage(meta, body)
	meta.Release()
	body.Release()
	if f.msg.BodyLen() > int64(len(b)-8-n) {
		return nil, errMessage
	}
	return f.msg, nil
}
