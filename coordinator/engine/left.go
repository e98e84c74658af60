package engine

import "slices"

// left is what an attempt still has to load. The actor decides after every message, and there may be tens of thousands of
// tables: a decision looks at those that are near, and at no more of the others than it can use.
type left struct {
	// near are tables that are cut, granted, in the snapshot's group or next in line, biggest first, and those to be set
	// aside.
	near []*table
	// far are the small ones behind them, biggest first; farBytes is how much there is in them.
	far      []*table
	farBytes int64
	// uncut are large ones, biggest first: once they are cut they are near.
	uncut []*table
	// units need a shared snapshot and are not in its group yet.
	units []*table
}

// listLeft lists what is left when loading begins.
func (p *Pipeline) listLeft() {
	var l left
	for _, t := range p.sorted {
		if t.failure != nil && !t.Aside || t.Split && !t.Loaded {
			l.near = append(l.near, t)
		}
		if t.failure != nil || t.Loaded {
			continue
		}
		shared, grouped := p.needsSnapshot(t), p.follow() && contains(p.run.group, t.Index)
		if shared && !grouped {
			l.units = append(l.units, t)
		}
		switch {
		case t.Split:
		case !p.small(t):
			l.uncut = append(l.uncut, t)
		case !p.follow() || !shared:
			l.far, l.farBytes = append(l.far, t), l.farBytes+t.row.EstimatedBytes
		case grouped:
			l.near = append(l.near, t)
		}
	}
	p.run.left = l
}

// some: a table is left that is not in wait of a snapshot.
func (l *left) some() bool { return len(l.near)+len(l.far)+len(l.uncut) > 0 }

// forget drops what is loaded or set aside.
func (l *left) forget() {
	l.near = slices.DeleteFunc(l.near, func(t *table) bool { return t.Aside || t.Loaded && t.failure == nil })
}

// add makes a table a near one.
func (l *left) add(t *table) {
	at, _ := slices.BinarySearchFunc(l.near, t, biggerFirst)
	l.near = slices.Insert(l.near, at, t)
}

// approach makes the next small table a near one.
func (l *left) approach() *table {
	t := l.far[0]
	l.far, l.farBytes = l.far[1:], l.farBytes-t.row.EstimatedBytes
	l.add(t)
	return t
}

// nextUncut is the biggest table that has to be cut; nil: there is none.
func (l *left) nextUncut() *table {
	for len(l.uncut) > 0 && (l.uncut[0].Split || l.uncut[0].failure != nil) {
		l.uncut = l.uncut[1:]
	}
	if len(l.uncut) == 0 {
		return nil
	}
	return l.uncut[0]
}

// group takes the units that are next to share a snapshot. Small ones can be granted as soon as it is there; large ones,
// as soon as they are cut.
func (p *Pipeline) group(units []*table) {
	for _, t := range units {
		p.run.group = append(p.run.group, t.Index)
		if p.follow() && !t.Split && p.small(t) {
			p.run.left.add(t)
		}
	}
}
