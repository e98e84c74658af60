package stream

import (
	"slices"

	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// take gives a transaction its id: ids are handed out at its start, so they do not follow commit order.
func (m *model) take() uint64 {
	for len(m.open) < 3 {
		m.open = append(m.open, m.nextXid)
		m.nextXid++
	}
	i := m.IntN(len(m.open))
	id := m.open[i]
	m.open = slices.Delete(m.open, i, i+1)
	return id
}

func (c change) apply(s map[int]row) {
	switch c.op {
	case 'i':
		s[c.key] = row{c.a, c.t}
	case 'd':
		delete(s, c.key)
	case 't':
		clear(s)
	case 'u':
		old := s[c.key]
		delete(s, c.key)
		if c.t != 0 {
			old.t = c.t
		}
		s[c.to] = row{c.a, old.t}
	}
}

// snapshot is the state that a new snapshot sees, and its coverage (pg_current_snapshot()).
func (m *model) snapshot() (map[int]row, *rowv1.Coverage) {
	s := map[int]row{}
	for k, v := range m.init {
		s[k] = v
	}
	c := &rowv1.Coverage{Exact: true, Xmin: m.nextXid, Xmax: m.nextXid, HighWater: pos(len(m.log))}
	hidden := func(id uint64) {
		c.InProgress = append(c.InProgress, id)
		c.Xmin = min(c.Xmin, id)
	}
	for _, id := range m.open {
		hidden(id)
	}
	for _, t := range m.log {
		if !t.visible {
			hidden(t.id)
			continue
		}
		for _, ch := range t.changes {
			ch.apply(s)
		}
	}
	return s, c
}

// commit appends one transaction to the log. Row locks are held until it is visible.
func (m *model) commit() {
	locked := map[int]bool{}
	hidden := false
	for _, t := range m.log {
		if t.visible {
			continue
		}
		hidden = true
		for _, c := range t.changes {
			locked[c.key], locked[c.to] = true, true
			if c.op == 't' {
				return // the table is locked
			}
		}
	}
	var changes []change
	empty := .01
	if m.truncates {
		empty = .05
	}
	if !hidden && m.Float64() < empty {
		changes = append(changes, change{op: 't'})
		clear(m.src)
	}
	if len(changes) == 0 && m.Float64() < .1 {
		changes = m.swap(locked)
	}
	for range []int{1, 1, 2, 3}[m.IntN(4)] {
		if len(changes) > 0 && changes[0].op == 't' {
			break
		}
		if c, ok := m.change(locked); ok {
			c.large = m.large && c.op != 'd' && m.Float64() < .15
			c.apply(m.src)
			changes = append(changes, c)
		}
	}
	if len(changes) > 0 {
		delays := []int{0, 0, 1, 3, 8}
		if m.slow {
			delays[4] = 60
		}
		m.log = append(m.log, &logged{changes: changes, id: m.take(), delay: delays[m.IntN(5)]})
	}
}

// swap lets two rows change places through a third key. What they keep may not be in the log.
func (m *model) swap(locked map[int]bool) (changes []change) {
	x, y, free := m.IntN(modelKeys), m.IntN(modelKeys), m.IntN(modelKeys)
	_, one := m.src[x]
	_, two := m.src[y]
	_, taken := m.src[free]
	if x == y || !one || !two || taken || locked[x] || locked[y] || locked[free] {
		return nil
	}
	for _, step := range [][2]int{{x, free}, {y, x}, {free, y}} {
		c := change{op: 'u', key: step[0], to: step[1], a: m.value(), old: m.src[step[0]]}
		if m.fullImages {
			c.t = c.old.t
		}
		c.apply(m.src)
		changes = append(changes, c)
	}
	return changes
}

func (m *model) change(locked map[int]bool) (change, bool) {
	k := m.IntN(modelKeys)
	if locked[k] {
		return change{}, false
	}
	toast := func() int64 {
		if !m.fullImages && m.Float64() < .5 {
			return 0
		}
		return m.value()
	}
	x := m.Float64()
	old, exists := m.src[k]
	c := change{op: 'u', key: k, to: k, a: m.value(), old: old}
	switch {
	case !exists:
		return change{op: 'i', key: k, to: k, a: m.value(), t: m.value()}, true
	case x < .25:
		return change{op: 'd', key: k, to: k, old: old}, true
	case x < .75:
		c.t = toast()
	default:
		c.to = m.IntN(modelKeys)
		if _, taken := m.src[c.to]; taken || locked[c.to] {
			return change{}, false
		}
		c.t = toast()
	}
	if m.fullImages && c.t == 0 {
		c.t = old.t
	}
	return c, true
}

func (m *model) settle() {
	for _, t := range m.log {
		if t.visible {
			continue
		}
		if t.delay <= 0 {
			t.visible = true
		} else if m.IntN(2) == 0 {
			t.delay--
		}
	}
}
