package stream

import (
	"slices"

	"github.com/droverdb/drover/plugins/sdk/apply"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// mostAsides is how often the table of a run is set aside.
const mostAsides = 3

// turn sets the table aside at any moment, and loads it again at another one.
func (m *model) turn() {
	switch {
	case !m.asides:
	case m.aside && (m.Float64() < .02 || m.hasty && m.Float64() < .2):
		if m.hasty || m.clear() {
			m.reload()
		}
	case !m.aside && m.stats["asides"] < mostAsides && m.Float64() < .005:
		m.setAside()
	}
}

// setAside is what a round that the target refuses leads to: the attempt ends, the next one raises the fence, so that no
// reader of this one writes any more, and tells the target, which forgets chunks and keys; then a new gate begins at the
// token. The rows stay as they are.
func (m *model) setAside() {
	m.aside, m.asideAt = true, m.token
	m.stats["asides"]++
	if m.volatileAside { // only the gate is told
		if err := m.gate.ResetTables([]uint32{0}, true); err != nil {
			panic(err)
		}
		return
	}
	m.forgetLoad()
	m.restart()
}

// clear: everything is visible that the stream had passed when the table was set aside.
func (m *model) clear() bool {
	return !slices.ContainsFunc(m.log[:m.asideAt], func(t *logged) bool { return !t.visible })
}

// reload is behind another fence.
func (m *model) reload() {
	m.aside = false
	m.stats["reloads"]++
	m.forgetLoad()
	if !m.keepStale {
		clear(m.target.rows)
		clear(m.target.bag)
	}
	m.restart()
}

func (m *model) forgetLoad() {
	m.grants, m.chunks, m.readers, m.unitSnap, m.done = map[int]*grant{}, map[int]*rowv1.ChunkResult{}, nil, nil, false
	m.target.kept = map[apply.CoverKey]*rowv1.Coverage{}
}
