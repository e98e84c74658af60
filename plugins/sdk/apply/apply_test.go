package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func pos(n int) []byte { return []byte{byte(n)} }

func roundOf(n int, batches ...*Batch) *Round {
	return &Round{Seq: uint64(n), Positions: pos(n), TxnIDs: []uint64{uint64(n)}, Position: pos(n), Batches: batches}
}

func noReread(context.Context, *Effect, []Ref) (*Reread, error) {
	return nil, errors.New("reread, not expected")
}

// apply runs a round as a connector does: fast, and again in the safe form on a conflict.
func (t *target) apply(p *Plan, ask Rereader) error {
	before := t.clone()
	err := Run(context.Background(), p, t, ask, false)
	if errors.Is(err, errConflict) {
		t.rows, t.count = before.rows, before.count
		err = Run(context.Background(), p, t, ask, true)
	}
	return err
}

func ins(r row) change { return change{op: sdk.OpInsert, row: r, old: -1} }
func del(k string) change {
	return change{op: sdk.OpDelete, row: row{k}, old: -1}
}
func upd(missing byte, r row) change {
	return change{op: sdk.OpUpdate, row: r, unchanged: missing, old: -1}
}

// sim is a source that writes a log of changes as pgoutput does.
type sim struct {
	rows map[string]row
	n    int
	// large: some rows are written with values that are not in the log.
	large bool
}

// say is what the log has of a written row.
func (s *sim) say(t *rapid.T, c change) change {
	if s.large && rapid.IntRange(0, 3).Draw(t, "large") == 0 {
		c.op, c.unchanged, c.old = sdk.OpReread, 0, -1
	}
	return c
}

func (s *sim) step(t *rapid.T, base int) []change {
	k := rapid.SampledFrom([]string{"1", "2", "3", "4"}).Draw(t, "key")
	s.n++
	fresh := func(c int) string { return fmt.Sprintf("%s%d", string(rune('a'+c)), s.n) }
	r, ok := s.rows[k]
	if !ok {
		r = row{k, fresh(1), fresh(2), fresh(3)}
		s.rows[k] = r
		return []change{s.say(t, ins(r))}
	}
	missing := byte(rapid.IntRange(0, 7).Draw(t, "missing")) << 1
	for c := 1; c < width; c++ {
		if missing&(1<<c) == 0 {
			r[c] = fresh(c)
		}
	}
	switch rapid.IntRange(0, 3).Draw(t, "what") {
	case 0:
		delete(s.rows, k)
		return []change{del(k)}
	case 1:
		to := rapid.SampledFrom([]string{"5", "6", "1", "2"}).Draw(t, "to")
		if _, taken := s.rows[to]; taken {
			break
		}
		delete(s.rows, k)
		r[0] = to
		s.rows[to] = r
		i := ins(r)
		i.unchanged, i.old = missing, base
		return []change{del(k), s.say(t, i)}
	case 2: // swap unique values with another row: three updates through a free value
		other := rapid.SampledFrom([]string{"1", "2", "3", "4"}).Draw(t, "other")
		o, there := s.rows[other]
		if !there || other == k {
			break
		}
		r = s.rows[k]
		r[1], o[1] = o[1], r[1]
		s.rows[k], s.rows[other] = r, o
		free := o
		free[1] = fresh(1)
		return []change{upd(0b1100, free), upd(0b1100, r), upd(0b1100, o)}
	}
	s.rows[k] = r
	return []change{s.say(t, upd(missing, r))}
}

func TestRun_NetEffectEqualsOneByOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src, dst := &sim{rows: map[string]row{}}, newTarget()
		dst.unique = true
		planner, covers := NewPlanner(testTables(rowv1.GateMode_GATE_MODE_KEYED)), NewCovers()
		for n := range rapid.IntRange(1, 6).Draw(t, "rounds") {
			var batches []*Batch
			for range rapid.IntRange(1, 3).Draw(t, "batches") {
				var changes []change
				for range rapid.IntRange(1, 8).Draw(t, "changes") {
					changes = append(changes, src.step(t, len(changes))...)
				}
				batches = append(batches, batchOf(nil, false, changes...))
			}
			p, err := planner.Plan(roundOf(n+1, batches...), covers)
			if err != nil {
				t.Fatal(err)
			}
			if err := dst.apply(p, noReread); err != nil {
				t.Fatal(err)
			}
			p.Release()
			if !maps.Equal(src.rows, dst.rows) {
				t.Fatalf("round %d\nsource %v\ntarget %v", n, src.rows, dst.rows)
			}
		}
	})
}

// Rows that are not in the log, or too large to be fetched, are sent again, also when the round is run twice; what was
// read of them covers their later pieces.
func TestRun_LargeRowsAreReadAgain(t *testing.T) {
	renewed, safe := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		src, dst := &sim{rows: map[string]row{}, large: true}, newTarget()
		dst.unique, dst.source = true, src.rows
		dst.huge = func(string) bool { return rapid.IntRange(0, 2).Draw(t, "huge") == 0 }
		planner, covers := NewPlanner(testTables(rowv1.GateMode_GATE_MODE_KEYED)), NewCovers()
		for n := range rapid.IntRange(1, 6).Draw(t, "rounds") {
			var batches []*Batch
			for range rapid.IntRange(1, 3).Draw(t, "batches") {
				var changes []change
				for range rapid.IntRange(1, 8).Draw(t, "changes") {
					changes = append(changes, src.step(t, len(changes))...)
				}
				batches = append(batches, batchOf(nil, false, changes...))
			}
			dst.coverage = &rowv1.Coverage{Exact: true, Xmin: uint64(n + 2), Xmax: uint64(n + 2), HighWater: pos(n + 1)}
			ask := func(_ context.Context, e *Effect, keys []Ref) (*Reread, error) {
				r := &Reread{Coverage: dst.coverage}
				var rows []change
				for _, k := range keys {
					key := string(e.Batches[k.Batch].Key(int(k.Row)))
					if row, ok := src.rows[key]; ok && dst.huge(key) {
						r.Large = append(r.Large, []byte(key))
					} else if ok {
						rows = append(rows, ins(row))
					}
				}
				r.Rows = batchOf(nil, false, rows...)
				return r, nil
			}
			p, err := planner.Plan(roundOf(n+1, batches...), covers)
			if err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 3).Draw(t, "twice") == 0 { // the target refused something behind it and rolled back
				safe++
				if err := dst.clone().apply(p, ask); err != nil {
					t.Fatal(err)
				}
			}
			if err := dst.apply(p, ask); err != nil {
				t.Fatal(err)
			}
			p.Release()
			if !maps.Equal(src.rows, dst.rows) {
				t.Fatalf("round %d\nsource %v\ntarget %v", n, src.rows, dst.rows)
			}
			covers.Passed(pos(n + 1))
		}
		renewed += dst.renewed
	})
	if renewed == 0 || safe == 0 {
		t.Errorf("%d rows were sent again, %d rounds were run twice", renewed, safe)
	}
}

func TestRun_FullRowsAreCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src, dst := map[row]int{}, newTarget()
		planner, covers := NewPlanner(testTables(rowv1.GateMode_GATE_MODE_UNIT_FULL_ROW)), NewCovers()
		for n := range 3 {
			var changes []change
			for range rapid.IntRange(1, 20).Draw(t, "changes") {
				r := row{rapid.SampledFrom([]string{"x", "y"}).Draw(t, "v")}
				c := ins(r)
				if src[r] > 0 && rapid.Bool().Draw(t, "delete") {
					c.op = sdk.OpDelete
					src[r]--
				} else {
					src[r]++
				}
				changes = append(changes, c)
			}
			p, err := planner.Plan(roundOf(n+1, batchOf(nil, true, changes...)), covers)
			if err != nil {
				t.Fatal(err)
			}
			if err := dst.apply(p, noReread); err != nil {
				t.Fatal(err)
			}
			p.Release()
			for r, c := range src {
				if dst.count[r] != c {
					t.Fatalf("%d of %v, want %d", dst.count[r], r, c)
				}
			}
		}
	})
}

func TestRun_MoveWithDroppedDelete(t *testing.T) {
	planner, covers, dst := NewPlanner(testTables(rowv1.GateMode_GATE_MODE_KEYED)), NewCovers(), newTarget()
	dst.rows["2"] = row{"2", "there", "b", "c"}
	move := ins(row{"2", "new", "", ""})
	move.unchanged, move.old = 0b1100, 0
	p, err := planner.Plan(roundOf(1, batchOf([]byte{1}, false, del("1"), move)), covers)
	if err != nil {
		t.Fatal(err)
	}
	if err := dst.apply(p, noReread); err != nil {
		t.Fatal(err)
	}
	if want := (row{"2", "new", "b", "c"}); dst.rows["2"] != want {
		t.Errorf("row at the new key is not used: %v", dst.rows)
	}

	delete(dst.rows, "2")
	asked := 0
	ask := func(_ context.Context, e *Effect, keys []Ref) (*Reread, error) {
		asked++
		return &Reread{Rows: batchOf(nil, false, ins(row{"2", "now", "bb", "cc"})),
			Coverage: &rowv1.Coverage{Exact: true, Xmin: 5, Xmax: 5, HighWater: pos(9)}}, nil
	}
	p, err = planner.Plan(roundOf(2, batchOf([]byte{1}, false, del("1"), move, upd(0, row{"3", "x", "x", "x"}))), covers)
	if err != nil {
		t.Fatal(err)
	}
	dst.rows["3"] = row{"3"}
	if err := dst.apply(p, ask); err != nil || asked != 1 {
		t.Fatalf("asked %d times: %v", asked, err)
	}
	if want := (row{"2", "now", "bb", "cc"}); dst.rows["2"] != want || dst.rows["3"][1] != "x" {
		t.Errorf("after the reread: %v", dst.rows)
	}
	for n, want := range map[int]string{4: "now", 7: "after"} {
		p, err := planner.Plan(roundOf(n, batchOf(nil, false, upd(0b1100, row{"2", "after"}))), covers)
		if err != nil {
			t.Fatal(err)
		}
		if err := dst.clone().apply(p, noReread); err != nil {
			t.Fatal(err)
		}
		if got := len(p.Effects[0].Updates); (got == 1) != (want == "after") {
			t.Errorf("transaction %d: %d updates", n, got)
		}
	}
	if covers.Len() != 1 || len(covers.Passed(pos(8))) != 0 || len(covers.Passed(pos(9))) != 1 {
		t.Error("coverage is kept or removed at the wrong time")
	}
}

// Two rows change places through a third key, and the values that stay are not in the log. One of them was read when that
// had happened, so its part is dropped: what is left must not take the values of the row that it replaces.
func TestRun_RowsThatChangePlacesKeepTheirValues(t *testing.T) {
	planner, covers, dst := NewPlanner(testTables(rowv1.GateMode_GATE_MODE_KEYED)), NewCovers(), newTarget()
	dst.rows["1"], dst.rows["2"] = row{"1", "of 2", "of 2", "of 2"}, row{"2", "of 2", "of 2", "of 2"}
	moved := func(to string, from int) change {
		c := ins(row{to, "", "", ""})
		c.unchanged, c.old = 0b1110, from
		return c
	}
	const dropped = 1<<0 | 1<<3
	p, err := planner.Plan(roundOf(1, batchOf([]byte{dropped}, false,
		del("1"), moved("tmp", 0), del("2"), moved("1", 2), del("tmp"), moved("2", 4))), covers)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(_ context.Context, e *Effect, keys []Ref) (*Reread, error) {
		return &Reread{Rows: batchOf(nil, false, ins(row{"2", "of 1", "of 1", "of 1"})),
			Coverage: &rowv1.Coverage{Exact: true, Xmin: 5, Xmax: 5, HighWater: pos(9)}}, nil
	}
	if err := dst.apply(p, ask); err != nil {
		t.Fatal(err)
	}
	want := map[string]row{"1": {"1", "of 2", "of 2", "of 2"}, "2": {"2", "of 1", "of 1", "of 1"}}
	if !maps.Equal(dst.rows, want) {
		t.Errorf("the target has %v", dst.rows)
	}
}

func TestRun_PartialUpdateOfNothingIsAnError(t *testing.T) {
	p, err := NewPlanner(testTables(rowv1.GateMode_GATE_MODE_KEYED)).Plan(roundOf(1, batchOf(nil, false, upd(2, row{"1", "", "x", "y"}))), NewCovers())
	if err != nil {
		t.Fatal(err)
	}
	if err := newTarget().apply(p, noReread); diag.Find(err) == nil || diag.Find(err).Code.ID != diag.MissingRow.ID {
		t.Errorf("%v", err)
	}
}

// TPC-B: every transaction updates one account, teller and branch and inserts history.
func BenchmarkPlan_TPCB(b *testing.B) {
	const rows = 100_000
	var changes []change
	for i := range rows {
		k := fmt.Sprint((i * 7919) % 60_000)
		changes = append(changes, change{op: sdk.OpUpdate, row: row{k, "v", "w", "x"}, old: -1})
	}
	batch := batchOf(nil, false, changes...)
	planner, covers := NewPlanner(testTables(rowv1.GateMode_GATE_MODE_KEYED)), NewCovers()
	b.ReportAllocs()
	for b.Loop() {
		batch.rec.Retain()
		again, err := NewBatch(0, 1, batch.rec, nil)
		if err != nil {
			b.Fatal(err)
		}
		p, err := planner.Plan(roundOf(1, again), covers)
		if err != nil {
			b.Fatal(err)
		}
		p.Release()
	}
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}
