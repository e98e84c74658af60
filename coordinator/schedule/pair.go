package schedule

import "slices"

// Agent may run loads, with the credits it has left: none for a side it does not do.
type Agent struct {
	Name        string
	Read, Write int
	// Reached: others can send it rows. Who is not reached writes only what it has read itself.
	Reached bool
}

// Pair is who reads a load and who writes it, often one agent.
type Pair struct{ Reader, Writer string }

// pairs chooses who runs the next loads: as many as credits, and the spec's bound, allow.
func (v View) pairs() []Pair {
	free := slices.Clone(v.Agents)
	var out []Pair
	for v.Parallel == 0 || v.InFlight+len(out) < v.Parallel {
		reader, writer := v.next(free)
		if reader == nil {
			break
		}
		reader.Read, writer.Write = reader.Read-1, writer.Write-1
		out = append(out, Pair{reader.Name, writer.Name})
	}
	return out
}

// next is the best pair that has credits left; nil when there is none.
func (v View) next(free []Agent) (reader, writer *Agent) {
	var best rank
	for i := range free {
		for j := range free {
			r, w := &free[i], &free[j]
			if r.Read <= 0 || w.Write <= 0 || i != j && !w.Reached || v.Apart[Pair{r.Name, w.Name}] {
				continue
			}
			if n := rankOf(r, w); reader == nil || slices.Compare(n[:], best[:]) > 0 {
				reader, writer, best = r, w, n
			}
		}
	}
	return reader, writer
}

// rank orders pairs: one agent for both sides first, because rows then pass through memory; else who has most credits
// left reads, and who has most left writes.
type rank [3]int

func rankOf(reader, writer *Agent) rank {
	if reader == writer {
		return rank{1, min(reader.Read, reader.Write)}
	}
	return rank{0, reader.Read, writer.Write}
}
