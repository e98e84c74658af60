package postgres

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// arrivals notes by which transaction each row of the table came through the log.
type arrivals struct {
	mu    sync.Mutex
	begin *rowv1.RoundBegin
	dec   *arrowio.Decoder
	// of maps the value of the first column to the place and the id of its transaction.
	of map[string]arrival
}

type arrival struct {
	position []byte
	id       uint64
}

func (a *arrivals) take(f *sdk.Frame) (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch k := f.Header.GetKind().(type) {
	case *rowv1.FrameHeader_TableSchema:
		a.dec, err = arrowio.NewDecoder(bytes.Clone(f.Bytes()))
		return err
	case *rowv1.FrameHeader_RoundBegin:
		a.begin = k.RoundBegin
	case *rowv1.FrameHeader_RoundBatch:
		rec, err := a.dec.Decode(f.Bytes())
		if err != nil {
			return err
		}
		defer rec.Release()
		width := len(a.begin.Positions) / len(a.begin.TxnIds)
		for i := range int(rec.NumRows()) {
			n := int(rec.Column(1).(*array.Uint32).Value(i))
			a.of[cell(rec.Column(sdk.RoundColumns), i)] = arrival{a.begin.Positions[n*width : (n+1)*width], a.begin.TxnIds[n]}
		}
	}
	return nil
}

func (a *arrivals) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.of)
}

// Prepared transactions and subtransactions around a slot's start and a chunk's read: what the read shows and what its
// coverage says of the log agree, one by one. A slot waits for a prepared transaction that is older than itself.
func TestCoverage_TellsPreparedAndSubtransactionsApart(t *testing.T) {
	server := dev.Postgres(t, "max_prepared_transactions=5")
	url := server.URL("postgres")
	dev.MustExec(t, url, itemDDL, "BEGIN; INSERT INTO item VALUES (0); PREPARE TRANSACTION 'before'")
	s := openSource(t, url)
	table := itemTable(0, "item")
	type answer struct {
		r   *connectorv1.PrepareResponse
		err error
	}
	prepared := make(chan answer, 1)
	go func() {
		r, err := s.Prepare(t.Context(), &connectorv1.PrepareRequest{Pipeline: "p", Tables: []*rowv1.Table{table}})
		prepared <- answer{r, err}
	}()
	select {
	case a := <-prepared:
		t.Fatalf("the slot did not wait for an older transaction: %v %v", a.r, a.err)
	case <-time.After(500 * time.Millisecond):
	}
	dev.MustExec(t, url, "COMMIT PREPARED 'before'")
	slot := <-prepared
	if slot.err != nil {
		t.Fatal(slot.err)
	}

	writer, err := connect(t.Context(), Config{URL: url, Pipeline: "writer"}, "write", connectorv1.Role_ROLE_UNSPECIFIED)
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(writer)
	if _, err := script(t.Context(), writer, "BEGIN; SAVEPOINT a; INSERT INTO item VALUES (2)"); err != nil {
		t.Fatal(err)
	}
	dev.MustExec(t, url, "BEGIN; INSERT INTO item VALUES (1); PREPARE TRANSACTION 'during'",
		"BEGIN; SAVEPOINT a; INSERT INTO item VALUES (3); RELEASE a; SAVEPOINT b; INSERT INTO item VALUES (4); COMMIT")
	_, results := readAll(t, s, &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{table}, Chunks: []*rowv1.Chunk{{Id: 1}}})
	if results[0].Rows != 3 {
		t.Fatalf("%d rows, want 0, 3 and 4", results[0].Rows)
	}
	if _, err := script(t.Context(), writer, "COMMIT"); err != nil {
		t.Fatal(err)
	}
	dev.MustExec(t, url, "COMMIT PREPARED 'during'", "INSERT INTO item VALUES (5)")

	got := &arrivals{of: map[string]arrival{}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- s.Stream(ctx, &connectorv1.StreamRequest_Start{Pipeline: "p", From: slot.r.Position, Tables: []*rowv1.Table{table}, Lane: sdk.LanePGValues}, make(chan []byte), got.take)
	}()
	for end := time.Now().Add(20 * time.Second); got.count() < 5; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("only %v came", got.of)
		}
	}
	cancel()
	<-ended
	if _, ok := got.of["0"]; ok {
		t.Error("a transaction from before the slot came through it")
	}
	for row, read := range map[string]bool{"1": false, "2": false, "3": true, "4": true, "5": false} {
		if a := got.of[row]; sdk.Includes(results[0].Coverage, a.position, a.id) != read {
			t.Errorf("row %s: coverage says %v, the read %v", row, !read, read)
		}
	}
}

// What a comparison holds: it gives way to DDL at the source, and shows one state of the target.
func TestOpenSnapshot_ForAComparison(t *testing.T) {
	url := dev.Database(t)
	dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 100)")
	table := describeTable(t, url, "t", rowv1.GateMode_GATE_MODE_KEYED, "id")
	table.Target = table.Source
	opened, ended := make(chan string, 1), make(chan error, 1)
	open := func(s sdk.Snapshotter, ctx context.Context) {
		go func() {
			ended <- s.OpenSnapshot(ctx, &connectorv1.OpenSnapshotRequest{Tables: []*rowv1.Table{table}, GiveWay: true},
				func(r *connectorv1.OpenSnapshotResponse) error { opened <- r.Snapshot; return nil })
		}()
	}
	sink := openSink(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open(sink, ctx)
	name := <-opened
	dev.MustExec(t, url, "INSERT INTO t VALUES (101)")
	sum, err := sink.Sum(t.Context(), &connectorv1.SumRequest{Tables: []*rowv1.Table{table}, Snapshot: name})
	if err != nil || sum.Sums[0].Rows != 100 {
		t.Errorf("%v %v", sum, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	open(openSource(t, url), t.Context())
	<-opened
	truncated := make(chan error, 1)
	go func() { truncated <- dev.Exec(context.WithoutCancel(t.Context()), url, "TRUNCATE t") }()
	if e := diag.Find(<-ended); e == nil || e.Code.ID != diag.LockWait.ID {
		t.Errorf("ended with %v", e)
	}
	if err := <-truncated; err != nil {
		t.Error(err)
	}
}
