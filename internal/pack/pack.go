// Package pack keeps the tables and steps of a catalog as compressed pages. Every process between a source and a sink
// holds a catalog, and unpacked a table takes kilobytes: packed it takes some tens of bytes, and whoever needs a table or
// a step unpacks one page at a time.
package pack

import (
	"sync"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const (
	// pageBytes is about how large a page is before it is packed: it bounds what unpacking one takes.
	pageBytes = 256 << 10
	// mostBytes bounds what a page may unpack to: one object may be large.
	mostBytes = 1 << 30
	window    = 128 << 10
)

// The coders are made once: each holds buffers. Both are safe for concurrent use.
var coders = sync.OnceValues(func() (*zstd.Encoder, *zstd.Decoder) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic("pack: " + err.Error()) // the options are constants
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(mostBytes))
	if err != nil {
		panic("pack: " + err.Error())
	}
	return e, d
})

// Page packs what a message holds.
func Page(d *connectorv1.DiscoverResponse) ([]byte, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(d)
	if err != nil {
		return nil, diag.Internal.New("catalog", err, "a page cannot be encoded")
	}
	e, _ := coders()
	return e.EncodeAll(raw, nil), nil
}

// Each unpacks one page after the other.
func Each(pages [][]byte, f func(*connectorv1.DiscoverResponse) error) error {
	_, d := coders()
	var raw []byte
	for _, p := range pages {
		var err error
		if raw, err = d.DecodeAll(p, raw[:0]); err != nil {
			return broken(err)
		}
		m := &connectorv1.DiscoverResponse{}
		if err := proto.Unmarshal(raw, m); err != nil {
			return broken(err)
		}
		if err := f(m); err != nil {
			return err
		}
	}
	return nil
}

func broken(err error) error {
	return diag.StateUnusable.New("catalog", err, "a page cannot be read")
}

// Writer makes pages of tables and steps as they come. The zero value is ready.
type Writer struct {
	page  connectorv1.DiscoverResponse
	size  int
	pages [][]byte
}

// Table adds a table.
func (w *Writer) Table(t *rowv1.Table) error {
	w.page.Tables = append(w.page.Tables, t)
	return w.full(t)
}

// Step adds a step.
func (w *Writer) Step(s *connectorv1.SchemaStep) error {
	w.page.Steps = append(w.page.Steps, s)
	return w.full(s)
}

// Packed adds pages that exist already, behind what came before.
func (w *Writer) Packed(pages [][]byte) error {
	err := w.flush()
	w.pages = append(w.pages, pages...)
	return err
}

func (w *Writer) full(more proto.Message) error {
	if w.size += proto.Size(more); w.size < pageBytes {
		return nil
	}
	return w.flush()
}

func (w *Writer) flush() error {
	if w.size == 0 && len(w.page.Tables) == 0 && len(w.page.Steps) == 0 {
		return nil
	}
	p, err := Page(&w.page)
	w.pages, w.size = append(w.pages, p), 0
	w.page.Tables, w.page.Steps = nil, nil
	return err
}

// Pages are all that was added.
func (w *Writer) Pages() ([][]byte, error) {
	err := w.flush()
	return w.pages, err
}
