package stream

import (
	"context"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/droverdb/drover/plugins/sdk"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const benchRows = 10_000

// wideBatch is a round of benchRows inserts, spread over all chunks.
func wideBatch() (*rowv1.RoundBegin, []uint32, *array.Binary) {
	b := newRoundBuilder()
	defer b.Release()
	for i := range benchRows {
		b.add(sdk.OpInsert, 0, i%256, 1, 1, -1)
	}
	rec := b.NewRecordBatch()
	return &rowv1.RoundBegin{Positions: pos(900), TxnIds: []uint64{1500}},
		rec.Column(1).(*array.Uint32).Uint32Values(), rec.Column(2).(*array.Binary)
}

func spans(tb testing.TB) *gateTable {
	g, err := NewGate(gateTables, nil, pos(10))
	if err != nil {
		tb.Fatal(err)
	}
	a, b := chunkOf(0, "", "m"), chunkOf(1, "m", "")
	if _, err := g.Reserve(&fleetv1.Reserve{Chunks: []*fleetv1.GateChunk{a, b}}); err != nil {
		tb.Fatal(err)
	}
	for _, c := range []*fleetv1.GateChunk{a, b} {
		if err := g.Written(&fleetv1.Written{Chunks: []*fleetv1.GateChunk{withCoverage(c, sees(1000, 2000, 1400, 1500))}}); err != nil {
			tb.Fatal(err)
		}
	}
	return g.tables[keyedTable]
}

// A row costs no memory: one bitmap per batch is all.
func TestJudgeRows_AllocatesOncePerBatch(t *testing.T) {
	begin, txn, keys := wideBatch()
	table := spans(t)
	if n := testing.AllocsPerRun(20, func() { _, _, _ = table.judgeRows(begin, txn, keys) }); n > 1 {
		t.Errorf("%v allocations for %d rows", n, benchRows)
	}
}

func BenchmarkJudgeRows(b *testing.B) {
	begin, txn, keys := wideBatch()
	table := spans(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := table.judgeRows(begin, txn, keys); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
}

// BenchmarkPassThrough is a round of three frames from the source's hand to the sink's, nobody looking at rows.
func BenchmarkPassThrough(b *testing.B) {
	s := New(Task{Work: &fleetv1.StreamTask{}})
	gate, err := NewGate(gateTables, []*fleetv1.GateTable{{Table: keyedTable, Done: true}, {Table: unitTable, Done: true}}, pos(0))
	if err != nil {
		b.Fatal(err)
	}
	s.gate, s.feed.opened = gate, true
	payload := make([]byte, 1<<20)
	ctx := context.Background()
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for i := 1; b.Loop(); i++ {
		p := pos(i)
		for _, f := range []*sdk.Frame{
			sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundBegin{RoundBegin: &rowv1.RoundBegin{Positions: p, TxnIds: []uint64{uint64(i)}}}}, nil),
			sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundBatch{RoundBatch: &rowv1.RoundBatch{Table: keyedTable, Rows: benchRows}}}, payload),
			sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundEnd{RoundEnd: &rowv1.RoundEnd{Position: p}}}, nil),
		} {
			if err := s.receive(ctx, f); err != nil {
				b.Fatal(err)
			}
		}
		for range 3 {
			f, _, err := s.offer(false)
			if err != nil || f == nil {
				b.Fatal("nothing released", err)
			}
			f.Free()
		}
		gate.Committed(p)
		s.feed.inflight = nil
	}
}

// loading is a gate of n tables, of which the first few are in flight.
func loading(tb testing.TB, n, inFlight int) *Gate {
	tables := make([]*rowv1.Table, n)
	for i := range tables {
		tables[i] = &rowv1.Table{Index: uint32(i), Gate: rowv1.GateMode_GATE_MODE_KEYED}
	}
	g, err := NewGate(tables, nil, pos(10))
	if err == nil {
		_, err = g.Reserve(reserveWhole(0, inFlight))
	}
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

func reserveWhole(from, n int) *fleetv1.Reserve {
	r := &fleetv1.Reserve{}
	for i := from; i < from+n; i++ {
		r.Chunks = append(r.Chunks, &fleetv1.GateChunk{Chunk: uint64(i) << 32, Keys: &rowv1.KeyRange{}})
	}
	return r
}

// BenchmarkGate is a load that is granted and given back, and a commit meanwhile: it costs the same however many tables
// there are.
func BenchmarkGate(b *testing.B) {
	for _, n := range []int{200, 20_000} {
		b.Run(fmt.Sprint("tables=", n), func(b *testing.B) {
			g, at := loading(b, n, 64), 100
			again := reserveWhole(64, 64)
			var ids []uint64
			for _, c := range again.Chunks {
				ids = append(ids, c.Chunk)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.Reserve(again); err != nil {
					b.Fatal(err)
				}
				at++
				g.Committed(pos(at))
				g.Forget(&fleetv1.Forget{Chunks: ids})
			}
		})
	}
}
