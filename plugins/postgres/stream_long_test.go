package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// piped is a streamer that reads what is written to the other end of a socket, messages above whole in pieces.
func piped(tb testing.TB, whole int) (*streamer, net.Conn) {
	tb.Helper()
	st := offline(tb)
	here, there := net.Pipe()
	tb.Cleanup(func() { _, _ = here.Close(), there.Close() })
	st.conn = &walConn{nc: here, buf: make([]byte, walBuffer), low: 1, whole: whole}
	return st, there
}

func messageOf(body []byte) []byte {
	return append(append([]byte{'d'}, be(4, uint64(len(body)+4))...), body...)
}

// readMessages has the streamer read messages until their end.
func readMessages(tb testing.TB, st *streamer, to net.Conn, bodies ...[]byte) error {
	tb.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, b := range bodies {
			if _, err := to.Write(messageOf(b)); err != nil {
				return
			}
		}
		_ = to.Close()
	}()
	err := st.read(context.Background())
	_ = st.conn.nc.Close()
	<-done
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) { // a pipe's other end is closed
		return nil
	}
	return err
}

// tupleOf writes a tuple: n null, u unchanged, a number is a key, * a large value, anything else a small one.
func tupleOf(large int, values ...string) []byte {
	b := be(2, uint64(len(values)))
	for i, v := range values {
		switch {
		case v == "n" || v == "u":
			b = append(b, v[0])
		case i == 0:
			b = append(append(b, 'b'), sized(be(4, uint64(v[0]-'0')))...)
		case v == "*":
			b = append(append(b, 'b'), sized(bytes.Repeat([]byte{'*'}, large))...)
		default:
			b = append(append(b, 'b'), sized([]byte(v))...)
		}
	}
	return b
}

// changes tells the rows of all batches in words.
func changes(t *testing.T, st *streamer) func() string {
	var out []string
	enc := st.tables["public\x00item"].enc
	dec, err := arrowio.NewDecoder(enc.SchemaMessage())
	if err != nil {
		t.Fatal(err)
	}
	st.round.emit = func(f *sdk.Frame) error {
		defer f.Free()
		if f.Header.GetRoundBatch() == nil {
			return nil
		}
		rec, err := dec.Decode(f.Bytes())
		if err != nil {
			return err
		}
		defer rec.Release()
		for i := range int(rec.NumRows()) {
			row := fmt.Sprintf("%c%x", rec.Column(0).(*array.Uint8).Value(i), rec.Column(2).(*array.Binary).Value(i)[3:])
			for c := sdk.RoundColumns + 1; c < int(rec.NumCols()); c++ {
				v := "-"
				if m := rec.Column(3); !m.IsNull(i) && m.(*array.Binary).Value(i)[0]&(1<<(c-sdk.RoundColumns)) != 0 {
					v = "?"
				} else if !rec.Column(c).IsNull(i) {
					v = string(rec.Column(c).(*array.Binary).Value(i))
				}
				row += " " + v
			}
			out = append(out, row)
		}
		return nil
	}
	return func() string { return strings.Join(out, ", ") }
}

// A long message gives the rows that a sink can use: all of it when only the old image is large, else the key.
func TestLongMessages_KeepWhatIsSmall(t *testing.T) {
	const large = 3 << 20
	u := func(parts ...[]byte) []byte { return xlog(append([][]byte{{'U'}, be(4, 500)}, parts...)...) }
	full := func(values ...string) []byte { return append([]byte{'O'}, tupleOf(large, values...)...) }
	key := func(values ...string) []byte { return append([]byte{'K'}, tupleOf(large, values...)...) }
	now := func(values ...string) []byte { return append([]byte{'N'}, tupleOf(large, values...)...) }
	for want, msg := range map[string][]byte{
		"R01 - -":           xlog([]byte{'I'}, be(4, 500), now("1", "a", "*")),
		"R02 - -":           u(now("2", "*", "u")),
		"R03 - -":           u(full("3", "a", "b"), now("3", "a", "*")),
		"U04 b c":           u(full("4", "a", "*"), now("4", "b", "c")),
		"U05 b ?":           u(full("5", "a", "*"), now("5", "b", "u")), // the target has what the old image has
		"U06 a c":           u(full("6", "a", "*"), now("6", "u", "c")),
		"D07 - -, R08 - -":  u(key("7", "n", "n"), now("8", "a", "*")),
		"D01 - -, I02 b ?":  u(full("1", "a", "*"), now("2", "b", "u")),
		"D02 - -, R03 - - ": u(full("2", "*", "*"), now("3", "*", "*")),
		"D09 - -":           xlog([]byte{'D'}, be(4, 500), full("9", "a", "*")),
		"R04 - -  ":         xlog([]byte{'I'}, be(4, 500), now("4", "*", "*")),
		"":                  xlog([]byte{'M', 0}, be(8, 1), []byte("app\x00"), sized(make([]byte, large))),
	} {
		st, to := piped(t, 1<<20)
		got := changes(t, st)
		if err := readMessages(t, st, to, sampleBegin(100), sampleRelation(), msg, sampleCommit(100)); err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		if err := st.round.flush(false); err != nil {
			t.Fatal(err)
		}
		if got() != strings.TrimRight(want, " ") {
			t.Errorf("%s instead of %s", got(), want)
		}
		if cap(st.conn.buf) > walBuffer {
			t.Errorf("%s: the buffer has grown to %d", want, cap(st.conn.buf))
		}
	}
}

// What comes after a long message is read as ever, also of a table that nobody wants.
func TestLongMessages_InARowOfOthers(t *testing.T) {
	st, to := piped(t, 1<<20)
	got := changes(t, st)
	delete(st.tables, "public\x00other")
	foreign := xlog([]byte{'R'}, be(4, 600), []byte("public\x00other\x00d\x00\x01\x01id\x00"), be(4, 23), be(4, 0xffffffff))
	other := xlog([]byte{'I'}, be(4, 600), []byte{'N'}, tupleOf(2<<20, "1", "a", "*"))
	long := xlog([]byte{'I'}, be(4, 500), []byte{'N'}, tupleOf(5<<20, "7", "*", "*"))
	err := readMessages(t, st, to, sampleBegin(100), sampleRelation(), foreign, sampleInsert(1), other, long, sampleInsert(2), long, sampleCommit(100))
	if err == nil {
		err = st.round.flush(false)
	}
	note := " a note of this row -"
	if want := "I01" + note + ", R07 - -, I02" + note + ", R07 - -"; err != nil || got() != want {
		t.Errorf("%s instead of %s: %v", got(), want, err)
	}
}

// Without a key all values are needed: what fits is read whole, and the buffer is given back; what does not, is refused.
func TestLongMessages_OfATableWithoutAKey(t *testing.T) {
	fullRowTable := func(st *streamer) {
		table := itemTable(0, "item")
		table.Key, table.Gate = nil, rowv1.GateMode_GATE_MODE_UNIT_FULL_ROW
		var err error
		if st.tables["public\x00item"], err = newStreamTable(table, sdk.LanePGValues, true); err != nil {
			t.Fatal(err)
		}
	}
	st, to := piped(t, 1<<20)
	fullRowTable(st)
	var rows int
	st.round.emit = func(f *sdk.Frame) error { rows += int(f.Header.GetRoundBatch().GetRows()); f.Free(); return nil }
	long := xlog([]byte{'I'}, be(4, 500), []byte{'N'}, tupleOf(3<<20, "7", "a", "*"))
	if err := readMessages(t, st, to, sampleBegin(100), sampleRelation(), long, sampleInsert(1), sampleCommit(100)); err != nil {
		t.Fatal(err)
	}
	if err := st.round.flush(false); err != nil || rows != 2 || cap(st.conn.buf) > walBuffer {
		t.Errorf("%d rows, a buffer of %d: %v", rows, cap(st.conn.buf), err)
	}
	st, to = piped(t, 1<<20)
	fullRowTable(st)
	err := readMessages(t, st, to, sampleBegin(100), sampleRelation(), xlog([]byte{'I'}, be(4, 500), []byte{'N'}, tupleOf(maxRow, "7", "a", "*")))
	if d := diag.Find(err); d == nil || d.Code.ID != diag.RowTooLarge.ID || !strings.Contains(d.Where, "public.item") {
		t.Errorf("%v", err)
	}
}

// In a table without a key a row is its own key; a long value is not held a second time, and still tells rows apart.
func TestLongValues_StandInAKeyByTheirDigest(t *testing.T) {
	key := func(v string) string {
		return string(appendInjective(nil, &wireValue{kind: valueBinary, data: []byte(v)}))
	}
	long := strings.Repeat("x", 5000)
	seen := map[string]bool{}
	for _, v := range []string{"", "x", long, long + "y", "y" + long, long[:longInjective], long[:longInjective-1]} {
		k := key(v)
		if seen[k] || len(k) > longInjective+8 || key(v) != k {
			t.Errorf("%d bytes have a key of %d, or one that another value has", len(v), len(k))
		}
		seen[k] = true
	}
}

// Whoever stops does not wait for the rest of a long message.
func TestLongMessages_EndWithTheStream(t *testing.T) {
	st, to := piped(t, 1<<20)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- st.read(ctx) }()
	long := messageOf(xlog([]byte{'I'}, be(4, 500), []byte{'N'}, tupleOf(5<<20, "7", "a", "*")))
	for _, b := range [][]byte{messageOf(sampleBegin(100)), messageOf(sampleRelation()), long[:3<<20]} {
		if _, err := to.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if cap(st.conn.buf) > walBuffer {
			t.Errorf("the buffer has grown to %d", cap(st.conn.buf))
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it waits for bytes that do not come")
	}
}

// The beginning of a long message, alone in the buffer, is no reason to make room for all of it.
func TestLongMessages_GetNoRoom(t *testing.T) {
	c := &walConn{buf: make([]byte, walBuffer), whole: wholeMessage}
	c.w = copy(c.buf, messageOf(make([]byte, wholeMessage+1))[:10])
	if c.room(); len(c.buf) > walBuffer {
		t.Errorf("the buffer has grown to %d", len(c.buf))
	}
	c.w = copy(c.buf, messageOf(make([]byte, wholeMessage/2))[:10])
	if c.room(); len(c.buf) < wholeMessage/2 {
		t.Errorf("a message that is read whole has only %d", len(c.buf))
	}
}

// FuzzLongMessage: a damaged message is refused, or its row taken; nothing panics, hangs or grows.
func FuzzLongMessage(f *testing.F) {
	tuple := tupleOf(9000, "1", "a note", "*")
	f.Add(xlog([]byte{'I'}, be(4, 500), []byte{'N'}, tuple))
	f.Add(xlog([]byte{'D'}, be(4, 500), []byte{'O'}, tuple))
	f.Add(xlog([]byte{'U'}, be(4, 500), []byte{'O'}, tuple, []byte{'N'}, tupleOf(30000, "2", "u", "*")))
	f.Add(xlog([]byte{'U'}, be(4, 500), []byte{'K'}, tupleOf(0, "1", "n", "n"), []byte{'N'}, tuple))
	f.Add(xlog([]byte{'M', 0}, be(8, 1), []byte("app\x00"), sized(make([]byte, 200))))
	f.Add(xlog([]byte{'B'}, make([]byte, 200)))
	f.Fuzz(func(t *testing.T, msg []byte) {
		st, to := piped(t, 150)
		_ = readMessages(t, st, to, slices.Concat(sampleBegin(100)), sampleRelation(), sampleInsert(1), msg, sampleInsert(2), sampleCommit(100))
		if cap(st.conn.buf) > walBuffer {
			t.Errorf("the buffer has grown to %d", cap(st.conn.buf))
		}
		_ = st.round.flush(false)
	})
}
