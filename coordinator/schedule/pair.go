package schedule

import "cmp"

// Agent may run loads: how many it reads and how many it writes at the same time, none for a side that it does not do.
type Agent struct {
	Name        string
	Read, Write int
	// Reached: others can send it rows. Who is not reached writes only what it has read itself.
	Reached bool
}

// Pair is who reads a load and who writes it, often one agent.
type Pair struct{ Reader, Writer string }

// free are the credits that an agent has left. Who does both sides keeps credits for loads of its own, because their rows
// pass through memory: once others had taken its writes, its reads would have to go elsewhere, for ever.
type free struct {
	Agent
	own, read, write int
}

func (v View) free() []free {
	out := make([]free, 0, len(v.Agents))
	for _, a := range v.Agents {
		own, reads, writes := min(a.Read, a.Write), a.Read, a.Write
		if v.Apart[Pair{a.Name, a.Name}] {
			own = 0
		}
		for _, p := range v.InFlight {
			if p.Reader == a.Name {
				reads--
			}
			if p.Writer == a.Name {
				writes--
			}
			if p.Reader == p.Writer && p.Reader == a.Name {
				own--
			}
		}
		kept := max(own, 0)
		out = append(out, free{Agent: a, own: min(own, reads, writes), read: reads - kept, write: writes - kept})
	}
	return out
}

// pairs chooses who runs the next loads: as many as credits, and the spec's bound, allow. One agent for both sides comes
// first; else who has most credits left reads, and who has most left writes.
func (v View) pairs() []Pair {
	all := v.free()
	var out []Pair
	for v.Parallel == 0 || len(v.InFlight)+len(out) < v.Parallel {
		reader, writer := v.next(all)
		if reader == nil {
			break
		}
		if reader == writer {
			reader.own--
		} else {
			reader.read, writer.write = reader.read-1, writer.write-1
		}
		out = append(out, Pair{reader.Name, writer.Name})
	}
	return out
}

// next is the best pair that has credits left; nil when there is none.
func (v View) next(all []free) (reader, writer *free) {
	var most *free
	for i := range all {
		if f := &all[i]; f.own > 0 && (most == nil || f.own > most.own) {
			most = f
		}
	}
	if most != nil {
		return most, most
	}
	for i := range all {
		for j := range all {
			r, w := &all[i], &all[j]
			if i == j || r.read <= 0 || w.write <= 0 || !w.Reached || v.Apart[Pair{r.Name, w.Name}] {
				continue
			}
			if reader == nil || cmp.Or(cmp.Compare(r.read, reader.read), cmp.Compare(w.write, writer.write)) > 0 {
				reader, writer = r, w
			}
		}
	}
	return reader, writer
}
