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
	noVisibility, noWait, noHold, noDrop, noReread, noKeyCoverage, noExact, noOutlive, noHeldIDs bool
	fullImages, unit                                                                             bool
	// fullRow: a unit without a key. oneEach: deletes take one row, however many equal ones are to go.
	fullRow, oneEach bool
	// slow: some commits stay invisible for long, as behind a standby that does not answer.
	slow bool
	// large: some rows are written with values that the log's reader does not hold.
	large bool
	// truncates: the table is emptied often.
	truncates bool
	// asides: the table is set aside and loaded again. Then a run may leave out: that the target is told first, that its
	// transactions are part of rounds, that these wait until they are visible, that it is emptied before it is loaded, that all that was
	// passed when it was set aside is visible before that.
	asides                                                    bool
	volatileAside, unmentioned, asideUnseen, keepStale, hasty bool
}

type row struct{ a, t int64 }

type change struct {
	op      byte // i, d, u, t (truncate)
	key, to int
	a       int64
	t       int64 // 0: unchanged
	old     row
	large   bool
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
	aside    bool
	asideAt  int
	target   *memoryTarget
	chunks   map[int]*rowv1.ChunkResult
	token    int
	unitSnap *reader

	// volatile: the slot's agent and the readers
	gate    *Gate
	planner *apply.Planner
	// restarted is the token that the gate began with.
	restarted int
	received  int
	queue     []round
	readers   []*reader
	stats     map[string]int
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
	if r.fullRow {
		m.target.bag, m.target.careless = map[row]int{}, r.oneEach
	}
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
	if r.fullRow {
		t.Gate, t.Key = rowv1.GateMode_GATE_MODE_UNIT_FULL_ROW, nil
	} else if r.unit {
		t.Gate = rowv1.GateMode_GATE_MODE_UNIT
	}
	return t
}

func (m *model) value() int64 {
	if m.fullRow {
		return int64(1 + m.IntN(fewValues))
	}
	m.version++
	return m.version
}

// restart is a new slot agent: the gate from the coordinator's state, the position and chunks from the target.
func (m *model) restart() {
	if m.volatileAside {
		m.aside = false
	}
	state := &fleetv1.GateTable{Table: 0, Done: m.done, Aside: m.aside}
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
	m.received, m.restarted, m.queue = m.token, m.token, nil
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
	if m.aside && m.unmentioned {
		return nil
	}
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
	if !m.noHold && !(m.aside && m.asideUnseen) {
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
	m.turn()
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
	case act < .94:
		return m.load()
	case act < .95:
		if m.done && !m.noExact {
			return m.compareHeld()
		}
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
	if !m.target.same(m.src) {
		return m.fail("diverged: %d rows, want %d", len(m.target.rows), len(m.src))
	}
	return nil
}
