package postgres

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// rig is a source database with tables, and a reader of its stream that keeps what it got.
type rig struct {
	t       *testing.T
	url     string
	src     *Source
	tables  []*rowv1.Table
	lane    string
	start   []byte
	mu      sync.Mutex
	events  []string
	rounds  int
	ids     int
	aside   []uint32
	pieces  int
	last    []byte
	idle    []byte
	rows    int
	biggest int
	ack     bool
	acks    chan []byte
	cancel  context.CancelFunc
	done    chan error
	dec     map[uint32]*arrowio.Decoder
	block   chan struct{}
	heap    uint64
}

func testColumn(name, typ string, oid uint32) *rowv1.Column {
	return &rowv1.Column{Name: name, NativeType: typ, NativeId: oid, Nullable: true}
}

func itemTable(index uint32, name string) *rowv1.Table {
	ref := &rowv1.TableRef{Schema: "public", Name: name}
	return &rowv1.Table{Index: index, Source: ref, Target: ref, Key: []uint32{0}, Gate: rowv1.GateMode_GATE_MODE_KEYED, PrimaryKey: true,
		Columns: []*rowv1.Column{testColumn("id", "integer", 23), testColumn("note", "text", 25), testColumn("big", "text", 25)}}
}

func newRig(t *testing.T, lane string, tables []*rowv1.Table, ddl ...string) *rig {
	t.Helper()
	r := &rig{t: t, url: dev.Database(t), tables: tables, lane: lane, ack: true}
	dev.MustExec(t, r.url, ddl...)
	r.src = &Source{cfg: Config{URL: r.url, Pipeline: t.Name(), Options: map[string]string{"heartbeat": "100ms"}}}
	got, err := r.src.Prepare(t.Context(), &connectorv1.PrepareRequest{Pipeline: r.pipeline(), Tables: tables})
	if err != nil {
		t.Fatal(err)
	}
	r.start = got.GetPosition()
	return r
}

// pipeline is unique on the shared server.
func (r *rig) pipeline() string {
	return strings.ToLower(r.t.Name()) + r.url[strings.LastIndex(r.url, "/")+1:][:6] + fmt.Sprint(len(r.url))
}

func (r *rig) run(from []byte) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	r.cancel, r.done, r.acks = cancel, make(chan error, 1), make(chan []byte, 1000)
	r.dec = map[uint32]*arrowio.Decoder{}
	go func() {
		r.done <- r.src.Stream(ctx, &connectorv1.StreamRequest_Start{Pipeline: r.pipeline(), From: from, Tables: r.tables, Lane: r.lane, Aside: r.aside}, r.acks, r.take)
	}()
	r.t.Cleanup(func() { cancel() })
}

func (r *rig) stop() error {
	r.cancel()
	select {
	case err := <-r.done:
		return err
	case <-time.After(20 * time.Second):
		r.t.Fatal("stream does not end")
	}
	return nil
}

func (r *rig) take(f *sdk.Frame) error {
	if r.block != nil {
		<-r.block
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.biggest = max(r.biggest, f.Size())
	switch k := f.Header.GetKind().(type) {
	case *rowv1.FrameHeader_TableSchema:
		d, err := arrowio.NewDecoder(f.Bytes())
		if err != nil {
			return err
		}
		r.dec[k.TableSchema.GetTable()] = d
	case *rowv1.FrameHeader_RoundBegin:
		r.pieces++
		r.ids += len(k.RoundBegin.GetTxnIds())
		for _, tr := range k.RoundBegin.GetTruncates() {
			r.events = append(r.events, fmt.Sprintf("T%d", tr.GetTable()))
		}
	case *rowv1.FrameHeader_RoundBatch:
		return r.batch(k.RoundBatch, f.Bytes())
	case *rowv1.FrameHeader_RoundEnd:
		if k.RoundEnd.GetOpen() {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			r.heap = max(r.heap, m.HeapAlloc)
			return nil
		}
		r.rounds++
		if bytes.Compare(k.RoundEnd.GetPosition(), r.last) <= 0 {
			return fmt.Errorf("round went back from %x to %x", r.last, k.RoundEnd.GetPosition())
		}
		r.last = k.RoundEnd.GetPosition()
		if r.ack {
			r.acks <- r.last
		}
	case *rowv1.FrameHeader_Idle:
		r.idle = k.Idle.GetPosition()
		if r.ack {
			r.acks <- r.idle
		}
	}
	return nil
}

func (r *rig) batch(b *rowv1.RoundBatch, payload []byte) error {
	rec, err := r.dec[b.GetTable()].Decode(payload)
	if err != nil {
		return err
	}
	defer rec.Release()
	r.rows += int(rec.NumRows())
	if rec.NumRows() > 1000 {
		return nil
	}
	for i := range int(rec.NumRows()) {
		var s strings.Builder
		fmt.Fprintf(&s, "%c%d", rec.Column(0).(*array.Uint8).Value(i), b.GetTable())
		for c := sdk.RoundColumns; c < int(rec.NumCols()); c++ {
			fmt.Fprintf(&s, " %s", cell(rec.Column(c), i))
		}
		if m := rec.Column(3).(*array.Binary); m.IsValid(i) {
			fmt.Fprintf(&s, " missing=%x", m.Value(i))
		}
		if o := rec.Column(4).(*array.Int32); o.IsValid(i) {
			fmt.Fprintf(&s, " old=%d", o.Value(i)-int32(i))
		}
		r.events = append(r.events, s.String())
	}
	return nil
}

func cell(a arrow.Array, i int) string {
	if a.IsNull(i) {
		return "-"
	}
	s := a.ValueStr(i)
	if b, ok := a.(*array.Binary); ok {
		s = string(b.Value(i))
		if len(s) == 4 && s[0] == 0 {
			s = fmt.Sprint(int(s[2])<<8 | int(s[3]))
		}
	}
	if len(s) > 20 {
		s = fmt.Sprintf("%s*%d", s[:1], len(s))
	}
	return s
}

// await waits until ok holds.
func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		r.mu.Lock()
		done := ok()
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case err := <-r.done:
			r.t.Fatalf("stream ended while waiting for %s: %v", what, err)
		default:
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.t.Fatalf("no %s in time; got %q", what, r.events)
}

func (r *rig) expect(want ...string) {
	r.t.Helper()
	r.await(fmt.Sprintf("%d events", len(want)), func() bool { return len(r.events) >= len(want) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := strings.Join(r.events, "\n"); got != strings.Join(want, "\n") {
		r.t.Fatalf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	r.events = nil
}

func (r *rig) flushed() string {
	return dev.MustQuery(r.t, r.url, `SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = `+literal(slotName(r.pipeline())))
}

const itemDDL = `CREATE TABLE item (id int PRIMARY KEY, note text, big text); ALTER TABLE item ALTER big SET STORAGE EXTERNAL`

func TestStreamCarriesEveryKindOfChange(t *testing.T) {
	for _, lane := range []string{sdk.LanePGValues, sdk.LaneArrow} {
		t.Run(lane, func(t *testing.T) {
			r := newRig(t, lane, []*rowv1.Table{itemTable(0, "item")}, itemDDL)
			r.run(r.start)
			dev.MustExec(t, r.url, `INSERT INTO item VALUES (1, 'a', repeat('x', 9000)), (2, NULL, 'y')`)
			r.expect("I0 1 a x*9000", "I0 2 - y")
			dev.MustExec(t, r.url, `UPDATE item SET note = 'b' WHERE id = 1`)
			r.expect("U0 1 b - missing=04")
			dev.MustExec(t, r.url, `UPDATE item SET id = 11 WHERE id = 1`)
			r.expect("D0 1 - -", "I0 11 b - missing=04 old=-1")
			dev.MustExec(t, r.url, `UPDATE item SET id = 12, note = '' WHERE id = 2`)
			r.expect("D0 2 - -", "I0 12  y")
			dev.MustExec(t, r.url, `DELETE FROM item WHERE id = 12`)
			r.expect("D0 12 - -")
			dev.MustExec(t, r.url, `BEGIN; INSERT INTO item VALUES (5, 'five', NULL); TRUNCATE item; INSERT INTO item VALUES (6, 'six', NULL); COMMIT`)
			r.expect("I0 5 five -", "T0", "I0 6 six -")
			dev.MustExec(t, r.url, `TRUNCATE item`)
			r.expect("T0")
			if err := r.stop(); diag.Find(err) == nil || diag.Find(err).Code.ID != diag.CallCancelled.ID {
				t.Fatalf("stream ended with %v", err)
			}
		})
	}
}

func TestStreamReplicaIdentityFull(t *testing.T) {
	whole := itemTable(1, "heap")
	whole.Key, whole.Gate = nil, rowv1.GateMode_GATE_MODE_UNIT_FULL_ROW
	r := newRig(t, sdk.LanePGValues, []*rowv1.Table{itemTable(0, "item"), whole}, itemDDL, `ALTER TABLE item REPLICA IDENTITY FULL`,
		`CREATE TABLE heap (id int, note text, big text); ALTER TABLE heap ALTER big SET STORAGE EXTERNAL`, `ALTER TABLE heap REPLICA IDENTITY FULL`)
	r.run(r.start)
	dev.MustExec(t, r.url, `INSERT INTO item VALUES (1, 'a', repeat('x', 9000))`, `UPDATE item SET note = 'b'`, `UPDATE item SET id = 2`, `DELETE FROM item`)
	r.expect("I0 1 a x*9000", "U0 1 b x*9000", "D0 1 - -", "I0 2 b x*9000", "D0 2 - -")
	dev.MustExec(t, r.url, `INSERT INTO heap VALUES (1, NULL, repeat('x', 9000))`, `UPDATE heap SET note = 'b'`, `DELETE FROM heap`)
	r.expect("I1 1 - x*9000", "D1 1 - x*9000", "I1 1 b x*9000", "D1 1 b x*9000")
	_ = r.stop()
}

func TestStreamLargeTransactionInPieces(t *testing.T) {
	r := newRig(t, sdk.LanePGValues, []*rowv1.Table{itemTable(0, "item")}, itemDDL)
	r.run(r.start)
	dev.MustExec(t, r.url, `INSERT INTO item SELECT g, 'some note of a row ' || g, repeat('z', 100) FROM generate_series(1, 200000) g`)
	r.await("all rows", func() bool { return r.rows == 200000 && r.rounds == 1 })
	_ = r.stop()
	if r.pieces < 3 {
		t.Errorf("%d pieces", r.pieces)
	}
	if r.heap > 128<<20 {
		t.Errorf("%d MiB of heap for a transaction in pieces of %d MiB", r.heap>>20, pieceBytes>>20)
	}
	if r.biggest > pieceBytes*3/2 {
		t.Errorf("a frame of %d bytes", r.biggest)
	}
}

func TestOnlyAcksMoveTheSlot(t *testing.T) {
	r := newRig(t, sdk.LanePGValues, []*rowv1.Table{itemTable(0, "item")}, itemDDL)
	before := r.flushed()
	r.ack = false
	r.run(r.start)
	dev.MustExec(t, r.url, `INSERT INTO item VALUES (1, 'a', 'b')`)
	r.expect("I0 1 a b")
	time.Sleep(300 * time.Millisecond)
	if got := r.flushed(); got != before {
		t.Fatalf("the slot moved from %s to %s without an ack", before, got)
	}
	r.acks <- r.last
	r.await("the slot to move", func() bool { return r.flushed() == printable(r.last) })
	r.await("an idle mark", func() bool { return bytes.Compare(r.idle, r.last) > 0 })
	idle := r.idle
	r.acks <- idle
	r.await("the idle slot to move", func() bool { lsn, _ := parseLSN(r.flushed()); _, end, _ := readPosition(idle); return lsn >= end })
	_ = r.stop()
}

func TestStreamResumesWithoutLossOrDoubles(t *testing.T) {
	r := newRig(t, sdk.LanePGValues, []*rowv1.Table{itemTable(0, "item")}, itemDDL)
	r.ack = false // the slot stays behind: only the position given decides
	r.run(r.start)
	dev.MustExec(t, r.url, `INSERT INTO item VALUES (1, 'a', NULL)`, `INSERT INTO item VALUES (2, 'b', NULL)`)
	r.expect("I0 1 a -", "I0 2 b -")
	at := r.last
	_ = r.stop()
	r.last = nil
	r.run(r.start)
	r.expect("I0 1 a -", "I0 2 b -")
	_ = r.stop()
	dev.MustExec(t, r.url, `INSERT INTO item VALUES (3, 'c', NULL)`)
	r.last = nil
	r.run(at)
	r.expect("I0 3 c -")
	_ = r.stop()
	r.last = nil
	r.run(at)
	r.expect("I0 3 c -")
	_ = r.stop()
}

func TestStreamRefusesALostSlotAndAChangedTable(t *testing.T) {
	r := newRig(t, sdk.LanePGValues, []*rowv1.Table{itemTable(0, "item")}, itemDDL)
	r.run(r.start)
	dev.MustExec(t, r.url, `INSERT INTO item VALUES (1, 'a', NULL)`)
	r.expect("I0 1 a -")
	r.await("the slot to move", func() bool { lsn, _ := parseLSN(r.flushed()); _, end, _ := readPosition(r.start); return lsn > end })
	dev.MustExec(t, r.url, `ALTER TABLE item ADD COLUMN more int`, `INSERT INTO item VALUES (2, 'a', NULL, 1)`)
	err := <-r.done
	if e := diag.Find(err); e == nil || e.Code.ID != diag.SchemaChanged.ID || !strings.Contains(e.Error(), "more") {
		t.Fatalf("after ALTER TABLE: %v", err)
	}
	r.run(r.start)
	if e := diag.Find(<-r.done); e == nil || e.Code.ID != diag.SlotLost.ID {
		t.Fatalf("from before the slot: %v", e)
	}
	got, err := r.src.Release(t.Context(), &connectorv1.ReleaseRequest{Pipeline: r.pipeline()})
	if err != nil || len(got.GetRemoved()) != 2 {
		t.Fatalf("release: %v, %v", got, err)
	}
	r.run(r.last)
	if e := diag.Find(<-r.done); e == nil || e.Code.ID != diag.SlotLost.ID {
		t.Fatalf("without a slot: %v", e)
	}
}

// A key that has moved to another column needs no other identity: the fix says when it would.
func TestMatch_TellsThatTheKeyMayHaveMoved(t *testing.T) {
	table := itemTable(0, "item")
	var cols []relColumn
	for _, c := range table.Columns {
		cols = append(cols, relColumn{name: c.Name, oid: c.NativeId, typmod: -1})
	}
	_, err := match(table, cols)
	if e := diag.Find(err); e == nil || e.Code.ID != diag.NoIdentity.ID || strings.Contains(e.Fix()[0], "…") ||
		!strings.Contains(e.Fix()[0], `."item" REPLICA IDENTITY FULL;  -- only if it has no primary key any more`) {
		t.Errorf("%v", err)
	}
}
