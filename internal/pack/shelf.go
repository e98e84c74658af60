package pack

import (
	"sync"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Shelf finds tables by their index in pages that stay packed. It is safe for concurrent use.
type Shelf struct {
	pages [][]byte
	// place is the page of each table, by its index.
	place map[uint32]uint32

	mu   sync.Mutex
	open uint32 // the page that is unpacked; valid once last is set
	last map[uint32]*rowv1.Table
}

// NewShelf puts plain tables and those of pages together. see, if given, is called once with every table.
func NewShelf(plain []*rowv1.Table, pages [][]byte, see func(*rowv1.Table)) (*Shelf, error) {
	var w Writer
	for _, t := range plain {
		if err := w.Table(t); err != nil {
			return nil, err
		}
	}
	if err := w.Packed(pages); err != nil {
		return nil, err
	}
	s := &Shelf{pages: w.pages, place: map[uint32]uint32{}}
	n := uint32(0)
	err := Each(s.pages, func(d *connectorv1.DiscoverResponse) error {
		for _, t := range d.Tables {
			s.place[t.Index] = n
			if see != nil {
				see(t)
			}
		}
		n++
		return nil
	})
	return s, err
}

// Len is how many tables there are.
func (s *Shelf) Len() int { return len(s.place) }

// Table unpacks a table; nil when there is none of that index. Who needs it often keeps it.
func (s *Shelf) Table(index uint32) (*rowv1.Table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	page, ok := s.place[index]
	if !ok {
		return nil, nil
	}
	if s.last == nil || s.open != page {
		last := map[uint32]*rowv1.Table{}
		err := Each(s.pages[page:page+1], func(d *connectorv1.DiscoverResponse) error {
			for _, t := range d.Tables {
				last[t.Index] = t
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		s.open, s.last = page, last
	}
	return s.last[index], nil
}
