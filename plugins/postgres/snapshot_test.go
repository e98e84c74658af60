package postgres

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func openSource(t testing.TB, url string) *Source {
	t.Helper()
	s := &Source{}
	if _, err := s.Open(t.Context(), &connectorv1.OpenRequest{Role: connectorv1.Role_ROLE_SOURCE, Url: url, Pipeline: "test"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// describeTable builds what Discover would say of a table; key names its key columns.
func describeTable(t testing.TB, url, name string, gate rowv1.GateMode, key ...string) *rowv1.Table {
	t.Helper()
	table := &rowv1.Table{Index: 3, Gate: gate, Lane: sdk.LanePGCopyBinary,
		Source: &rowv1.TableRef{Schema: "public", Name: name}, Target: &rowv1.TableRef{Schema: "public", Name: name}}
	text := dev.MustQuery(t, url, "SELECT attname, atttypid FROM pg_attribute WHERE attrelid = "+literal(ident(name))+"::regclass AND attnum > 0 ORDER BY attnum")
	for i, line := range strings.Split(text, "\n") {
		col, oid, _ := strings.Cut(line, "\t")
		id, err := strconv.ParseUint(oid, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		table.Columns = append(table.Columns, &rowv1.Column{Name: col, NativeId: uint32(id)})
		for _, k := range key {
			if k == col {
				table.Key = append(table.Key, uint32(i))
			}
		}
	}
	return table
}

func splitAll(t testing.TB, s *Source, table *rowv1.Table, target int64) []*rowv1.Chunk {
	t.Helper()
	var chunks []*rowv1.Chunk
	err := s.Split(t.Context(), &connectorv1.SplitRequest{Table: table, TargetBytes: target}, func(r *connectorv1.SplitResponse) error {
		chunks = append(chunks, r.Chunks...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return chunks
}

// readAll reads chunks and checks every promise of the frames; it returns the payload and the result of each.
func readAll(t testing.TB, s *Source, req *connectorv1.ReadChunksRequest) ([][]byte, []*rowv1.ChunkResult) {
	t.Helper()
	var payloads [][]byte
	var results []*rowv1.ChunkResult
	open := uint64(0)
	err := s.ReadChunks(t.Context(), req, func(f *sdk.Frame) error {
		defer f.Free()
		switch k := f.Header.Kind.(type) {
		case *rowv1.FrameHeader_ChunkBegin:
			open = k.ChunkBegin.Chunk
			payloads = append(payloads, nil)
		case *rowv1.FrameHeader_ChunkData:
			if k.ChunkData.Chunk != open {
				t.Errorf("data of chunk %d within %d", k.ChunkData.Chunk, open)
			}
			payloads[len(payloads)-1] = append(payloads[len(payloads)-1], f.Bytes()...)
		case *rowv1.FrameHeader_ChunkEnd:
			r := k.ChunkEnd.Result
			p := payloads[len(payloads)-1]
			if r.Chunk != open || r.Bytes != int64(len(p)) || r.Digest != xxh3.Hash(p) || r.Coverage == nil {
				t.Errorf("chunk %d ends with %v over %d bytes", open, r, len(p))
			}
			results = append(results, r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(req.Chunks) {
		t.Fatalf("%d chunks answered of %d", len(results), len(req.Chunks))
	}
	return payloads, results
}

// addSums adds row sums as the coordinator does.
func addSums(results []*rowv1.ChunkResult) (rows int64, sum []byte) {
	var s rowSum
	for _, r := range results {
		rows += r.Rows
		s.add(xxh3.Uint128{Hi: be64(r.RowSum), Lo: be64(r.RowSum[8:])})
	}
	return rows, s.bytes()
}

func be64(b []byte) (v uint64) {
	for _, c := range b[:8] {
		v = v<<8 | uint64(c)
	}
	return v
}

func TestChunks_HoldEveryRowOnce(t *testing.T) {
	url := dev.Database(t)
	const rows = 20_000
	for _, k := range []struct {
		name, ddl, fill string
		key             []string
		gate            rowv1.GateMode
	}{
		{"ints", "id bigint PRIMARY KEY, v text", "SELECT CASE WHEN g % 2 = 0 THEN g ELSE 1000000000000 - g END, repeat('x', 50) FROM generate_series(1, $n) g", []string{"id"}, rowv1.GateMode_GATE_MODE_KEYED},
		{"pair", "a int, b text COLLATE \"C\", c int, PRIMARY KEY (a, b)", "SELECT g % 7, 'k' || g || '''\\', g FROM generate_series(1, $n) g", []string{"a", "b"}, rowv1.GateMode_GATE_MODE_KEYED},
		{"ids", "id uuid PRIMARY KEY, v int", "SELECT gen_random_uuid(), g FROM generate_series(1, $n) g", []string{"id"}, rowv1.GateMode_GATE_MODE_KEYED},
		{"names", "id text COLLATE \"C\" PRIMARY KEY, v int", "SELECT md5(g::text) || chr(200 + g % 3000), g FROM generate_series(1, $n) g", []string{"id"}, rowv1.GateMode_GATE_MODE_KEYED},
		{"nums", "id numeric PRIMARY KEY", "SELECT g / 7.0 - 1000 FROM generate_series(1, $n) g", []string{"id"}, rowv1.GateMode_GATE_MODE_KEYED},
		{"times", "id timestamptz PRIMARY KEY", "SELECT CASE g WHEN 1 THEN '-infinity' WHEN 2 THEN 'infinity' ELSE timestamptz '0044-03-15 12:00+00 BC' + g * interval '40 days 1.234567 s' END FROM generate_series(1, $n) g", []string{"id"}, rowv1.GateMode_GATE_MODE_KEYED},
		{"blobs", "id bytea PRIMARY KEY", "SELECT decode(md5(g::text), 'hex') || '\\x00'::bytea FROM generate_series(1, $n) g", []string{"id"}, rowv1.GateMode_GATE_MODE_KEYED},
		{"unit", "v text", "SELECT 'row ' || g FROM generate_series(1, $n) g", nil, rowv1.GateMode_GATE_MODE_UNIT_FULL_ROW},
	} {
		t.Run(k.name, func(t *testing.T) {
			dev.MustExec(t, url, "CREATE TABLE "+k.name+" ("+k.ddl+")", "INSERT INTO "+k.name+" "+strings.ReplaceAll(k.fill, "$n", strconv.Itoa(rows)))
			s := openSource(t, url)
			table := describeTable(t, url, k.name, k.gate, k.key...)
			chunks := splitAll(t, s, table, 100<<10)
			if len(chunks) < 4 {
				t.Fatalf("%d chunks", len(chunks))
			}
			checkRanges(t, chunks, k.gate)
			_, results := readAll(t, s, &connectorv1.ReadChunksRequest{Chunks: chunks, Tables: []*rowv1.Table{table}})
			checkSizes(t, results, rows)
			got, sum := addSums(results)
			whole, err := s.Sum(t.Context(), &connectorv1.SumRequest{Table: table})
			if err != nil {
				t.Fatal(err)
			}
			if got != rows || whole.Sums[0].Rows != rows || !bytes.Equal(sum, whole.Sums[0].RowSum) {
				t.Errorf("%d rows with sum %x in chunks, %d with %x in the table", got, sum, whole.Sums[0].Rows, whole.Sums[0].RowSum)
			}
		})
	}
}

// checkRanges wants the ranges to touch, to be open at both ends, and ids to be in order.
func checkRanges(t *testing.T, chunks []*rowv1.Chunk, gate rowv1.GateMode) {
	t.Helper()
	for i, c := range chunks {
		if c.Id != sdk.ChunkID(3, uint32(i)) || sdk.ChunkTable(c.Id) != c.Table {
			t.Errorf("chunk %d has id %x", i, c.Id)
		}
		if gate != rowv1.GateMode_GATE_MODE_KEYED {
			continue
		}
		var before []byte
		if i > 0 {
			before = chunks[i-1].Keys.To
		}
		if !bytes.Equal(c.Keys.From, before) || i > 0 && len(before) == 0 || i == len(chunks)-1 && len(c.Keys.To) > 0 {
			t.Errorf("chunk %d is [%x, %x) after %x", i, c.Keys.From, c.Keys.To, before)
		}
	}
}

func checkSizes(t *testing.T, results []*rowv1.ChunkResult, rows int64) {
	t.Helper()
	fair := rows / int64(len(results))
	for i, r := range results {
		if r.Rows > 4*fair {
			t.Errorf("chunk %d of %d has %d rows, fair are %d", i, len(results), r.Rows, fair)
		}
	}
}

func TestReadChunks_PacksSmallTablesIntoOneQuery(t *testing.T) {
	url := dev.Database(t)
	s := openSource(t, url)
	req := &connectorv1.ReadChunksRequest{}
	for i := range 20 {
		name := fmt.Sprintf("small %d", i)
		dev.MustExec(t, url, "CREATE TABLE "+ident(name)+" (id int PRIMARY KEY)", fmt.Sprintf("INSERT INTO %s SELECT generate_series(1, %d)", ident(name), i))
		table := describeTable(t, url, name, rowv1.GateMode_GATE_MODE_KEYED, "id")
		table.Index = uint32(i)
		chunks := splitAll(t, s, table, 0)
		if len(chunks) != 1 || len(chunks[0].ReadRange) != 0 || len(chunks[0].Keys.From)+len(chunks[0].Keys.To) != 0 {
			t.Fatalf("a small table splits into %v", chunks)
		}
		req.Tables, req.Chunks = append(req.Tables, table), append(req.Chunks, chunks...)
	}
	_, results := readAll(t, s, req)
	for i, r := range results {
		if r.Rows != int64(i) {
			t.Errorf("table %d gave %d rows", i, r.Rows)
		}
	}
	sums, err := s.Sum(t.Context(), &connectorv1.SumRequest{Tables: req.Tables})
	if err != nil {
		t.Fatal(err)
	}
	for i, one := range sums.Sums {
		if one.Table != uint32(i) || one.Rows != int64(i) || !bytes.Equal(one.RowSum, results[i].RowSum) {
			t.Errorf("sum %d is %v", i, one)
		}
	}
}

func TestReadChunks_CarriesHugeRowsAndText(t *testing.T) {
	url := dev.Database(t)
	s := openSource(t, url)
	dev.MustExec(t, url, "CREATE TABLE wide (id int PRIMARY KEY, v text)", `INSERT INTO wide SELECT g, repeat(md5(g::text) || E'\\\n', g * 20000) FROM generate_series(0, 5) g`)
	for _, lane := range []string{sdk.LanePGCopyBinary, sdk.LanePGCopyText} {
		table := describeTable(t, url, "wide", rowv1.GateMode_GATE_MODE_KEYED, "id")
		table.Lane = lane
		payloads, results := readAll(t, s, &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{table}, Chunks: []*rowv1.Chunk{{Id: sdk.ChunkID(3, 0), Table: 3}}})
		sum, err := s.Sum(t.Context(), &connectorv1.SumRequest{Table: table})
		if err != nil {
			t.Fatal(err)
		}
		if results[0].Rows != 6 || sum.Sums[0].Rows != 6 || !bytes.Equal(sum.Sums[0].RowSum, results[0].RowSum) || len(payloads[0]) < 10_000_000 {
			t.Errorf("%s: %v, sum %v", lane, results[0], sum)
		}
	}
}

func TestOpenSnapshot_IsOneStateForAllReaders(t *testing.T) {
	url := dev.Database(t)
	s := openSource(t, url)
	dev.MustExec(t, url, "CREATE TABLE t (v text)", "INSERT INTO t SELECT g FROM generate_series(1, 20000) g")
	table := describeTable(t, url, "t", rowv1.GateMode_GATE_MODE_UNIT_FULL_ROW)
	chunks := splitAll(t, s, table, 200<<10)
	ctx, cancel := context.WithCancel(t.Context())
	opened, ended := make(chan *connectorv1.OpenSnapshotResponse, 1), make(chan error, 1)
	go func() {
		ended <- s.OpenSnapshot(ctx, &connectorv1.OpenSnapshotRequest{Tables: []*rowv1.Table{table}}, func(r *connectorv1.OpenSnapshotResponse) error {
			opened <- r
			return nil
		})
	}()
	snap := <-opened
	dev.MustExec(t, url, "INSERT INTO t SELECT 'late' FROM generate_series(1, 100)", "DELETE FROM t WHERE v = '1'")
	var results []*rowv1.ChunkResult
	for _, c := range chunks {
		_, one := readAll(t, s, &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{table}, Chunks: []*rowv1.Chunk{c}, Snapshot: snap.Snapshot})
		if one[0].Coverage.Xmin != snap.Coverage.Xmin || one[0].Coverage.Xmax != snap.Coverage.Xmax {
			t.Errorf("coverage %v, snapshot has %v", one[0].Coverage, snap.Coverage)
		}
		results = append(results, one...)
	}
	rows, sum := addSums(results)
	whole, err := s.Sum(t.Context(), &connectorv1.SumRequest{Table: table, Snapshot: snap.Snapshot})
	if err != nil || rows != 20000 || whole.Sums[0].Rows != rows || !bytes.Equal(whole.Sums[0].RowSum, sum) {
		t.Errorf("%d rows; whole %v, %v", rows, whole, err)
	}
	// The lock is what keeps the rows: a rewrite has to wait until the snapshot ends.
	if err := dev.Exec(t.Context(), url, "SET lock_timeout = '100ms'; TRUNCATE t"); err == nil {
		t.Error("TRUNCATE went through under the snapshot")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := dev.Exec(t.Context(), url, "TRUNCATE t"); err != nil {
		t.Error(err)
	}
}

func TestReadChunks_WaitsForWhatTheFloorHolds(t *testing.T) {
	server := dev.Postgres(t, "synchronous_standby_names=nobody", "synchronous_commit=local")
	url := server.URL("postgres")
	dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY)")
	s := openSource(t, url)
	table := describeTable(t, url, "t", rowv1.GateMode_GATE_MODE_KEYED, "id")
	writer, err := connect(t.Context(), Config{URL: url, Pipeline: "writer"}, "write", connectorv1.Role_ROLE_UNSPECIFIED)
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(writer)
	cells, err := script(t.Context(), writer, "SET synchronous_commit = on; BEGIN; INSERT INTO t VALUES (1); SELECT pg_current_xact_id()::text")
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.ParseUint(cells[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	committed := make(chan error, 1)
	go func() {
		_, err := script(context.WithoutCancel(t.Context()), writer, "COMMIT")
		committed <- err
	}()
	for dev.MustQuery(t, url, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") != "1" {
		time.Sleep(5 * time.Millisecond)
	}
	floor := &rowv1.Floor{Pending: []uint64{id}}
	done := make(chan []*rowv1.ChunkResult, 1)
	go func() {
		_, results := readAll(t, s, &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{table}, Chunks: []*rowv1.Chunk{{Id: 1, Table: 3}}, Floor: floor})
		done <- results
	}()
	select {
	case r := <-done:
		t.Fatalf("read before the commit was visible: %v", r)
	case <-time.After(300 * time.Millisecond):
	}
	pos, err := s.Position(t.Context(), &connectorv1.PositionRequest{Pipeline: "test"})
	if err != nil || sdk.Sees(pos.Horizon, id) || len(pos.Position) != positionSize {
		t.Errorf("position %v, %v: the horizon must not include the held commit", pos, err)
	}
	dev.MustExec(t, url, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") // the commit stands, and ends
	r := <-done
	if r[0].Rows != 1 || !sdk.Sees(r[0].Coverage, id) {
		t.Errorf("read %v", r[0])
	}
	if err := <-committed; err != nil {
		t.Error(err)
	}
}

func TestReadChunks_GivesWayToDDL(t *testing.T) {
	url := dev.Database(t)
	s := openSource(t, url)
	dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 30000) g")
	table := describeTable(t, url, "t", rowv1.GateMode_GATE_MODE_KEYED, "id")
	truncated := make(chan error, 1)
	started := false
	err := s.ReadChunks(t.Context(), &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{table}, Chunks: []*rowv1.Chunk{{Id: 1, Table: 3}}}, func(f *sdk.Frame) error {
		f.Free()
		if !started {
			started = true
			go func() { truncated <- dev.Exec(context.WithoutCancel(t.Context()), url, "TRUNCATE t") }()
		}
		time.Sleep(300 * time.Millisecond)
		return nil
	})
	if e := diag.Find(err); e == nil || e.Code.ID != diag.LockWait.ID {
		t.Errorf("got %v", err)
	}
	select {
	case err := <-truncated:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("TRUNCATE still waits")
	}
	_, results := readAll(t, s, &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{table}, Chunks: []*rowv1.Chunk{{Id: 1, Table: 3}}})
	if results[0].Rows != 0 {
		t.Errorf("%d rows after TRUNCATE", results[0].Rows)
	}
}

func TestReadChunks_ReportsTheServersErrors(t *testing.T) {
	url := dev.Database(t)
	s := openSource(t, url)
	dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY)")
	table := describeTable(t, url, "t", rowv1.GateMode_GATE_MODE_KEYED, "id")
	dev.MustExec(t, url, "ALTER TABLE t RENAME id TO other")
	err := s.ReadChunks(t.Context(), &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{table}, Chunks: []*rowv1.Chunk{{Id: 1, Table: 3}}},
		func(f *sdk.Frame) error { f.Free(); return nil })
	if e := diag.Find(err); e == nil || e.Code.ID != diag.SchemaChanged.ID {
		t.Errorf("got %v", err)
	}
	dev.MustExec(t, url, "ALTER TABLE t RENAME other TO id", "INSERT INTO t VALUES (1)")
	_, results := readAll(t, s, &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{table}, Chunks: []*rowv1.Chunk{{Id: 1, Table: 3}}})
	if results[0].Rows != 1 {
		t.Errorf("%d rows after the error", results[0].Rows)
	}
}

func TestSplit_RefusesKeysWhoseBytesDisagree(t *testing.T) {
	url := dev.Database(t)
	s := openSource(t, url)
	dev.MustExec(t, url, `CREATE TABLE t (id text COLLATE "en-x-icu" PRIMARY KEY, v text)`,
		"INSERT INTO t SELECT chr(CASE g % 2 WHEN 0 THEN 65 ELSE 97 END + g % 26) || g, repeat('x', 100) FROM generate_series(1, 20000) g")
	table := describeTable(t, url, "t", rowv1.GateMode_GATE_MODE_KEYED, "id")
	err := s.Split(t.Context(), &connectorv1.SplitRequest{Table: table, TargetBytes: 64 << 10}, func(*connectorv1.SplitResponse) error { return nil })
	if e := diag.Find(err); e == nil || e.Code.ID != diag.Internal.ID {
		t.Errorf("got %v", err)
	}
}
