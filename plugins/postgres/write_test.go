package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func chunkOf(id uint64) *rowv1.Chunk { return &rowv1.Chunk{Id: id, Keys: &rowv1.KeyRange{}} }

func startWrite(t *testing.T) (string, *Sink, *rowv1.Table) {
	t.Helper()
	url := dev.Database(t)
	dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY, a text)")
	s := openSink(t, url)
	recovered(t, s, 0, nil)
	return url, s, testTable(3, "t", 1, "id int4", "a text")
}

func write(t *testing.T, s *Sink, epoch uint64, tb *rowv1.Table, chunks []*rowv1.Chunk, fs ...*sdk.Frame) (*connectorv1.WriteChunksResponse, error) {
	t.Helper()
	return s.WriteChunks(t.Context(), frames(append([]*sdk.Frame{writeOpenFrame(epoch, []*rowv1.Table{tb}, chunks...)}, fs...)...))
}

const rowsFrom = "SELECT i, repeat('x', 100) FROM generate_series(1, 500) i"

func TestWriteChunks_IsIdempotentAndStored(t *testing.T) {
	url, s, tb := startWrite(t)
	payload := copyBytes(t, url, rowsFrom)
	more := copyBytes(t, url, "SELECT 1000, NULL::text")
	chunks := []*rowv1.Chunk{chunkOf(sdk.ChunkID(3, 2)), chunkOf(sdk.ChunkID(3, 1))}
	both := func() []*sdk.Frame {
		return append(chunkFrames(tb, chunks[0].Id, 500, payload, tb.Lane), chunkFrames(tb, chunks[1].Id, 1, more, tb.Lane)...)
	}
	first, err := write(t, s, 1, tb, chunks, both()...)
	if err != nil || first.AlreadyWritten || len(first.Results) != 2 {
		t.Fatalf("%v %v", first, err)
	}
	again, err := write(t, s, 2, tb, chunks, both()...)
	if err != nil || !again.AlreadyWritten {
		t.Fatalf("%v %v", again, err)
	}
	for i, r := range again.Results {
		if r.Chunk != chunks[i].Id || r.Digest != first.Results[i].Digest || r.Coverage.GetXmax() != 9 {
			t.Errorf("stored %v, written %v", r, first.Results[i])
		}
	}
	wantRows(t, url, "SELECT count(*), count(a), sum(length(a)) FROM t", "501\t500\t50000")
	third := chunkOf(sdk.ChunkID(3, 3))
	mixed := append(both(), chunkFrames(tb, third.Id, 1, copyBytes(t, url, "SELECT 2000, 'm'::text"), tb.Lane)...)
	if r, err := write(t, s, 3, tb, append(chunks, third), mixed...); err != nil || r.AlreadyWritten || len(r.Results) != 3 {
		t.Fatalf("%v %v", r, err)
	}
	r := recovered(t, s, 0, nil)
	if len(r.Written) != 3 || r.MaxEpoch != 3 || r.Written[0].Rows != 1 {
		t.Errorf("recovered %v", r)
	}
}

func TestWriteChunks_TextLane(t *testing.T) {
	url, s, tb := startWrite(t)
	tb.Lane = sdk.LanePGCopyText
	text := []byte("1\tone\n2\t\\N\n")
	if _, err := write(t, s, 1, tb, []*rowv1.Chunk{chunkOf(7)}, chunkFrames(tb, 7, 2, text, tb.Lane)...); err != nil {
		t.Fatal(err)
	}
	wantRows(t, url, allRows, "(1,one) (2,)")
}

func TestWriteChunks_EveryLaneWritesWhatTheSourceReads(t *testing.T) {
	from := dev.Database(t)
	ddl := "CREATE TABLE t (id int PRIMARY KEY, a text, n numeric, d timestamptz, x int[], j jsonb)"
	dev.MustExec(t, from, ddl, `INSERT INTO t SELECT i, repeat(chr(233), i % 700), i / 7.0, 'infinity', ARRAY[i, NULL], '{"a": 1.50}' FROM generate_series(1, 4000) i`,
		"INSERT INTO t (id, a) VALUES (0, repeat('long', 800000))")
	source := openSource(t, from)
	for _, lane := range []string{sdk.LanePGCopyBinary, sdk.LanePGCopyText, sdk.LaneArrow} {
		t.Run(lane, func(t *testing.T) {
			tb := describeTable(t, from, "t", rowv1.GateMode_GATE_MODE_KEYED, "id")
			tb.Lane = lane
			url := dev.Database(t)
			dev.MustExec(t, url, ddl)
			chunk := &rowv1.Chunk{Id: sdk.ChunkID(tb.Index, 0), Table: tb.Index}
			var fs []*sdk.Frame
			err := source.ReadChunks(t.Context(), &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{tb}, Chunks: []*rowv1.Chunk{chunk}},
				func(f *sdk.Frame) error { fs = append(fs, f); return nil })
			if err != nil {
				t.Fatal(err)
			}
			s := openSink(t, url)
			recovered(t, s, 1, nil)
			if _, err := write(t, s, 1, tb, []*rowv1.Chunk{chunk}, fs...); err != nil {
				t.Fatal(err)
			}
			sum := "SELECT count(*), sum(hashtextextended(t::text, 0)) FROM t"
			wantRows(t, url, sum, strings.TrimSpace(dev.MustQuery(t, from, sum)))
		})
	}
}

func TestWriteChunks_LeavesNothingBehindWhenRefused(t *testing.T) {
	url, s, tb := startWrite(t)
	payload := copyBytes(t, url, rowsFrom)
	one := []*rowv1.Chunk{chunkOf(7)}
	_, err := write(t, s, 1, tb, one, chunkFrames(tb, 7, 499, payload, tb.Lane)...)
	wantCode(t, err, diag.CountDiffers)
	fs := chunkFrames(tb, 7, 500, payload, tb.Lane)
	fs[len(fs)-1].Header.GetChunkEnd().Result.Digest++
	_, err = write(t, s, 1, tb, one, fs...)
	wantCode(t, err, diag.CountDiffers)
	_, err = write(t, s, 1, tb, one, chunkFrames(tb, 7, 500, payload, tb.Lane)[:2]...)
	wantCode(t, err, diag.Internal)
	bad := append([]byte{0, 9}, payload[2:]...)
	_, err = write(t, s, 1, tb, one, chunkFrames(tb, 7, 500, bad, tb.Lane)...)
	wantCode(t, err, diag.RowRefused)
	wantRows(t, url, "SELECT count(*) FROM t", "0")
	dev.MustExec(t, url, "INSERT INTO t VALUES (77, 'mine')")
	_, err = write(t, s, 1, tb, one, chunkFrames(tb, 7, 500, payload, tb.Lane)...)
	wantCode(t, err, diag.NotEmpty)
	wantRows(t, url, "SELECT count(*) FROM t", "1")
}

func TestWriteChunks_NamesTheFirstOfManyThatWasRefused(t *testing.T) {
	url, s, tb := startWrite(t)
	dev.MustExec(t, url, "CREATE TABLE good (id int, a text)", "CREATE TABLE later (id int, a text)", "INSERT INTO t VALUES (1, 'mine')")
	payload := copyBytes(t, url, "SELECT i, repeat('x', 100) FROM generate_series(1, 5) i")
	tables := []*rowv1.Table{testTable(1, "good", 0, "id int4", "a text"), tb, testTable(4, "later", 0, "id int4", "a text")}
	send := func(epoch uint64) error {
		var chunks []*rowv1.Chunk
		var fs []*sdk.Frame
		for _, table := range tables {
			c := chunkOf(sdk.ChunkID(table.Index, 0))
			chunks = append(chunks, c)
			fs = append(fs, chunkFrames(table, c.Id, 5, payload, table.Lane)...)
		}
		_, err := s.WriteChunks(t.Context(), frames(append([]*sdk.Frame{writeOpenFrame(epoch, tables, chunks...)}, fs...)...))
		return err
	}
	err := send(1)
	wantCode(t, err, diag.NotEmpty)
	if d := diag.Find(err); d == nil || d.Where != tableWhere(tb) {
		t.Errorf("%v does not name the table that has the row", err)
	}
	wantRows(t, url, "SELECT (SELECT count(*) FROM good), (SELECT count(*) FROM t), (SELECT count(*) FROM later)", "0\t1\t0")
	dev.MustExec(t, url, "DELETE FROM t")
	if err := send(2); err != nil {
		t.Fatal(err)
	}
	wantRows(t, url, "SELECT (SELECT count(*) FROM good), (SELECT count(*) FROM t), (SELECT count(*) FROM later)", "5\t5\t5")
}

func TestWriteChunks_FencesOlderEpochs(t *testing.T) {
	url, s, tb := startWrite(t)
	payload := copyBytes(t, url, rowsFrom)
	one := []*rowv1.Chunk{chunkOf(7)}
	thaw := freezeWriter(t, s, tb, one, chunkFrames(tb, 7, 500, payload, tb.Lane))
	began := time.Now()
	if _, err := write(t, s, 2, tb, one, chunkFrames(tb, 7, 500, payload, tb.Lane)...); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("waited %s for the frozen writer", d)
	}
	if err := thaw(); err == nil {
		t.Error("the frozen writer succeeded")
	}
	wantRows(t, url, "SELECT count(*), (SELECT epoch FROM drover.chunk) FROM t", "500\t2")
}

// freezeWriter starts a writer of epoch 1 that freezes in the middle of its chunk; what is returned lets it go on.
func freezeWriter(t *testing.T, s *Sink, tb *rowv1.Table, chunks []*rowv1.Chunk, fs []*sdk.Frame) func() error {
	t.Helper()
	frozen, thawed, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	fs = append([]*sdk.Frame{writeOpenFrame(1, []*rowv1.Table{tb}, chunks...)}, fs...)
	next := frames(fs...)
	seen := 0
	go func() {
		_, err := s.WriteChunks(context.WithoutCancel(t.Context()), func() (*sdk.Frame, error) {
			if seen++; seen == 4 {
				close(frozen)
				<-thawed
			}
			return next()
		})
		done <- err
	}()
	<-frozen
	return func() error { close(thawed); return <-done }
}

// What Recover tells as written is complete: no writer of an older epoch can add to it later.
func TestRecover_RefusesOlderWritersForGood(t *testing.T) {
	url, s, tb := startWrite(t)
	payload := copyBytes(t, url, rowsFrom)
	thaw := freezeWriter(t, s, tb, []*rowv1.Chunk{chunkOf(7)}, chunkFrames(tb, 7, 500, payload, tb.Lane))
	if r := recovered(t, s, 2, nil); len(r.Written) != 0 {
		t.Fatalf("written: %v", r.Written)
	}
	wantCode(t, thaw(), diag.ConnLost)
	_, err := write(t, s, 1, tb, []*rowv1.Chunk{chunkOf(8)}, chunkFrames(tb, 8, 500, payload, tb.Lane)...)
	wantCode(t, err, diag.FencedOut)
	wantRows(t, url, "SELECT count(*), (SELECT count(*) FROM drover.chunk) FROM t", "0\t0")
	if _, err := write(t, s, 2, tb, []*rowv1.Chunk{chunkOf(7)}, chunkFrames(tb, 7, 500, payload, tb.Lane)...); err != nil {
		t.Fatal(err)
	}
}

func TestReset_KeepsThePlanForWhoComesNext(t *testing.T) {
	url, s, tb := startWrite(t)
	payload := copyBytes(t, url, rowsFrom)
	var plan []*rowv1.Chunk
	for n := range uint32(3) {
		plan = append(plan, &rowv1.Chunk{Id: sdk.ChunkID(3, n), Table: 3, Keys: &rowv1.KeyRange{From: []byte{byte(n)}, To: []byte{byte(n + 1)}},
			ReadRange: []byte("r"), EstimatedRows: 5, EstimatedBytes: 6})
	}
	req := &connectorv1.ResetRequest{Pipeline: testPipeline, Epoch: 1, Plan: plan}
	if _, err := s.Reset(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if _, err := write(t, s, 2, tb, plan[1:2], chunkFrames(tb, plan[1].Id, 500, payload, tb.Lane)...); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reset(t.Context(), req); err != nil { // again: what is written stays so
		t.Fatal(err)
	}
	r, err := s.Recover(t.Context(), &connectorv1.RecoverRequest{Pipeline: testPipeline, Epoch: 3, Chunks: true})
	if err != nil || len(r.Written) != 1 || r.Written[0].Chunk != plan[1].Id || len(r.Chunks) != 3 {
		t.Fatalf("%v %v", r, err)
	}
	for i, c := range r.Chunks {
		if !proto.Equal(c, plan[i]) {
			t.Errorf("chunk %v, planned %v", c, plan[i])
		}
	}
}

func TestWriteChunks_OlderEpochIsRefused(t *testing.T) {
	url, s, tb := startWrite(t)
	recovered(t, s, 1, nil)
	dev.MustExec(t, url, "INSERT INTO drover.chunk (pipeline, chunk, epoch) VALUES ('p1', 7, 5)")
	_, err := write(t, s, 4, tb, []*rowv1.Chunk{chunkOf(7)}, chunkFrames(tb, 7, 0, nil, tb.Lane)...)
	wantCode(t, err, diag.FencedOut)
}

func TestReset_EmptiesTablesAndRelease_ForgetsThePipeline(t *testing.T) {
	url, s, tb := startWrite(t)
	payload := copyBytes(t, url, rowsFrom)
	if _, err := write(t, s, 1, tb, []*rowv1.Chunk{chunkOf(sdk.ChunkID(3, 0))}, chunkFrames(tb, sdk.ChunkID(3, 0), 500, payload, tb.Lane)...); err != nil {
		t.Fatal(err)
	}
	recovered(t, s, 4, nil)
	req := &connectorv1.ResetRequest{Pipeline: testPipeline, Epoch: 4, Tables: []*rowv1.Table{tb}, Memo: []byte("memo")}
	if _, err := s.Reset(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	r := recovered(t, s, 4, nil)
	if len(r.Written) != 0 || string(r.Memo) != "memo" {
		t.Errorf("recovered %v", r)
	}
	wantRows(t, url, "SELECT count(*) FROM t", "0")
	req.Epoch = 3
	_, err := s.Reset(t.Context(), req)
	wantCode(t, err, diag.FencedOut)
	rel, err := s.Release(t.Context(), &connectorv1.ReleaseRequest{Pipeline: testPipeline})
	if err != nil || len(rel.Removed) != 2 {
		t.Fatalf("%v %v", rel, err)
	}
	wantRows(t, url, "SELECT to_regnamespace('drover') IS NULL", "t")
	if r := recovered(t, s, 1, nil); r.Found || r.MaxEpoch != 1 {
		t.Errorf("after release: %v", r)
	}
}

func TestApply_ServerCrashLeavesDataAndPositionTogether(t *testing.T) {
	server := dev.Postgres(t)
	url := server.URL("postgres")
	dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY, a text)")
	s := openSink(t, url)
	recovered(t, s, 1, position(1, 1))
	tb := testTable(0, "t", 1, "id int4", "a text")
	st := applyStream(t, s, 1, "pg-binary", tb)
	st.round(10, tb, ch('I', "1", "1|a"))
	st.begin(20)
	st.batch(tb, nil, ch('I', "2", "2|b"))
	st.end(20, true)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	st.begin(20)
	st.end(20, false)
	wantCode(t, st.fails(), diag.ConnLost)
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := recovered(t, s, 2, nil)
	wantRows(t, url, allRows, "(1,a)")
	if string(r.Position) != string(position(10, 11)) {
		t.Errorf("position %x", r.Position)
	}
}

func TestEpochOf_ReadsOnlyItsOwnNames(t *testing.T) {
	for name, want := range map[string]bool{
		appName("p1", "write-5"): true, appName("p1", "apply-5"): true, appName("p2", "write-5"): false,
		appName("p1", "recover"): false, appName("p1/x", "write-5"): false,
	} {
		if n, ok := epochOf("p1", name); ok != want || ok && n != 5 {
			t.Errorf("%s: %d %v", name, n, ok)
		}
	}
}

func TestWriteChunks_IdleSessionsThatDiedAreReplaced(t *testing.T) {
	url, s, tb := startWrite(t)
	payload := copyBytes(t, url, rowsFrom)
	if _, err := write(t, s, 1, tb, []*rowv1.Chunk{chunkOf(7)}, chunkFrames(tb, 7, 500, payload, tb.Lane)...); err != nil {
		t.Fatal(err)
	}
	dev.MustExec(t, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'drover/%'")
	if _, err := write(t, s, 1, tb, []*rowv1.Chunk{chunkOf(8)}, chunkFrames(tb, 8, 1, copyBytes(t, url, "SELECT 900, 'x'::text"), tb.Lane)...); err != nil {
		t.Fatal(err)
	}
}
