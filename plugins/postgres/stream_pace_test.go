package postgres

import (
	"net"
	"testing"
	"time"

	"github.com/droverdb/drover/plugins/sdk"
)

// at is a message that the server sends so long after 2000-01-01, when the sample transactions commit.
func at(after time.Duration, msg []byte) []byte {
	out := append([]byte(nil), msg...)
	copy(out[17:], be(8, uint64(after.Microseconds())))
	return out
}

// keepalive is what the server sends before it sleeps.
func keepalive(end uint64) []byte {
	return append(append([]byte{'k'}, be(8, end)...), make([]byte, 9)...)
}

func TestStream_IsBehindByTheServersOwnClock(t *testing.T) {
	st := offline(t)
	rounds := 0
	st.round.emit = func(f *sdk.Frame) error {
		if f.Header.GetRoundEnd() != nil {
			rounds++
		}
		f.Free()
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
	const late = 2 * behindMicros * time.Microsecond
	feed(sampleBegin(100), sampleRelation(), sampleInsert(1))
	if st.behind || st.mayFlush() {
		t.Fatal("behind without delay, or done inside a transaction")
	}
	feed(at(late, sampleInsert(2)), at(late, sampleCommit(100)))
	if !st.behind || st.mayFlush() {
		t.Fatal("not behind, or done while more may come")
	}
	if err := st.quiet(); err != nil || rounds != 0 {
		t.Fatalf("%d rounds went out of a backlog at the first pause (%v)", rounds, err)
	}
	feed(keepalive(500))
	if st.behind || !st.mayFlush() {
		t.Fatal("the server sleeps: there is nothing to wait for")
	}
	if err := st.due(); err != nil || rounds != 1 {
		t.Fatalf("%d rounds (%v)", rounds, err)
	}
	feed(sampleBegin(600), sampleInsert(3), sampleCommit(600), keepalive(700))
	if !st.mayFlush() {
		t.Fatal("a second round waits for the first")
	}
	if err := st.due(); err != nil || rounds != 2 {
		t.Fatalf("%d rounds (%v)", rounds, err)
	}
	feed(sampleBegin(800), sampleInsert(4), sampleCommit(800), keepalive(900))
	if st.mayFlush() {
		t.Fatal("a third round goes before the first is acknowledged")
	}
	_, first, _ := readPosition(st.round.before)
	st.link.acked.Store(first)
	if !st.mayFlush() {
		t.Fatal("the first round is acknowledged")
	}
}

func TestWalConn_AnAckEndsTheWait(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	defer here.Close()
	c := &walConn{nc: here, buf: make([]byte, walBuffer)}
	began := time.Now()
	if n, err := c.fill(time.Minute, upToDate, func() bool { return true }); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	waiting := make(chan struct{})
	go func() {
		<-waiting
		c.interrupt()
	}()
	n, err := c.fill(time.Minute, upToDate, func() bool { close(waiting); return false })
	if n != 0 || err != nil || time.Since(began) > 30*time.Second {
		t.Fatal(n, err, time.Since(began))
	}
}
