package engine

import (
	"strings"
	"testing"

	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func following(t *testing.T, name string, tables ...*rowv1.Table) *Pipeline {
	t.Helper()
	p := newPipeline(&controlv1.Spec{Name: name, Mode: controlv1.Mode_MODE_FULL_LOAD_AND_CDC}, store.State{}, nil, nil)
	var err error
	if p.catalog, err = newCatalog(&connectorv1.DiscoverResponse{Tables: tables}); err != nil {
		t.Fatal(err)
	}
	if err := p.makeTables(nil); err != nil {
		t.Fatal(err)
	}
	return p
}

func tableNamed(name string) *rowv1.Table {
	ref := &rowv1.TableRef{Schema: "s", Name: name}
	return &rowv1.Table{Source: ref, Target: ref}
}

// A table that another pipeline follows into is refused, and nobody is told to empty it; one that was only copied is free.
func TestShared_TablesOfAnotherPipelineAreRefused(t *testing.T) {
	other := following(t, "q-1", tableNamed("a"), tableNamed("b"))
	ours := following(t, "mix", tableNamed("b"), tableNamed("c"))
	full := &connectorv1.Problem{Code: diag.NotEmpty.ID, Object: "table s.b", Fix: []string{"TRUNCATE s.b;"}}
	for mode, want := range map[controlv1.Mode]string{
		controlv1.Mode_MODE_FULL_LOAD_AND_CDC: diag.SharedTarget.ID, controlv1.Mode_MODE_FULL_LOAD: diag.NotEmpty.ID,
	} {
		other.spec.Mode = mode
		memo, err := other.memo()
		if err != nil {
			t.Fatal(err)
		}
		got, err := withShared(&connectorv1.CheckResponse{Problems: []*connectorv1.Problem{full},
			Neighbours: []*connectorv1.Neighbour{{Pipeline: "q-1", Memo: memo}, {Pipeline: "empty"}}}, ours.catalog)
		if err != nil || len(got) != 1 || got[0].Code != want || got[0].Object != "table s.b" {
			t.Errorf("%v: got %v, %v", mode, got, err)
		}
	}
}

// A table that the source does not log is named with what to do, and is neither compared nor counted as equal.
func TestUnfollowed_IsNamedAndNotCountedAsEqual(t *testing.T) {
	loose := tableNamed(`lo"ose`)
	loose.NotLogged = true
	p := following(t, "p", tableNamed("a"), loose)
	for _, x := range p.tables {
		x.Loaded = true
	}
	if todo := p.uncompared(); len(todo) != 1 || todo[0].Index != 0 {
		t.Errorf("to be compared are %v", todo)
	}
	p.tables[0].Compared, p.tables[0].ComparedAt = "equal", 7
	p.publish()
	s := p.status
	if s.TablesEqual != 1 || s.TablesCompared != 1 || s.TablesNotFollowed != 1 || s.EqualAtMicros != 7 {
		t.Errorf("counted: %v", s)
	}
	if n := s.NotCarried; len(n) != 1 || n[0].Object != `s.lo"ose` || !strings.Contains(n[0].Reason, diag.Unlogged.ID) ||
		!strings.Contains(n[0].Todo, `ALTER TABLE "s"."lo""ose" SET LOGGED;`) || !strings.Contains(n[0].Todo, "drover reload p s.lo") {
		t.Errorf("left is %v", n)
	}
	p.failTable(p.tables[0], wire.Failure(diag.NotSent.New("table s.a", nil, "")))
	if p.publish(); p.status.EqualAtMicros != 0 || p.tables[0].ComparedAt != 0 {
		t.Error("a table that is set aside is still told to have been equal")
	}
}
