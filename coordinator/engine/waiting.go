package engine

import (
	"slices"
	"strings"

	"github.com/droverdb/drover/coordinator/fleet"
)

// hearWaiting keeps what a task waits for, in the words of its database. It is a hint: the next report replaces it, the
// result ends it.
func (p *Pipeline) hearWaiting(m fleet.Message) {
	switch {
	case m.Result != nil, m.Tick != nil && m.Tick.Waiting == "":
		delete(p.waits, m.Task)
	case m.Tick != nil:
		if p.waits[m.Task] == "" {
			p.note("info", "waiting for "+m.Tick.Waiting)
		}
		p.waits[m.Task] = m.Tick.Waiting
	}
}

// waitsFor is what the pipeline waits for: what tasks under way have said, then what the actor itself waits for.
func (p *Pipeline) waitsFor() string {
	var all []string
	for id, what := range p.waits {
		if p.handlers[id] == nil { // nobody awaits the task any more
			delete(p.waits, id)
			continue
		}
		all = append(all, what)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if p.waiting != "" {
		all = append(all, p.waiting)
	}
	return strings.Join(all, "; ")
}
