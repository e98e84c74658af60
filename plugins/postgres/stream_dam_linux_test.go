package postgres

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dammed is a connection to a writer that hands over n small messages, each by itself, as a walsender does.
func dammed(t testing.TB, n int) (*walConn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	here, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	there, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		msg := make([]byte, 100)
		msg[0] = 'd'
		binary.BigEndian.PutUint32(msg[1:], 99)
		var err error
		for i := 0; i < n && err == nil; i++ {
			binary.BigEndian.PutUint32(msg[5:], uint32(i))
			_, err = there.Write(msg)
		}
		written <- err
	}()
	t.Cleanup(func() {
		_ = here.Close()
		_ = there.Close()
		<-written
	})
	tcp := here.(*net.TCPConn)
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return &walConn{nc: here, raw: raw, buf: make([]byte, walBuffer), low: 1, whole: wholeMessage, dam: newDam(here, raw)}, tcp
}

// readDammed reads n messages at a pace and checks that each comes once and in order.
func readDammed(t testing.TB, c *walConn, p pace, first, n int) {
	t.Helper()
	last := time.Now()
	for i := first; i < first+n; {
		_, body, ok, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			if got := int(binary.BigEndian.Uint32(body)); got != i {
				t.Fatalf("message %d instead of %d", got, i)
			}
			i++
			last = time.Now()
			continue
		}
		if _, err := c.fill(idleWait, p, nil); err != nil {
			t.Fatal(err)
		}
		if time.Since(last) > 20*time.Second {
			t.Fatalf("the stream stalls at message %d", i)
		}
	}
}

func TestDam_LosesNothingAndIsTakenDownAgain(t *testing.T) {
	const n = 120_000
	c, tcp := dammed(t, n)
	readDammed(t, c, upToDate, 0, 1000)
	if c.dam.up {
		t.Fatal("it is up although the stream keeps up")
	}
	readDammed(t, c, farBehind, 1000, n/2)
	if !c.dam.up || option(t, tcp, unix.SO_RCVBUF) != 2*damBuffer {
		t.Fatalf("it is not up: buffer of %d bytes", option(t, tcp, unix.SO_RCVBUF))
	}
	readDammed(t, c, behind, 1000+n/2, n-1000-n/2)
	if c.dam.up || option(t, tcp, soBufLock) != 0 && option(t, tcp, unix.SO_RCVBUF) <= 2*damBuffer {
		t.Fatal("the buffer stays small")
	}
}

func TestDam_IsForPlainTCPOnly(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	d := newDam(here, nil)
	if d.set(true); d.up {
		t.Fatal("a dam without a socket")
	}
}

func option(t *testing.T, c *net.TCPConn, name int) (value int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, name) }); err != nil {
		t.Fatal(err)
	}
	return value
}

// BenchmarkDam reads a backlog as it comes, and through a dam; segments tell what it costs the sender.
func BenchmarkDam(b *testing.B) {
	const n = 500_000
	for name, p := range map[string]pace{"open": behind, "dam": farBehind} {
		b.Run(name, func(b *testing.B) {
			segments := 0
			for b.Loop() {
				c, tcp := dammed(b, n)
				readDammed(b, c, p, 0, n)
				raw, err := tcp.SyscallConn()
				if err != nil {
					b.Fatal(err)
				}
				_ = raw.Control(func(fd uintptr) {
					if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
						segments += int(info.Data_segs_in)
					}
				})
				_ = tcp.Close()
			}
			b.ReportMetric(float64(segments)/float64(b.N)/n, "segments/message")
		})
	}
}
