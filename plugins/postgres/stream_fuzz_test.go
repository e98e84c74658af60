package postgres

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// offline is a streamer without a server: it has a table and discards what it emits.
func offline(tb testing.TB) *streamer {
	tb.Helper()
	table, err := newStreamTable(itemTable(0, "item"), sdk.LanePGValues, true)
	if err != nil {
		tb.Fatal(err)
	}
	return &streamer{
		where: "test", tables: map[string]*streamTable{"public\x00item": table}, rels: map[uint32]*walRelation{},
		round: &round{emit: func(f *sdk.Frame) error { f.Free(); return nil }, used: map[*streamTable]struct{}{}},
		link:  newLink(nil, Config{}, nil, nil, 0, time.Hour, time.Hour), xid: 1 << 33,
	}
}

// xlog wraps a pgoutput message as the walsender does.
func xlog(msg ...[]byte) []byte {
	b := append([]byte{'w'}, make([]byte, 24)...)
	for _, m := range msg {
		b = append(b, m...)
	}
	return b
}

func be(n int, v uint64) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	return b[8-n:]
}

func sized(v []byte) []byte { return append(be(4, uint64(len(v))), v...) }

func sampleBegin(lsn uint64) []byte {
	return xlog([]byte{'B'}, be(8, lsn), be(8, 0), be(4, 77))
}

func sampleCommit(lsn uint64) []byte {
	return xlog([]byte{'C', 0}, be(8, lsn), be(8, lsn+8), be(8, 0))
}

func sampleRelation() []byte {
	msg := append([]byte{'R'}, be(4, 500)...)
	msg = append(msg, "public\x00item\x00d\x00\x03"...)
	for i, name := range []string{"id", "note", "big"} {
		oid, flag := uint64(25), byte(0)
		if i == 0 {
			oid, flag = 23, 1
		}
		msg = append(msg, flag)
		msg = append(append(msg, name...), 0)
		msg = append(append(msg, be(4, oid)...), be(4, 0xffffffff)...)
	}
	return xlog(msg)
}

func sampleInsert(id uint64) []byte {
	return xlog([]byte{'I'}, be(4, 500), []byte{'N', 0, 3, 'b'}, sized(be(4, id)), []byte{'b'}, sized([]byte("a note of this row")), []byte{'n'})
}

// FuzzStreamParser feeds damaged messages: errors are fine, panics and hangs are not.
func FuzzStreamParser(f *testing.F) {
	f.Add(sampleInsert(1))
	f.Add(sampleRelation())
	f.Add(sampleCommit(100))
	f.Add(xlog([]byte{'U'}, be(4, 500), []byte{'K', 0, 3, 'b'}, sized(be(4, 1)), []byte{'n', 'n', 'N', 0, 3, 'b'}, sized(be(4, 2)), []byte{'n', 'u'}))
	f.Add(xlog([]byte{'D'}, be(4, 500), []byte{'K', 0, 3, 'b'}, sized(be(4, 1)), []byte{'n', 'n'}))
	f.Add(xlog([]byte{'T'}, be(4, 1), []byte{0}, be(4, 500)))
	f.Add([]byte{'k', 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, msg []byte) {
		st := offline(t)
		for _, m := range [][]byte{sampleBegin(100), sampleRelation(), sampleInsert(1), msg, sampleInsert(2), sampleCommit(100)} {
			if st.copyData(m) != nil {
				return
			}
		}
		_ = st.round.flush(false)
	})
}

// A known name with another id, and a known id under another name, are told before a row is taken; in a transaction that the target
// has already they are kept for the next one.
func TestRelation_IsKnownByItsIdAndItsName(t *testing.T) {
	for _, skip := range []bool{false, true} {
		for name, change := range map[string]func(*streamer){
			"another id": func(st *streamer) { st.tables["public\x00item"].t.NativeId = 499 },
			"another name": func(st *streamer) {
				st.shelf, _ = sdk.NewTables([]*rowv1.Table{itemTable(1, "other")}, nil, nil)
				st.ids = map[uint32]uint32{500: 1}
			},
		} {
			st := offline(t)
			change(st)
			if skip {
				st.from = 150
			}
			var err error
			for _, m := range [][]byte{sampleBegin(100), sampleRelation(), sampleCommit(100), sampleBegin(200), sampleInsert(1)} {
				if err = st.copyData(m); err != nil {
					break
				}
			}
			if e := diag.Find(err); e == nil || e.Code.ID != diag.SchemaChanged.ID || e.Table == 0 {
				t.Errorf("%s, skipped %v: got %v", name, skip, err)
			}
			if st.round.rows > 0 {
				t.Errorf("%s, skipped %v: a row was taken", name, skip)
			}
		}
	}
}

func TestWidenFollowsTheFullTransactionID(t *testing.T) {
	for _, c := range []struct {
		known uint64
		low   uint32
		want  uint64
	}{
		{1<<33 + 5, 7, 1<<33 + 7}, {1<<33 + 5, 3, 1<<33 + 3}, {1<<33 + 5, 1<<32 - 1, 1<<33 - 1}, {1<<33 - 2, 4, 1<<33 + 4}, {100, 90, 90}, {100, 1<<32 - 1, 1<<32 - 1},
	} {
		st := &streamer{xid: c.known}
		if got := st.widen(c.low); got != c.want {
			t.Errorf("%d after %d is %d, want %d", c.low, c.known, got, c.want)
		}
	}
}

func TestWholeTransactionsAndPieces(t *testing.T) {
	st := offline(t)
	var kinds []string
	st.round.emit = func(f *sdk.Frame) error {
		if e := f.Header.GetRoundEnd(); e != nil {
			kinds = append(kinds, map[bool]string{true: "open", false: "closed"}[e.GetOpen()])
		}
		if b := f.Header.GetRoundBatch(); b != nil && b.GetRows() == 0 {
			t.Error("an empty batch")
		}
		return nil
	}
	feed := func(msgs ...[]byte) {
		t.Helper()
		for _, m := range msgs {
			if err := st.copyData(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	feed(sampleBegin(100), sampleRelation(), sampleInsert(1), sampleCommit(100), sampleBegin(200), sampleInsert(2), sampleCommit(200))
	if len(kinds) != 0 {
		t.Fatalf("emitted %q before it was quiet", kinds)
	}
	feed(sampleBegin(300), xlog([]byte{'T'}, be(4, 1), []byte{0}, be(4, 500)), sampleInsert(3), sampleCommit(300))
	if got := len(kinds); got != 3 || kinds[0] != "closed" || kinds[1] != "open" || kinds[2] != "closed" {
		t.Fatalf("truncate within a transaction gave %q", kinds)
	}
	if st.tables["public\x00item"].t.GetGate() != rowv1.GateMode_GATE_MODE_KEYED {
		t.Fatal("the table of the test is keyed")
	}
}

func BenchmarkStreamDecode(b *testing.B) {
	st := offline(b)
	if err := st.copyData(sampleRelation()); err == nil {
		b.Log("relation outside of a transaction")
	}
	begin, commit, insert := sampleBegin(100), sampleCommit(100), sampleInsert(5)
	const rows = 10_000
	b.ReportAllocs()
	b.SetBytes(int64(rows * len(insert)))
	for b.Loop() {
		for _, m := range [][]byte{begin, sampleRelation()} {
			if err := st.copyData(m); err != nil {
				b.Fatal(err)
			}
		}
		for range rows {
			if err := st.copyData(insert); err != nil {
				b.Fatal(err)
			}
		}
		if err := st.copyData(commit); err != nil {
			b.Fatal(err)
		}
	}
}
