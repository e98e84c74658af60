package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// TestStreamKeepsItsSessionWhileEmitBlocks has the server end silent sessions after a second.
func TestStreamKeepsItsSessionWhileEmitBlocks(t *testing.T) {
	r := newRig(t, sdk.LanePGValues, []*rowv1.Table{itemTable(0, "item")}, itemDDL)
	name := r.url[strings.LastIndex(r.url, "/")+1:]
	name, _, _ = strings.Cut(name, "?")
	dev.MustExec(t, r.url, `ALTER DATABASE `+ident(name)+` SET wal_sender_timeout = '1s'`)
	r.block = make(chan struct{})
	r.run(r.start)
	dev.MustExec(t, r.url, `INSERT INTO item SELECT g, 'note', repeat('z', 200) FROM generate_series(1, 60000) g`)
	time.Sleep(3 * time.Second)
	close(r.block)
	r.await("all rows", func() bool { return r.rows == 60000 && r.rounds == 1 })
	_ = r.stop()
}

// TestStreamLatency measures commit to emit on a quiet stream.
func TestStreamLatency(t *testing.T) {
	r := newRig(t, sdk.LanePGValues, []*rowv1.Table{itemTable(0, "item")}, itemDDL)
	r.run(r.start)
	conn, err := connect(t.Context(), r.src.cfg, "writer", connectorv1.Role_ROLE_SOURCE)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var took []time.Duration
	for i := range 40 {
		if _, err := conn.Exec(t.Context(), `INSERT INTO public.item VALUES ($1, 'a', NULL)`, i); err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		r.await("the row", func() bool { return r.rows == i+1 })
		took = append(took, time.Since(at))
	}
	slices.Sort(took)
	t.Logf("p50 %s, worst %s", took[20], took[39])
	if took[20] > 100*time.Millisecond { // 5 ms on an idle machine; tests share theirs
		t.Errorf("half of the changes took more than %s", took[20])
	}
	_ = r.stop()
}

// BenchmarkStreamRead reads single-row changes in transactions of 10,000 rows, and of one row, and drops them.
func BenchmarkStreamRead(b *testing.B) {
	for _, size := range []int{10_000, 1} {
		b.Run(fmt.Sprintf("rows=%d", size), func(b *testing.B) { streamRead(b, 300_000, size) })
	}
}

func streamRead(b *testing.B, total, size int) {
	url := dev.Database(b)
	table := itemTable(0, "item")
	dev.MustExec(b, url, itemDDL)
	src := &Source{cfg: Config{URL: url, Pipeline: "bench"}}
	got, err := src.Prepare(b.Context(), &connectorv1.PrepareRequest{Pipeline: "bench", Tables: []*rowv1.Table{table}})
	if err != nil {
		b.Fatal(err)
	}
	dev.MustExec(b, url+"&options=-c%20synchronous_commit%3Doff", fmt.Sprintf(`DO $$ BEGIN FOR i IN 0..%d LOOP INSERT INTO item
		SELECT i * %d + g, 'some note of a row '||g, 'x' FROM generate_series(1, %d) g; COMMIT; END LOOP; END $$`, total/size-1, size, size))
	b.ReportAllocs()
	before := cost(b)
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		rows := 0
		_ = src.Stream(ctx, &connectorv1.StreamRequest_Start{Pipeline: "bench", From: got.GetPosition(), Tables: []*rowv1.Table{table}}, nil, func(f *sdk.Frame) error {
			if k := f.Header.GetRoundBatch(); k != nil {
				if rows += int(k.GetRows()); rows >= total {
					cancel()
				}
			}
			f.Free()
			return nil
		})
		cancel()
		if rows < total {
			b.Fatalf("%d rows", rows)
		}
	}
	after := cost(b)
	n := float64(total) * float64(b.N)
	b.ReportMetric(float64(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano())/n, "cpu-ns/row")
	b.ReportMetric(float64(after.Nvcsw-before.Nvcsw)*1000/n, "waits/1000rows")
}

// cost is what this process has used so far.
func cost(b *testing.B) (u syscall.Rusage) {
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u
}
