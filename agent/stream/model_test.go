package stream

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/droverdb/drover/plugins/sdk/apply"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// The model: a source whose transactions are in the log before they are visible, readers, a sink, a slot agent and a
// coordinator that crash, all of it random. Everything that decides is production code: Gate, judgeRows, apply.

const (
	modelKeys   = 24
	modelChunks = 4
	perChunk    = modelKeys / modelChunks
)

// rules are what a run may leave out (only here: production has no such switch).
type rules struct {
	noVisibility, noWait, noHold, noDrop, noReread, noKeyCoverage, noExact bool
	fullImages, unit                                                       bool
	// slow: some commits stay invisible for long, as behind a standby that does not answer.
	slow bool
}

type row struct{ a, t int64 }

type change struct {
	op      byte // i, d, u, t (truncate)
	key, to int
	a       int64
	t       int64 // 0: unchanged
}

type logged struct {
	changes []change
	id      uint64
	visible bool
	delay   int
}

type round struct {
	begin *rowv1.RoundBegin
	n     int // log[n-len : n]
	from  int
}

type reader struct {
	chunk    int
	floor    *rowv1.Floor
	rows     map[int]row
	coverage *rowv1.Coverage
}

// grant is the coordinator's durable word on a chunk.
type grant struct {
	floor    *rowv1.Floor
	written  bool
	coverage *rowv1.Coverage
}

type model struct {
	*rand.Rand
	rules
	version int64
	src     map[int]row
	init    map[int]row
	log     []*logged
	nextXid uint64
	open    []uint64 // ids of transactions that have not committed

	// durable: coordinator and target
	grants   map[int]*grant
	done     bool
	target   *memoryTarget
	chunks   map[int]*rowv1.ChunkResult
	token    int
	unitSnap *reader

	// volatile: the slot's agent and the readers
	gate     *Gate
	planner  *apply.Planner
	received int
	queue    []round
	readers  []*reader
	stats    map[string]int
}

func pos(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

func keyRange(c int) *rowv1.KeyRange {
	r := &rowv1.KeyRange{}
	if c > 0 {
		r.From = []byte{byte(c * perChunk)}
	}
	if c < modelChunks-1 {
		r.To = []byte{byte((c + 1) * perChunk)}
	}
	return r
}

func newModel(seed uint64, r rules) *model {
	m := &model{Rand: rand.New(rand.NewPCG(seed, 7)), rules: r, src: map[int]row{}, init: map[int]row{}, nextXid: 100,
		grants: map[int]*grant{}, chunks: map[int]*rowv1.ChunkResult{}, stats: map[string]int{},
		target: newMemory(), planner: apply.NewPlanner([]*rowv1.Table{r.table()})}
	for k := range modelKeys {
		if m.Float64() < .7 {
			m.init[k] = row{m.value(), m.value()}
			m.src[k] = m.init[k]
		}
	}
	m.restart()
	return m
}

func (r rules) table() *rowv1.Table {
	t := &rowv1.Table{Index: 0, Key: []uint32{0}, Gate: rowv1.GateMode_GATE_MODE_KEYED,
		Columns: []*rowv1.Column{{Name: "k"}, {Name: "a"}, {Name: "t"}}}
	if r.unit {
		t.Gate = rowv1.GateMode_GATE_MODE_UNIT
	}
	return t
}

func (m *model) value() int64 { m.version++; return m.version }

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
	if !hidden && m.Float64() < .01 {
		changes = append(changes, change{op: 't'})
		clear(m.src)
	}
	for range []int{1, 1, 2, 3}[m.IntN(4)] {
		if len(changes) > 0 && changes[0].op == 't' {
			break
		}
		if c, ok := m.change(locked); ok {
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
	c := change{op: 'u', key: k, to: k, a: m.value()}
	switch {
	case !exists:
		return change{op: 'i', key: k, to: k, a: m.value(), t: m.value()}, true
	case x < .25:
		return change{op: 'd', key: k, to: k}, true
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

// restart is a new slot agent: the gate from the coordinator's state, the position and chunks from the target.
func (m *model) restart() {
	state := &fleetv1.GateTable{Table: 0, Done: m.done}
	for c := range modelChunks {
		if g := m.grants[c]; g != nil {
			state.Chunks = append(state.Chunks, &fleetv1.GateChunk{Chunk: uint64(c), Keys: keyRange(c), Floor: g.floor,
				Written: g.written, Coverage: g.coverage})
		}
	}
	if m.unit && len(state.Chunks) > 0 && len(state.Chunks) < modelChunks {
		state.Chunks[0].Written = false
	}
	var err error
	m.gate, err = NewGate([]*rowv1.Table{m.table()}, []*fleetv1.GateTable{state}, pos(m.token))
	if err != nil {
		panic(err)
	}
	var written []*rowv1.ChunkResult
	for _, r := range m.chunks {
		written = append(written, r)
	}
	m.gate.Recovered(written)
	m.received, m.queue = m.token, nil
	m.loaded()
}

func (m *model) fail(format string, args ...any) error { return fmt.Errorf(format, args...) }

// receive takes the next few transactions from the slot as one round; a truncate comes alone.
func (m *model) receive() error {
	n := min(len(m.log), m.received+[]int{1, 2, 5}[m.IntN(3)])
	for i := m.received; i < n; i++ {
		if m.log[i].changes[0].op == 't' {
			n = i
			if i == m.received {
				n = i + 1
			}
		}
	}
	if n == m.received {
		return nil
	}
	b := &rowv1.RoundBegin{}
	for i := m.received; i < n; i++ {
		b.Positions = append(b.Positions, pos(i+1)...)
		b.TxnIds = append(b.TxnIds, m.log[i].id)
	}
	m.queue = append(m.queue, round{begin: b, from: m.received, n: n})
	m.received = n
	return m.gate.Received(b.Positions, b.TxnIds)
}

// release lets the gate judge the next round and applies it in one target transaction.
func (m *model) release() error {
	if len(m.queue) == 0 {
		return nil
	}
	q := m.queue[0]
	if m.noHold && !m.noWait && !m.gate.Visible(pos(q.n)) {
		return nil
	}
	if !m.noHold {
		lim := m.gate.Limit()
		switch {
		case m.noWait && lim != nil && !below(pos(q.n), lim, m.gate.start):
			return nil
		case !m.noWait && !m.gate.Releasable(pos(q.n)):
			return nil
		}
	}
	m.queue = m.queue[1:]
	if err := m.apply(q); err != nil {
		return err
	}
	if m.Float64() < .02 { // the sink dies after its commit, before anybody hears of it
		m.restart()
		return nil
	}
	m.gate.Committed(pos(m.token))
	if m.gate.Done(0) && !m.done {
		m.done = true
		m.stats["done"]++
	}
	return nil
}

func (m *model) step() error {
	m.settle()
	act := m.Float64()
	switch {
	case act < .35:
		if len(m.log) < 120 {
			m.commit()
		}
	case act < .5:
		return m.receive()
	case act < .65:
		return m.release()
	case act < .70:
		_, horizon := m.snapshot()
		m.gate.Horizon(horizon)
	case act < .95:
		return m.load()
	case act < .97: // a reader dies, unheard
		if len(m.readers) > 0 {
			i := m.IntN(len(m.readers))
			m.readers = slices.Delete(m.readers, i, i+1)
		}
	default: // the slot's agent dies
		m.restart()
	}
	return nil
}

func (m *model) run() error {
	for range 20000 {
		if err := m.step(); err != nil {
			return err
		}
		if len(m.log) >= 120 && m.allWritten() && m.token == len(m.log) {
			return m.compare()
		}
	}
	return m.fail("stuck")
}

func (m *model) compare() error {
	if len(m.target.rows) != len(m.src) {
		return m.fail("diverged: %d rows, want %d", len(m.target.rows), len(m.src))
	}
	for k, v := range m.src {
		if m.target.rows[k] != v {
			return m.fail("diverged at key %d", k)
		}
	}
	return nil
}
