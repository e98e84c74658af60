package pack

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func some(n int) (*connectorv1.DiscoverResponse, *Writer) {
	plain, w := &connectorv1.DiscoverResponse{}, &Writer{}
	for i := range n {
		t := &rowv1.Table{Index: uint32(i), Source: &rowv1.TableRef{Schema: "public", Name: fmt.Sprint("t", i)}, EstimatedRows: int64(i)}
		for c := range 5 {
			t.Columns = append(t.Columns, &rowv1.Column{Name: fmt.Sprint("column", c), NativeType: "timestamp with time zone", LogicalType: "timestamptz"})
		}
		s := &connectorv1.SchemaStep{Id: uint32(i), Kind: "table", Object: fmt.Sprint("public.t", i), Table: uint32(i + 1),
			Sql: []string{fmt.Sprintf("CREATE TABLE public.t%d (id int NOT NULL, name text, at timestamptz)", i)}}
		plain.Tables, plain.Steps = append(plain.Tables, t), append(plain.Steps, s)
	}
	for _, t := range plain.Tables {
		_ = w.Table(t)
	}
	for _, s := range plain.Steps {
		_ = w.Step(s)
	}
	return plain, w
}

func TestWriter_LosesNothingAndKeepsTheOrder(t *testing.T) {
	for _, n := range []int{0, 1, 3000} {
		plain, w := some(n)
		pages, err := w.Pages()
		if err != nil {
			t.Fatal(err)
		}
		if n > 1000 && len(pages) < 2 || n == 0 && len(pages) > 0 {
			t.Errorf("%d tables make %d pages", n, len(pages))
		}
		got := &connectorv1.DiscoverResponse{}
		if err := Each(pages, func(d *connectorv1.DiscoverResponse) error { proto.Merge(got, d); return nil }); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(plain, got) {
			t.Errorf("%d tables came back otherwise", n)
		}
	}
}

// What a catalog takes while nobody looks at it decides how much memory Drover needs for many tables.
func TestPages_AreSmall(t *testing.T) {
	const n = 3000
	_, w := some(n)
	pages, err := w.Pages()
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, p := range pages {
		size += len(p)
	}
	if per := size / n; per > 60 {
		t.Errorf("a table and its step take %d bytes", per)
	}
}

func TestEach_SaysThatAPageIsBroken(t *testing.T) {
	_, w := some(10)
	pages, err := w.Pages()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{pages[0][:len(pages[0])/2], []byte("no page")} {
		err := Each([][]byte{bad}, func(*connectorv1.DiscoverResponse) error { return nil })
		if d := diag.Find(err); d == nil || d.Code.ID != diag.StateUnusable.ID {
			t.Errorf("%v", err)
		}
	}
}

func TestShelf_FindsEveryTable(t *testing.T) {
	plain, _ := some(3000)
	var w Writer
	for _, x := range plain.Tables[1000:] {
		if err := w.Table(x); err != nil {
			t.Fatal(err)
		}
	}
	pages, err := w.Pages()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	s, err := NewShelf(plain.Tables[:1000], pages, func(*rowv1.Table) { seen++ })
	if err != nil || seen != 3000 {
		t.Fatal(seen, err)
	}
	for _, i := range []uint32{0, 2999, 1000, 999, 1, 2998} {
		if got, err := s.Table(i); err != nil || !proto.Equal(got, plain.Tables[i]) {
			t.Errorf("table %d: %v, %v", i, got, err)
		}
	}
	if got, err := s.Table(3000); got != nil || err != nil {
		t.Errorf("table 3000: %v, %v", got, err)
	}
}
