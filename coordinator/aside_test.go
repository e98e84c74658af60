package coordinator

import (
	"slices"
	"testing"
	"time"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// asides is a world whose target keeps what is set aside.
type asides struct {
	*world
	// fails is what the next streams end with or, if failing is not negative, every load of that table.
	fails   []*fleetv1.Failure
	failing int
	stored  map[uint32]*connectorv1.Aside
	// order is what was done with tables, in that order.
	order []string
	gates [][]*fleetv1.GateTable
}

func (a *asides) answer(t *fleetv1.Task, event func(*fleetv1.Event)) *fleetv1.Result {
	a.mu.Lock()
	failed := &fleetv1.Result{Task: t.Id, Epoch: t.Epoch, Pipeline: t.Pipeline}
	if len(a.fails) > 0 {
		failed.Failure = a.fails[0]
	}
	switch k := t.Work.(type) {
	case *fleetv1.Task_Reset_:
		for _, x := range k.Reset_.Aside {
			a.stored[x.Table] = x
			a.order = append(a.order, "told")
		}
		for _, x := range k.Reset_.Tables {
			if a.stored[x.Index] != nil {
				a.order = append(a.order, "emptied")
			}
			delete(a.stored, x.Index)
		}
	case *fleetv1.Task_Prepare:
		if k.Prepare.Settle {
			a.order = append(a.order, "settled")
		}
	case *fleetv1.Task_Stream:
		a.order, a.gates = append(a.order, "stream"), append(a.gates, k.Stream.Gate)
		if len(a.fails) > 0 && a.failing < 0 {
			a.fails = a.fails[1:]
			defer a.mu.Unlock()
			event(&fleetv1.Event{Task: t.Id, Epoch: t.Epoch, Kind: &fleetv1.Event_StreamStarted{StreamStarted: &fleetv1.StreamStarted{}}})
			return failed
		}
	case *fleetv1.Task_Load:
		if slices.ContainsFunc(k.Load.Chunks, func(c *rowv1.Chunk) bool { return int(c.Table) == a.failing }) && len(a.fails) > 0 {
			a.mu.Unlock()
			return failed
		}
	}
	a.mu.Unlock()
	r := a.world.answer(t, event)
	if k := t.GetRecover(); k != nil {
		for _, x := range a.stored {
			r.GetRecover().Aside = append(r.GetRecover().Aside, x)
		}
	}
	return r
}

// run serves a coordinator with such a world.
func (a *asides) run(t *testing.T, dir string) (controlv1.ControlServiceClient, func()) {
	t.Helper()
	a.world, a.stored = newWorld(), map[uint32]*connectorv1.Aside{}
	conn, stop := serveWith(t, dir, a.world, player{hello: hello("a", 2), answer: a.answer})
	return controlv1.NewControlServiceClient(conn), stop
}

func (a *asides) did(t *testing.T, want ...string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.order, want) {
		t.Errorf("done were %v, want %v", a.order, want)
	}
	a.order = nil
}

// until polls the status.
func until(t *testing.T, c controlv1.ControlServiceClient, what string, ok func(*controlv1.Status) bool) {
	t.Helper()
	var last *controlv1.Status
	for range 200 {
		if r, err := c.Get(t.Context(), &controlv1.GetRequest{Pipeline: "p"}); err == nil {
			if last = r.Status; ok(last) {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("never: %s: %v", what, last)
}

func partly(s *controlv1.Status) bool {
	return s.TablesFailed == 1 && s.TablesEqual == 2 && s.TablesCompared == 2 && s.TablesDone == 2 && s.Health == controlv1.Health_HEALTH_DEGRADED && len(s.Failures) == 1
}

func whole(s *controlv1.Status) bool {
	return s.TablesFailed == 0 && s.TablesEqual == 3 && s.TablesDone == 3 && len(s.Failures) == 0
}

// about are failures that name these tables.
func about(code diag.Code, tables ...uint32) (all []*fleetv1.Failure) {
	for _, t := range tables {
		all = append(all, wire.Failure(diag.About(code.New("somewhere", nil, "in a test"), t)))
	}
	return all
}

// What concerns more than a table sets none aside, even if it names one; and the last table stops the pipeline, from where
// it goes on when it is told to.
func TestCoordinator_SetsNothingAsideForWhatConcernsAll(t *testing.T) {
	a := &asides{failing: -1, fails: about(diag.StreamBroken, 0)}
	c, _ := a.run(t, t.TempDir())
	apply(t, c, controlv1.Mode_MODE_FULL_LOAD_AND_CDC)
	until(t, c, "it has failed", func(s *controlv1.Status) bool {
		return s.Health == controlv1.Health_HEALTH_FAILED && s.TablesFailed == 0
	})
	a.did(t, "stream")
	a.mu.Lock()
	a.fails = about(diag.RowRefused, 2, 0, 1)
	a.mu.Unlock()
	if _, err := c.Resume(t.Context(), &controlv1.ResumeRequest{Pipeline: "p"}); err != nil {
		t.Fatal(err)
	}
	until(t, c, "all have failed", func(s *controlv1.Status) bool {
		return s.Health == controlv1.Health_HEALTH_FAILED && s.TablesFailed == 2 && s.Failures[0].Code == diag.RowRefused.ID
	})
	a.did(t, "stream", "told", "stream", "told", "stream")
	if _, err := c.Resume(t.Context(), &controlv1.ResumeRequest{Pipeline: "p"}); err != nil {
		t.Fatal(err)
	}
	until(t, c, "the last one goes on", func(s *controlv1.Status) bool {
		return s.Phase == controlv1.Phase_PHASE_STREAMING && s.TablesFailed == 2 && s.TablesEqual == 1
	})
	if _, err := c.Reload(t.Context(), &controlv1.ReloadRequest{Pipeline: "p"}); err != nil {
		t.Fatal(err)
	}
	until(t, c, "all are equal", whole)
}

// A stream that fails for one table: the target is told before the next stream, which drops it; a new coordinator knows. Asked
// to load it again, all that runs at the source is waited for beside the stream, then it is emptied before the next one.
func TestCoordinator_SetsAsideAndLoadsAgain(t *testing.T) {
	a, dir := &asides{failing: -1, fails: about(diag.SchemaChanged, 0)}, t.TempDir()
	c, _ := a.run(t, dir)
	apply(t, c, controlv1.Mode_MODE_FULL_LOAD_AND_CDC)
	until(t, c, "the others stream", func(s *controlv1.Status) bool { return s.Phase == controlv1.Phase_PHASE_STREAMING && partly(s) })
	a.did(t, "stream", "told", "stream")
	if g := a.gates[1]; !g[0].Aside || g[1].Aside || g[2].Aside {
		t.Errorf("the gate has %v", g)
	}
	if _, err := c.Reload(t.Context(), &controlv1.ReloadRequest{Pipeline: "p", Tables: []string{"s.b"}}); err == nil {
		t.Error("a table that has not failed is emptied without being asked twice")
	}
	r, err := c.Reload(t.Context(), &controlv1.ReloadRequest{Pipeline: "p"})
	if err != nil || !slices.Equal(r.Tables, []string{"s.a"}) {
		t.Fatal(r, err)
	}
	until(t, c, "all are equal", whole)
	a.did(t, "stream", "settled", "emptied", "stream")
	if g := a.gates[3]; g[0].Aside || g[0].Done || !g[1].Done {
		t.Errorf("the gate has %v", g)
	}
	if _, err := c.Reload(t.Context(), &controlv1.ReloadRequest{Pipeline: "p", Tables: []string{"s.b"}, Force: true}); err != nil {
		t.Fatal(err)
	}
	until(t, c, "it is out of sync for everybody", func(s *controlv1.Status) bool { return !whole(s) })
	until(t, c, "all are equal again", whole)
	a.did(t, "told", "stream", "settled", "emptied", "stream")
}

// A load that fails for one table ends without it, in place; asked again, only that one is loaded.
func TestCoordinator_ALoadGoesOnWithoutATable(t *testing.T) {
	a := &asides{failing: 0, fails: about(diag.RowRefused, 0)}
	c, _ := a.run(t, t.TempDir())
	apply(t, c, controlv1.Mode_MODE_FULL_LOAD)
	if s := await(t, c, controlv1.Phase_PHASE_DONE); !partly(s) || a.fences != 1 {
		t.Fatal(a.fences, s)
	}
	a.did(t, "told")
	writes := a.writes
	a.mu.Lock()
	a.fails = nil
	a.mu.Unlock()
	if _, err := c.Apply(t.Context(), &controlv1.ApplyRequest{Spec: spec(controlv1.Mode_MODE_FULL_LOAD), Start: true, Retry: true}); err != nil {
		t.Fatal(err)
	}
	until(t, c, "all are there", func(s *controlv1.Status) bool { return s.Phase == controlv1.Phase_PHASE_DONE && whole(s) })
	if a.did(t, "emptied"); a.writes != writes+1 {
		t.Errorf("%d chunks were written again", a.writes-writes)
	}
}

// The same while changes are followed, for a unit that shares its snapshot with nobody left: nothing starts over.
func TestCoordinator_ALoadGoesOnWithoutAUnit(t *testing.T) {
	a := &asides{failing: 2, fails: about(diag.RowRefused, 2)}
	c, _ := a.run(t, t.TempDir())
	apply(t, c, controlv1.Mode_MODE_FULL_LOAD_AND_CDC)
	until(t, c, "the others stream", func(s *controlv1.Status) bool { return s.Phase == controlv1.Phase_PHASE_STREAMING && partly(s) })
	if a.did(t, "stream", "told"); a.fences != 1 {
		t.Errorf("%d attempts", a.fences)
	}
	a.mu.Lock()
	a.fails = nil
	a.mu.Unlock()
	if _, err := c.Reload(t.Context(), &controlv1.ReloadRequest{Pipeline: "p"}); err != nil {
		t.Fatal(err)
	}
	until(t, c, "all are equal", whole)
	a.did(t, "stream", "settled", "emptied", "stream")
}
