package postgres

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

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
