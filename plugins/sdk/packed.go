package sdk

import (
	"runtime/debug"

	"github.com/droverdb/drover/internal/pack"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// manyObjects is from how many tables and steps on a call takes so much memory that it is worth giving back at once.
const manyObjects = 2000

// packPage packs the tables and steps of an answer.
func packPage(page *connectorv1.DiscoverResponse) (*connectorv1.DiscoverResponse, error) {
	var w pack.Writer
	for _, t := range page.Tables {
		if err := w.Table(t); err != nil {
			return nil, err
		}
	}
	for _, s := range page.Steps {
		if err := w.Step(s); err != nil {
			return nil, err
		}
	}
	packed, err := w.Pages()
	return &connectorv1.DiscoverResponse{Packed: append(packed, page.Packed...), NotCarried: page.NotCarried, Problems: page.Problems}, err
}

// unpack adds what the pages hold to the tables and steps that are there.
func unpack(pages *[][]byte, tables *[]*rowv1.Table, steps *[]*connectorv1.SchemaStep) error {
	err := pack.Each(*pages, func(d *connectorv1.DiscoverResponse) error {
		*tables, *steps = append(*tables, d.Tables...), append(*steps, d.Steps...)
		return nil
	})
	*pages = nil
	return err
}

// GiveBack returns the memory of work on many objects that is over to the system: the collector would keep it for work of
// the same size, which seldom comes, while other processes have theirs to do.
func GiveBack(objects int) {
	if objects >= manyObjects {
		debug.FreeOSMemory()
	}
}

// Tables finds the tables of a stream, which come plain or packed, and keeps packed what nobody asks for.
type Tables struct{ shelf *pack.Shelf }

// NewTables takes what StreamRequest.Start or ApplyOpen hold. see, if given, is called once with every table.
func NewTables(plain []*rowv1.Table, packed [][]byte, see func(*rowv1.Table)) (*Tables, error) {
	s, err := pack.NewShelf(plain, packed, see)
	if err != nil {
		return nil, err
	}
	return &Tables{s}, nil
}

// Len is how many there are.
func (t *Tables) Len() int { return t.shelf.Len() }

// Table is nil when there is none of that index. Who needs it often keeps it.
func (t *Tables) Table(index uint32) (*rowv1.Table, error) { return t.shelf.Table(index) }
