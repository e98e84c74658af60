package schedule

import (
	"reflect"
	"slices"
	"testing"
)

// sim is a load whose only brain is Decide.
type sim struct {
	t        *testing.T
	pending  []Chunk
	flight   [][]uint64
	unsplit  []uint32
	split    []uint32
	written  map[uint64]int
	credits  int
	sequence []int
}

func (s *sim) view() View {
	return View{Pending: slices.Clone(s.pending), InFlight: slices.Repeat([]Pair{{"a", "a"}}, len(s.flight)), Splitting: len(s.split),
		Unsplit: s.unsplit, Agents: []Agent{{Name: "a", Read: s.credits, Write: 9}}}
}

func (s *sim) decide() {
	c := Decide(s.view())
	for _, g := range c.Grants {
		for _, id := range g.Chunks {
			i := slices.IndexFunc(s.pending, func(c Chunk) bool { return c.ID == id })
			if i < 0 {
				s.t.Fatalf("%v: chunk %d granted twice", s.sequence, id)
			}
			s.pending = slices.Delete(s.pending, i, i+1)
		}
		s.flight = append(s.flight, g.Chunks)
	}
	for _, t := range c.Split {
		i := slices.Index(s.unsplit, t)
		if i < 0 {
			s.t.Fatalf("%v: table %d split twice", s.sequence, t)
		}
		s.unsplit = slices.Delete(slices.Clone(s.unsplit), i, i+1)
		s.split = append(s.split, t)
	}
	if len(s.flight) > 2 {
		s.t.Fatalf("%v: %d tasks for 2 credits", s.sequence, len(s.flight))
	}
	if s.credits > 0 && len(s.flight) == 0 && len(s.split) == 0 && (len(s.pending) > 0 || len(s.unsplit) > 0) {
		s.t.Fatalf("%v: nothing runs though there is work", s.sequence)
	}
}

// event applies one of: task done, task failed, split done, agent lost, agent back.
func (s *sim) event(e int) bool {
	switch {
	case e == 0 && len(s.flight) > 0:
		for _, id := range s.flight[0] {
			s.written[id]++
		}
		s.flight = s.flight[1:]
	case e == 1 && len(s.flight) > 0:
		for _, id := range s.flight[len(s.flight)-1] {
			s.pending = append(s.pending, Chunk{ID: id, Bytes: 20 << 20, Ready: true, Held: true, Alone: true})
		}
		s.flight = s.flight[:len(s.flight)-1]
	case e == 2 && len(s.split) > 0:
		for n := range uint64(3) {
			s.pending = append(s.pending, Chunk{ID: uint64(s.split[0])<<32 | n, Bytes: 20 << 20, Ready: true})
		}
		s.split = nil
	case e == 3 && s.credits > 0:
		for _, g := range s.flight {
			for _, id := range g {
				s.pending = append(s.pending, Chunk{ID: id, Bytes: 1, Ready: true, Held: true})
			}
		}
		s.flight, s.credits = nil, 0
	case e == 4 && s.credits == 0:
		s.credits = 2
	default:
		return false
	}
	return true
}

// TestDecide_EveryOrderOfEvents walks every sequence of seven events, and lets the rest end well.
func TestDecide_EveryOrderOfEvents(t *testing.T) {
	runs := 0
	var walk func(prefix []int)
	walk = func(prefix []int) {
		s := &sim{t: t, credits: 2, unsplit: []uint32{1, 2}, written: map[uint64]int{}, sequence: prefix}
		s.pending = []Chunk{{ID: 7 << 32, Bytes: 9, Ready: true}, {ID: 8 << 32, Bytes: 9, Ready: true}}
		s.decide()
		for _, e := range prefix {
			if !s.event(e) {
				return
			}
			s.decide()
		}
		if len(prefix) < 7 {
			for e := range 5 {
				walk(append(slices.Clone(prefix), e))
			}
		}
		runs++
		s.event(4)
		s.decide()
		for range 50 {
			if !s.event(0) && !s.event(2) {
				break
			}
			s.decide()
		}
		if len(s.written) != 8 {
			t.Fatalf("%v: %d of 8 chunks are written", prefix, len(s.written))
		}
		for id, n := range s.written {
			if n != 1 {
				t.Fatalf("%v: chunk %d written %d times", prefix, id, n)
			}
		}
	}
	walk(nil)
	if runs < 1000 {
		t.Fatalf("only %d sequences", runs)
	}
}

func TestDecide_PacksSmallTablesAndKeepsShelvesApart(t *testing.T) {
	v := View{Agents: []Agent{{Name: "a", Read: 1, Write: 1}}}
	for i := range uint64(100) {
		v.Pending = append(v.Pending, Chunk{ID: i, Bytes: 10, Ready: i != 5, Shelf: int(i % 2)})
	}
	g := Decide(v).Grants
	if len(g) != 1 || len(g[0].Chunks) != 50 || slices.Contains(g[0].Chunks, 5) || slices.Contains(g[0].Chunks, 1) {
		t.Fatal(g)
	}
	v.Pending[7].Held = true
	if g := Decide(v).Grants; g[0].Chunks[0] != 7 {
		t.Fatal("a chunk that holds the stream must go first", g)
	}
	v.Parallel, v.InFlight = 1, []Pair{{"a", "a"}}
	if g := Decide(v).Grants; len(g) != 0 {
		t.Fatal(g)
	}
}

// bytesOf is what the first grant of one agent holds while n chunks of 16 MiB wait.
func bytesOf(n int, speed map[Pair]int64) (sum int64) {
	v := View{Agents: []Agent{{Name: "a", Read: 1, Write: 1}}, Speed: speed}
	for i := range uint64(n) {
		v.Pending = append(v.Pending, Chunk{ID: i, Bytes: 16 << 20, Ready: true})
	}
	for _, id := range Decide(v).Grants[0].Chunks {
		sum += v.Pending[id].Bytes
	}
	return sum
}

func TestDecide_CutsLoadsByTheirTime(t *testing.T) {
	here, there := Pair{"a", "a"}, Pair{"a", "b"}
	for _, c := range []struct {
		why   string
		speed map[Pair]int64
		wait  int
		want  int64
	}{
		{"nobody knows how fast it is", nil, 1000, 16 << 20},
		{"only another pair has shown", map[Pair]int64{there: 1 << 30}, 1000, 16 << 20},
		{"fast: as much as a transaction should hold", map[Pair]int64{here: 1 << 30}, 1000, 128 << 20},
		{"ten seconds' worth", map[Pair]int64{here: 5 << 20}, 1000, 48 << 20},
		{"slow: one chunk", map[Pair]int64{here: 100 << 10}, 1000, 16 << 20},
		{"nothing moves", map[Pair]int64{here: 0}, 1000, 16 << 20},
		{"towards the end smaller, so that all end together", map[Pair]int64{here: 1 << 30}, 16, 64 << 20},
	} {
		if got := bytesOf(c.wait, c.speed); got != c.want {
			t.Errorf("%s: %d MiB, want %d", c.why, got>>20, c.want>>20)
		}
	}
}

// A view that ends where a decision has enough leads to the same one.
func TestDecide_MoreThanItCanUseChangesNothing(t *testing.T) {
	v := View{Agents: []Agent{{Name: "a", Read: 3, Write: 3, Reached: true}}, InFlight: []Pair{{"a", "a"}}, Unsplit: []uint32{1 << 20},
		Speed: map[Pair]int64{{"a", "a"}: 1 << 30}}
	for i := range uint64(20_000) {
		v.Pending = append(v.Pending, Chunk{ID: i << 32, Bytes: 8192, Ready: true})
	}
	all := Decide(v)
	for _, c := range v.Pending[v.Most():] {
		v.Behind += c.Bytes
	}
	v.Pending = v.Pending[:v.Most()]
	if some := Decide(v); len(all.Grants) != 2 || !reflect.DeepEqual(all, some) {
		t.Errorf("all: %v\nsome: %v", all, some)
	}
}
