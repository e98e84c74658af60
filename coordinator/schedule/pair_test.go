package schedule

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// chunks are n chunks that fill a load each.
func chunks(n int) (out []Chunk) {
	for i := range n {
		out = append(out, Chunk{ID: uint64(i), Bytes: mostBytes, Ready: true})
	}
	return out
}

func TestDecide_ChoosesWhoReadsAndWhoWrites(t *testing.T) {
	reader := func(name string, n int) Agent { return Agent{Name: name, Read: n} }
	writer := func(name string, n int) Agent { return Agent{Name: name, Write: n, Reached: true} }
	both := func(name string, n int) Agent { return Agent{Name: name, Read: n, Write: n, Reached: true} }
	for name, c := range map[string]struct {
		view View
		want string
	}{
		"nobody":                            {View{}, ""},
		"nobody writes":                     {View{Agents: []Agent{reader("r", 2)}}, ""},
		"nobody reads":                      {View{Agents: []Agent{writer("w", 2)}}, ""},
		"one reads, one writes":             {View{Agents: []Agent{reader("r", 2), writer("w", 3)}}, "r>w r>w"},
		"the writer's credits bound it":     {View{Agents: []Agent{reader("r", 5), writer("w", 1)}}, "r>w"},
		"several take turns":                {View{Agents: []Agent{reader("r", 2), reader("s", 2), writer("w", 2), writer("x", 2)}}, "r>w s>x r>w s>x"},
		"the idle ones first":               {View{Agents: []Agent{reader("r", 1), reader("s", 3), writer("w", 1), writer("x", 2)}}, "s>x s>w r>x"},
		"one agent for both sides":          {View{Agents: []Agent{reader("r", 1), both("b", 2), writer("w", 1)}}, "b>b b>b r>w"},
		"what its credits leave over":       {View{Agents: []Agent{{Name: "b", Read: 1, Write: 2, Reached: true}, reader("r", 2)}}, "b>b r>b"},
		"nobody reaches it":                 {View{Agents: []Agent{reader("r", 2), {Name: "b", Read: 1, Write: 2}}}, "b>b"},
		"who reads itself writes no others": {View{Agents: []Agent{both("b", 1), reader("r", 2), writer("w", 2)}, InFlight: []Pair{{"b", "w"}}}, "r>w"},
		"and comes back to itself":          {View{Agents: []Agent{both("b", 2), reader("r", 2), writer("w", 2)}, InFlight: []Pair{{"b", "w"}}}, "b>b r>w"},
		"apart": {View{Agents: []Agent{reader("r", 1), reader("s", 1), writer("w", 2)}, Apart: map[Pair]bool{{"r", "w"}: true}},
			"s>w"},
		"apart from itself": {View{Agents: []Agent{both("b", 1), both("c", 1)}, Apart: map[Pair]bool{{"b", "b"}: true}}, "c>c"},
		"the spec's bound":  {View{Agents: []Agent{both("b", 2), both("c", 2)}, Parallel: 3, InFlight: []Pair{{"x", "y"}}}, "b>b c>c"},
	} {
		c.view.Pending = chunks(9)
		var got []string
		for _, g := range Decide(c.view).Grants {
			got = append(got, g.Reader+">"+g.Writer)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
}

// crowd is a load over agents that come and go; its only brain is Decide.
type crowd struct {
	agents   []Agent // as they advertise themselves
	present  map[string]bool
	apart    map[Pair]bool
	pending  []Chunk
	flight   []Grant
	written  map[uint64]int
	parallel int
}

func (c *crowd) used(name string) (read, write int) {
	for _, g := range c.flight {
		if g.Reader == name {
			read++
		}
		if g.Writer == name {
			write++
		}
	}
	return read, write
}

func (c *crowd) view() View {
	v := View{Pending: slices.Clone(c.pending), Parallel: c.parallel, Apart: c.apart}
	for _, g := range c.flight {
		v.InFlight = append(v.InFlight, g.Pair)
	}
	for _, a := range c.agents {
		if c.present[a.Name] {
			v.Agents = append(v.Agents, a)
		}
	}
	return v
}

// decide grants, and tells what no decision may do.
func (c *crowd) decide() (wrong string) {
	for _, g := range Decide(c.view()).Grants {
		for _, id := range g.Chunks {
			i := slices.IndexFunc(c.pending, func(k Chunk) bool { return k.ID == id && k.Ready })
			if i < 0 {
				return fmt.Sprintf("chunk %d is granted, but is not to be had", id)
			}
			c.pending = slices.Delete(c.pending, i, i+1)
		}
		if !c.present[g.Reader] || !c.present[g.Writer] || c.apart[g.Pair] {
			return fmt.Sprintf("%v work together, of %v, apart %v", g.Pair, c.present, c.apart)
		}
		c.flight = append(c.flight, g)
	}
	if c.parallel > 0 && len(c.flight) > c.parallel {
		return fmt.Sprintf("%d loads, the bound is %d", len(c.flight), c.parallel)
	}
	return cmp.Or(c.overdrawn(), c.idle())
}

func (c *crowd) overdrawn() string {
	for _, a := range c.agents {
		if read, write := c.used(a.Name); read > a.Read || write > a.Write {
			return fmt.Sprintf("%+v reads %d and writes %d", a, read, write)
		}
	}
	for _, g := range c.flight {
		w := slices.IndexFunc(c.agents, func(a Agent) bool { return a.Name == g.Writer })
		if g.Reader != g.Writer && !c.agents[w].Reached {
			return fmt.Sprintf("%v: nobody reaches the writer", g.Pair)
		}
	}
	return ""
}

// idle: somebody could work, and there is work. So whoever comes later gets some, too.
func (c *crowd) idle() string {
	ready := slices.ContainsFunc(c.pending, func(k Chunk) bool { return k.Ready })
	if pairs := c.view().pairs(); ready && len(pairs) > 0 {
		return fmt.Sprintf("%v do nothing while chunks wait", pairs)
	}
	return ""
}

// back returns the chunks of loads to those that wait.
func (c *crowd) back(lost func(Grant) bool) {
	c.flight = slices.DeleteFunc(c.flight, func(g Grant) bool {
		if !lost(g) {
			return false
		}
		for _, id := range g.Chunks {
			c.pending = append(c.pending, Chunk{ID: id, Bytes: 1, Ready: true, Held: true, Alone: true})
		}
		return true
	})
}

func (c *crowd) finish() {
	for _, id := range c.flight[0].Chunks {
		c.written[id]++
	}
	c.flight = c.flight[1:]
}

func drawCrowd(t *rapid.T) *crowd {
	c := &crowd{present: map[string]bool{}, apart: map[Pair]bool{}, written: map[uint64]int{}, parallel: rapid.IntRange(0, 4).Draw(t, "parallel")}
	for i := range rapid.IntRange(1, 5).Draw(t, "agents") {
		c.agents = append(c.agents, Agent{Name: string(rune('a' + i)), Read: rapid.IntRange(0, 3).Draw(t, "reads"),
			Write: rapid.IntRange(0, 3).Draw(t, "writes"), Reached: rapid.Bool().Draw(t, "reached")})
	}
	for i := range rapid.IntRange(1, 40).Draw(t, "chunks") {
		c.pending = append(c.pending, Chunk{ID: uint64(i), Bytes: rapid.Int64Range(0, 2*mostBytes).Draw(t, "bytes"),
			Ready: rapid.Bool().Draw(t, "ready"), Shelf: rapid.IntRange(0, 1).Draw(t, "shelf")})
	}
	return c
}

// event lets something happen: an agent comes or goes, a load ends well or not, chunks become ready, a pair fails.
func (c *crowd) event(t *rapid.T) {
	a := rapid.SampledFrom(c.agents).Draw(t, "agent").Name
	switch rapid.IntRange(0, 5).Draw(t, "event") {
	case 0:
		c.present[a] = true
	case 1:
		delete(c.present, a)
		c.back(func(g Grant) bool { return g.Reader == a || g.Writer == a })
	case 2:
		if len(c.flight) > 0 {
			c.finish()
		}
	case 3:
		p := Pair{a, rapid.SampledFrom(c.agents).Draw(t, "with").Name}
		c.apart[p] = true
		c.back(func(g Grant) bool { return g.Pair == p })
	case 4:
		maps.DeleteFunc(c.apart, func(p Pair, _ bool) bool { return p.Reader == a })
	case 5:
		for i := range c.pending {
			c.pending[i].Ready = true
		}
	}
}

// Whoever comes and goes: nobody gets more than its credits, nobody who is gone gets anything, nobody idles while
// chunks wait, and in the end every chunk is written once.
func TestDecide_AgentsComeAndGo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCrowd(t)
		all := len(c.pending)
		step := func() {
			if wrong := c.decide(); wrong != "" {
				t.Fatal(wrong)
			}
		}
		for range rapid.IntRange(0, 60).Draw(t, "events") {
			c.event(t)
			step()
		}
		c.agents = append(c.agents, Agent{Name: "z", Read: 1, Write: 1}) // the end is a good one
		c.present["z"] = true
		for i := range c.pending {
			c.pending[i].Ready = true
		}
		for step(); len(c.flight) > 0; step() {
			c.finish()
		}
		for id, n := range c.written {
			if n != 1 {
				t.Fatalf("chunk %d is written %d times", id, n)
			}
		}
		if len(c.written) != all {
			t.Fatalf("%d of %d chunks are written", len(c.written), all)
		}
	})
}

// However crossed the pairs have become, they settle: who does both sides writes what it reads, and no credit is idle.
func TestDecide_SettlesIntoTheBestPairs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCrowd(t)
		c.parallel = 0
		for range rapid.IntRange(0, 30).Draw(t, "events") {
			c.event(t)
			c.decide()
		}
		clear(c.apart)
		reads, writes := 0, 0
		for i, a := range c.agents {
			c.agents[i].Reached, c.present[a.Name] = true, true
			reads, writes = reads+a.Read, writes+a.Write
		}
		c.pending = chunks(1000)
		for range 100 {
			c.decide()
			if len(c.flight) > 0 {
				c.flight = c.flight[1:]
			}
		}
		c.decide()
		if len(c.flight) != min(reads, writes) {
			t.Fatalf("%d loads, %d can be read and %d written: %v", len(c.flight), reads, writes, c.flight)
		}
		for _, a := range c.agents {
			own := 0
			for _, g := range c.flight {
				if g.Pair == (Pair{a.Name, a.Name}) {
					own++
				}
			}
			if own != min(a.Read, a.Write) {
				t.Fatalf("%+v has %d loads of its own: %v", a, own, c.flight)
			}
		}
	})
}
