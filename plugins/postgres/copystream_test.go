package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

func feed(parts ...[]byte) (*copyOut, error) {
	o := &copyOut{binary: true, pool: payloadPool, emit: func(b mem.Buffer) error { b.Free(); return nil }}
	defer o.close()
	for _, p := range parts {
		if err := o.row(p); err != nil {
			return o, err
		}
	}
	return o, o.finish(int64(o.rows))
}

func TestCopyOut_RefusesWhatIsNotACompleteCopy(t *testing.T) {
	head := append(append([]byte{}, copySignature...), 0, 0, 0, 0, 0, 0, 0, 0)
	row, end := []byte{0, 1, 0, 0, 0, 1, 'x'}, []byte{0xff, 0xff}
	first := append(append([]byte{}, head...), row...)
	if o, err := feed(first, row, end); err != nil || o.rows != 2 || o.bytes != int64(2*len(row)) {
		t.Errorf("a good copy: %v, %d rows", err, o.rows)
	}
	if o, err := feed(append(append([]byte{}, head...), end...)); err != nil || o.rows != 0 {
		t.Errorf("an empty copy: %v, %d rows", err, o.rows)
	}
	critical := append([]byte{}, first...)
	critical[len(copySignature)+1] = 1
	for name, parts := range map[string][][]byte{
		"no trailer": {first, row}, "no signature": {row, end}, "rows after the trailer": {first, end, row},
		"critical flag": {critical, end}, "short header": {head[:14]}, "nothing": {},
	} {
		if _, err := feed(parts...); diag.Find(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := &copyOut{}
	_ = o.row([]byte("a\n"))
	if e := diag.Find(o.finish(2)); e == nil || e.Code.ID != diag.CountDiffers.ID {
		t.Errorf("a wrong count: %v", e)
	}
}

func TestCopyStream_EndsWithItsContextAndOnErrorsInTheMiddle(t *testing.T) {
	url := dev.Database(t)
	run := func(ctx context.Context, sql string) (int64, error) {
		conn, err := connect(t.Context(), Config{URL: url}, "test", connectorv1.Role_ROLE_SOURCE)
		if err != nil {
			t.Fatal(err)
		}
		defer hangUp(conn)
		out := &copyOut{binary: true}
		err = newCopyStream(conn.PgConn()).run(ctx, sql, func(int) (*copyOut, error) { return out, nil }, func(int) error { return nil })
		return out.rows, err
	}
	rows, err := run(t.Context(), "COPY (SELECT 1000 / (5000 - g) FROM generate_series(1, 9000) g) TO STDOUT (FORMAT binary)")
	if e := diag.Find(mapError(err, "x")); e == nil || e.Code.ID != diag.RowRefused.ID || rows != 4999 {
		t.Errorf("division by zero after %d rows: %v", rows, err)
	}
	rows, err = run(t.Context(), "DO $$ BEGIN RAISE WARNING 'a notice'; END $$; SET statement_timeout = 0; SELECT 1; COPY (SELECT 1) TO STDOUT (FORMAT binary)")
	if err != nil || rows != 1 {
		t.Errorf("notices and settings: %d rows, %v", rows, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err = run(ctx, "COPY (SELECT pg_sleep(30)) TO STDOUT (FORMAT binary)"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
}

// trickle sends numbered pieces of many sizes to the first caller, with pauses.
func trickle(l net.Listener, pieces uint32) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	var b []byte
	for i := range pieces {
		b = b[:0]
		for range 1 + (i*i)%3000 {
			b = binary.BigEndian.AppendUint32(b, i)
		}
		if _, err := conn.Write(b); err != nil {
			return err
		}
		if i%20 == 0 {
			time.Sleep(8 * time.Millisecond)
		}
	}
	return nil
}

func TestGather_LosesNothingHoweverItArrives(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const pieces = 200
	sent := make(chan error, 1)
	go func() { sent <- trickle(l, pieces) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	g := newGather(conn, 64<<10)
	if err := g.bulk(); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(g)
	if err != nil || <-sent != nil {
		t.Fatal(err)
	}
	at := 0
	for i := range uint32(pieces) {
		for range 1 + (i*i)%3000 {
			if at+4 > len(all) || binary.BigEndian.Uint32(all[at:]) != i {
				t.Fatalf("piece %d is damaged at %d of %d bytes", i, at, len(all))
			}
			at += 4
		}
	}
	if at != len(all) {
		t.Errorf("%d bytes, want %d", len(all), at)
	}
}

// cpu is the processor time of this process.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCopyStream reads about 100 MB of narrow rows; the figure that counts is cpu-s/GB.
func BenchmarkCopyStream(b *testing.B) {
	url := dev.Database(b)
	dev.MustExec(b, url, "CREATE UNLOGGED TABLE public.accounts (aid int, bid int, abalance int, filler char(84))",
		"INSERT INTO accounts SELECT g, 1, 0, '' FROM generate_series(1, 800000) g", "VACUUM ANALYZE accounts")
	conn, err := connect(b.Context(), Config{URL: url}, "bench", connectorv1.Role_ROLE_SOURCE)
	if err != nil {
		b.Fatal(err)
	}
	defer hangUp(conn)
	for _, gathering := range []bool{true, false} {
		b.Run(fmt.Sprintf("gather=%v", gathering), func(b *testing.B) {
			b.ReportAllocs()
			var total int64
			before := cpu(b)
			for b.Loop() {
				s := newCopyStream(conn.PgConn())
				if !gathering {
					s.in.raw = nil
				}
				out := &copyOut{binary: true, pool: payloadPool, emit: func(p mem.Buffer) error { p.Free(); return nil }}
				if err := s.run(b.Context(), "COPY public.accounts TO STDOUT (FORMAT binary)", func(int) (*copyOut, error) { return out, nil }, func(int) error { return nil }); err != nil {
					b.Fatal(err)
				}
				total += out.bytes
				b.SetBytes(out.bytes)
				out.close()
			}
			b.ReportMetric((cpu(b)-before).Seconds()/(float64(total)/1e9), "cpu-s/GB")
		})
	}
}
