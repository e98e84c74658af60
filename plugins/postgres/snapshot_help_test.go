package postgres

import (
	"strconv"
	"strings"
	"testing"

	"github.com/zeebo/xxh3"

	"github.com/droverdb/drover/deploy/dev"
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
