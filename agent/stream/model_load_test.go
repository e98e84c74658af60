package stream

import (
	"bytes"
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/apply"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func (m *model) allWritten() bool {
	for c := range modelChunks {
		if g := m.grants[c]; g == nil || !g.written {
			return false
		}
	}
	return true
}

// loaded is what the coordinator tells once all chunks are written; it may tell it many times.
func (m *model) loaded() {
	if !m.allWritten() || m.done || m.aside {
		return
	}
	if m.unit {
		if err := m.gate.Written(&fleetv1.Written{Units: []uint32{0}, UnitCoverage: m.grants[0].coverage}); err != nil {
			panic(err)
		}
	}
	if err := m.gate.TablesLoaded([]uint32{0}); err != nil {
		panic(err)
	}
}

// load moves one chunk one step on: reserve, take a snapshot, write.
func (m *model) load() error {
	c := m.IntN(modelChunks)
	g := m.grants[c]
	if m.aside || g != nil && g.written {
		return nil
	}
	var rd *reader
	for _, r := range m.readers {
		if r.chunk == c {
			rd = r
		}
	}
	zombie := rd != nil && m.Float64() < .02 // its agent is taken for dead, and goes on
	switch {
	case g == nil && m.inFlight() >= 2:
		return nil
	case rd == nil || zombie:
		return m.reserve(c)
	case rd.rows == nil:
		m.read(rd)
	case m.Float64() < .4:
		return m.write(rd)
	}
	return nil
}

func (m *model) inFlight() int {
	n := 0
	for _, g := range m.grants {
		if !g.written {
			n++
		}
	}
	return n
}

func (m *model) reserve(c int) error {
	_, horizon := m.snapshot()
	m.gate.Horizon(horizon)
	req := &fleetv1.Reserve{Chunks: []*fleetv1.GateChunk{{Chunk: uint64(c), Keys: keyRange(c)}}}
	if m.unit {
		req = &fleetv1.Reserve{Units: []uint32{0}}
	}
	floor, err := m.gate.Reserve(req)
	if err != nil {
		return err
	}
	if m.Float64() < .05 { // the answer is lost: the floor is in the gate, and nowhere else
		return nil
	}
	if m.unit {
		if u := m.unitSnap; u != nil {
			floor = u.floor
		} else {
			m.unitSnap = &reader{floor: floor}
		}
	}
	if m.grants[c] == nil { // the coordinator keeps a chunk's first floor
		m.grants[c] = &grant{floor: floor}
	}
	m.readers = append(m.readers, &reader{chunk: c, floor: floor})
	return nil
}

// read takes a snapshot that sees the floor; otherwise another one is taken later.
func (m *model) read(rd *reader) {
	all, c := m.snapshot()
	if m.unit && m.unitSnap.rows != nil { // all chunks of a unit share one snapshot
		all, c = m.unitSnap.rows, m.unitSnap.coverage
	} else if !m.noVisibility && !sdk.SeesAll(c, rd.floor.Pending) {
		m.stats["waited"]++
		return
	} else if m.unit {
		m.unitSnap.rows, m.unitSnap.coverage = all, c
	}
	if m.noExact {
		c = &rowv1.Coverage{Through: rd.floor.Position}
	}
	rd.coverage, rd.rows = c, map[int]row{}
	for k, v := range all {
		if k/perChunk == rd.chunk {
			rd.rows[k] = v
		}
	}
}

// write is WriteChunks: one transaction, which answers with its mark when the chunk is there already.
func (m *model) write(rd *reader) error {
	stored := m.chunks[rd.chunk]
	if stored == nil {
		for k := range m.target.rows {
			if k/perChunk == rd.chunk {
				return m.fail("conflict: COPY meets key %d", k)
			}
		}
		for k, v := range rd.rows {
			if m.fullRow {
				m.target.bag[v]++
				continue
			}
			m.target.rows[k] = v
		}
		stored = &rowv1.ChunkResult{Chunk: uint64(rd.chunk), Coverage: rd.coverage}
		m.chunks[rd.chunk] = stored
	}
	if m.Float64() < .1 { // written, and nobody hears of it
		return nil
	}
	g := m.grants[rd.chunk]
	g.written, g.coverage = true, stored.Coverage
	if m.Float64() < .1 { // durable in etcd, and the gate does not hear of it
		m.restart()
		return nil
	}
	if !m.unit {
		if m.noVisibility { // past the check that would refuse it
			m.blind(rd.chunk)
		}
		err := m.gate.Written(&fleetv1.Written{Chunks: []*fleetv1.GateChunk{{Chunk: uint64(rd.chunk), Keys: keyRange(rd.chunk), Coverage: stored.Coverage}}})
		if err != nil {
			return err
		}
	}
	m.loaded()
	return nil
}

var (
	modelSchema = arrowio.RoundSchema(nil, []arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64},
		{Name: "a", Type: arrow.PrimitiveTypes.Int64}, {Name: "t", Type: arrow.PrimitiveTypes.Int64}})
	unchangedT = []byte{1 << 2}
)

type roundBuilder struct{ *array.RecordBuilder }

func newRoundBuilder() roundBuilder {
	return roundBuilder{array.NewRecordBuilder(memory.DefaultAllocator, modelSchema)}
}

func (b roundBuilder) add(op uint8, txn uint32, key int, a, t int64, old int) {
	b.Field(0).(*array.Uint8Builder).Append(op)
	b.Field(1).(*array.Uint32Builder).Append(txn)
	b.Field(2).(*array.BinaryBuilder).Append([]byte{byte(key)})
	b.Field(5).(*array.Int64Builder).Append(int64(key))
	moved := op == sdk.OpInsert && t == 0 && old >= 0
	if moved {
		b.Field(4).(*array.Int32Builder).Append(int32(old))
	} else {
		b.Field(4).AppendNull()
	}
	if op == sdk.OpDelete || op == sdk.OpReread {
		b.Field(3).AppendNull()
		b.Field(6).AppendNull()
		b.Field(7).AppendNull()
		return
	}
	b.Field(6).(*array.Int64Builder).Append(a)
	if t != 0 {
		b.Field(3).AppendNull()
		b.Field(7).(*array.Int64Builder).Append(t)
		return
	}
	b.Field(3).(*array.BinaryBuilder).Append(unchangedT)
	b.Field(7).AppendNull()
}

// build makes the record of the log's transactions [from, to).
func (m *model) build(from, to int) arrow.RecordBatch {
	b := newRoundBuilder()
	defer b.Release()
	rows := 0
	for i := from; i < to; i++ {
		txn := uint32(i - from)
		for _, c := range m.log[i].changes {
			switch {
			case c.large && c.key == c.to:
				b.add(sdk.OpReread, txn, c.to, 0, 0, -1)
			case c.large:
				b.add(sdk.OpDelete, txn, c.key, 0, 0, -1)
				b.add(sdk.OpReread, txn, c.to, 0, 0, -1)
				rows++
			case c.op == 'i':
				b.add(sdk.OpInsert, txn, c.key, c.a, c.t, -1)
			case c.op == 'd':
				b.add(sdk.OpDelete, txn, c.key, 0, 0, -1)
			case c.key == c.to:
				b.add(sdk.OpUpdate, txn, c.key, c.a, c.t, -1)
			default:
				b.add(sdk.OpDelete, txn, c.key, 0, 0, -1)
				b.add(sdk.OpInsert, txn, c.to, c.a, c.t, rows)
				rows++
			}
			rows++
		}
	}
	return b.NewRecordBatch()
}

// apply is the sink: plan, run, and commit data, token and key coverage together.
func (m *model) apply(q round) error {
	next := m.target.clone()
	if m.aside { // the source sends nothing of it but the transactions
	} else if m.log[q.from].changes[0].op == 't' {
		m.truncate(next, q)
	} else {
		rec := m.build(q.from, q.n)
		if m.fullRow {
			rec = m.buildRows(q.from, q.n)
		}
		t := m.gate.tables[0]
		var drop []byte
		if !m.noDrop {
			var n int
			var err error
			drop, n, err = t.judgeRows(q.begin, rec.Column(1).(*array.Uint32).Uint32Values(), rec.Column(2).(*array.Binary))
			if err != nil {
				return err
			}
			m.stats["dropped"] += n
		}
		batch, err := apply.NewBatch(0, 1, rec, drop)
		if err != nil {
			return err
		}
		r := apply.NewRound(q.begin)
		r.Batches, r.Position = []*apply.Batch{batch}, pos(q.n)
		plan, err := m.planner.Plan(r, next.covers)
		if err != nil {
			return err
		}
		defer plan.Release()
		next.large = func(int) bool { return m.large && m.IntN(4) == 0 }
		next.renew = m.renewer(next)
		if err := apply.Run(context.Background(), plan, next, m.rereader(next), m.IntN(4) == 0); err != nil {
			return err
		}
	}
	if m.Float64() < .02 { // dies before its commit: nothing has happened
		m.restart()
		return nil
	}
	for _, k := range next.covers.Passed(pos(q.n)) {
		delete(next.kept, k)
	}
	m.target, m.token = next, q.n
	return nil
}

func (m *model) truncate(t *memoryTarget, q round) {
	if _, all := m.gate.Truncate(0, pos(q.n), m.log[q.from].id); all {
		clear(t.bag)
	}
	if m.noDrop {
		clear(t.rows)
		return
	}
	younger := map[int]bool{} // rows that were read again after it: their later changes are covered
	if !m.noOutlive {
		for _, key := range t.covers.Outlive(0, apply.NewRound(q.begin)) {
			younger[int(key[0])] = true
			m.stats["outlived"]++
		}
	}
	ranges, all := m.gate.Truncate(0, pos(q.n), m.log[q.from].id)
	for k := range t.rows {
		hit := all
		for _, r := range ranges {
			key := []byte{byte(k)}
			hit = hit || bytes.Compare(r.From, key) <= 0 && (len(r.To) == 0 || bytes.Compare(key, r.To) < 0)
		}
		if hit && !younger[k] {
			delete(t.rows, k)
		}
	}
	m.stats["truncates"]++
}

// present reads the source at or after everything received.
func (m *model) present() (map[int]row, *rowv1.Coverage) {
	_, horizon := m.snapshot()
	m.gate.Horizon(horizon)
	floor := m.gate.Floor()
	all, c := m.snapshot()
	for !sdk.SeesAll(c, floor.Pending) {
		m.settle()
		all, c = m.snapshot()
	}
	if m.noKeyCoverage || m.noReread {
		c = nil
	}
	return all, c
}

// rereader reads single keys again, and keeps their coverage with the token.
func (m *model) rereader(next *memoryTarget) apply.Rereader {
	return func(_ context.Context, e *apply.Effect, keys []apply.Ref) (*apply.Reread, error) {
		m.stats["rereads"]++
		b := newRoundBuilder()
		defer b.Release()
		all, c := m.present()
		answer := &apply.Reread{Coverage: c}
		for _, ref := range keys {
			key := e.Batches[ref.Batch].Key(int(ref.Row))
			v, ok := all[int(key[0])]
			if ok && next.large(0) {
				answer.Large = append(answer.Large, key)
				continue
			}
			next.kept[apply.CoverKey{Key: string(key)}] = c
			if m.noReread {
				b.add(sdk.OpInsert, 0, int(key[0]), -1, -1, -1)
			} else if ok {
				b.add(sdk.OpInsert, 0, int(key[0]), v.a, v.t, -1)
			}
		}
		var err error
		answer.Rows, err = apply.NewBatch(0, 1, b.NewRecordBatch(), nil)
		return answer, err
	}
}

// renewer writes rows that only the source has.
func (m *model) renewer(next *memoryTarget) func(*apply.Effect) (*rowv1.Coverage, error) {
	return func(e *apply.Effect) (*rowv1.Coverage, error) {
		all, c := m.present()
		for _, ref := range e.Renews {
			m.stats["renewed"]++
			k := keyAt(e, ref)
			if _, there := next.rows[k]; there {
				return nil, m.fail("key %d is in the way of itself", k)
			}
			next.kept[apply.CoverKey{Key: string([]byte{byte(k)})}] = c
			if v, ok := all[k]; ok {
				next.rows[k] = v
			}
		}
		return c, nil
	}
}

// blind makes the gate forget what a read had to see, so that it takes any coverage.
func (m *model) blind(chunk int) {
	if p := m.gate.tables[0].find(uint64(chunk)); p != nil {
		p.floor = &rowv1.Floor{Position: p.floor.Position}
	}
}
