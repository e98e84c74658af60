package postgres

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/keys"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const (
	defaultChunkBytes = 16 << 20
	// splitPage is how many chunks one response holds.
	splitPage = 1000
	// maxChunks bounds the plan of one table; chunks of a larger table grow instead.
	maxChunks = 100_000
	// sampleBlocks per chunk find a boundary to about a third of a chunk; of a very large table fewer are read.
	sampleBlocks    = 8
	minSampleBlocks = 1
	allSampleBlocks = 30_000
	// thinSample: with fewer sampled rows per chunk the boundaries would be chance.
	thinSample = 5
)

// extent is what the catalog and the files say about a table.
type extent struct {
	pages int64
	bytes int64
	rows  int64
	block int64
}

// Split plans the chunks of a table from its size and a small sample. Their union is everything, also rows that
// come later: the first and the last range are open. Repeating it may give other boundaries.
func (s *Source) Split(ctx context.Context, req *connectorv1.SplitRequest, emit func(*connectorv1.SplitResponse) error) error {
	t := req.Table
	conn, err := s.snap.readers.take(ctx, s.cfg, "read")
	if err != nil {
		return err
	}
	chunks, err := split(ctx, conn, t, req.TargetBytes)
	s.snap.readers.give(conn, err)
	if err != nil {
		return diag.About(mapError(err, chunkTable(t)), t.GetIndex())
	}
	for at := 0; at < len(chunks); at += splitPage {
		if err := emit(&connectorv1.SplitResponse{Chunks: chunks[at:min(at+splitPage, len(chunks))]}); err != nil {
			return err
		}
	}
	return nil
}

func split(ctx context.Context, conn *pgx.Conn, t *rowv1.Table, target int64) ([]*rowv1.Chunk, error) {
	if target <= 0 {
		target = defaultChunkBytes
	}
	size, err := extentOf(ctx, conn, t)
	if err != nil {
		return nil, err
	}
	n := min((size.bytes+target-1)/target, size.pages, maxChunks)
	if n <= 1 {
		return plan(t, size, []readRange{{}}, [][]byte{nil}), nil
	}
	if t.Gate != rowv1.GateMode_GATE_MODE_KEYED || len(t.Key) == 0 {
		return splitPages(t, size, n), nil
	}
	bounds, err := boundaries(ctx, conn, t, size, n)
	if err != nil {
		return nil, err
	}
	return splitKeys(t, size, bounds)
}

func extentOf(ctx context.Context, conn *pgx.Conn, t *rowv1.Table) (extent, error) {
	e := extent{}
	var tuples float64
	err := conn.QueryRow(ctx, `SELECT pg_relation_size(c.oid), pg_table_size(c.oid), c.reltuples::float8, current_setting('block_size')::bigint
		FROM pg_class c WHERE c.oid = $1::text::regclass`, ident(t.Source.Schema, t.Source.Name)).Scan(&e.pages, &e.bytes, &tuples, &e.block)
	if err != nil {
		return e, err
	}
	e.pages /= e.block
	// Free-space and visibility maps count for nothing: a table of one page has five.
	e.bytes = max(e.pages*e.block, e.bytes-4*e.block)
	if e.rows = int64(tuples); tuples < 0 {
		e.rows = t.EstimatedRows
	}
	return e, nil
}

// splitPages cuts by physical position, for tables that are gated as a whole.
func splitPages(t *rowv1.Table, size extent, n int64) []*rowv1.Chunk {
	var ranges []readRange
	for i := range n {
		r := readRange{Pages: true, FirstPage: i * size.pages / n, EndPage: (i + 1) * size.pages / n}
		if i == n-1 {
			r.EndPage = 0
		}
		ranges = append(ranges, r)
	}
	return plan(t, size, ranges, make([][]byte, n))
}

// splitKeys cuts at the boundaries, which SQL has put in order. If their bytes are not in order the table must
// not be gated by key at all, and a wrong answer now would lose changes later.
func splitKeys(t *rowv1.Table, size extent, bounds [][]string) ([]*rowv1.Chunk, error) {
	ranges, from := []readRange{{}}, [][]byte{nil}
	for _, b := range bounds {
		key, err := keyBytes(t, b)
		if err != nil {
			return nil, diag.Internal.New(chunkTable(t), err, "a key value cannot be read")
		}
		switch cmp := bytes.Compare(key, from[len(from)-1]); {
		case cmp == 0:
			continue
		case cmp < 0:
			return nil, diag.Internal.New(chunkTable(t), nil, "the order of its key is not the order of the key's bytes")
		}
		ranges[len(ranges)-1].To = b
		ranges, from = append(ranges, readRange{From: b}), append(from, key)
	}
	return plan(t, size, ranges, from), nil
}

func keyBytes(t *rowv1.Table, values []string) ([]byte, error) {
	var out []byte
	for i, k := range t.Key {
		var err error
		if out, err = keys.AppendPG(out, t.Columns[k].NativeId, false, []byte(values[i])); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// plan numbers the chunks; from holds where each begins in key bytes.
func plan(t *rowv1.Table, size extent, ranges []readRange, from [][]byte) []*rowv1.Chunk {
	n := int64(len(ranges))
	chunks := make([]*rowv1.Chunk, n)
	for i, r := range ranges {
		c := &rowv1.Chunk{Id: sdk.ChunkID(t.Index, uint32(i)), Table: t.Index, Keys: &rowv1.KeyRange{From: from[i]},
			EstimatedRows: size.rows / n, EstimatedBytes: size.bytes / n}
		if i+1 < len(from) {
			c.Keys.To = from[i+1]
		}
		if n > 1 {
			c.ReadRange = r.encode()
		}
		chunks[i] = c
	}
	return chunks
}

// boundaries returns up to n-1 key values, in order, in text form.
func boundaries(ctx context.Context, conn *pgx.Conn, t *rowv1.Table, size extent, n int64) ([][]string, error) {
	perChunk := min(max(allSampleBlocks/n, minSampleBlocks), sampleBlocks)
	percent := min(100*float64(perChunk*n)/float64(size.pages), 100)
	bounds, sampled, err := sampled(ctx, conn, t, n, percent)
	if err != nil || sampled >= thinSample*n {
		return bounds, err
	}
	if even, err := evenly(ctx, conn, t, n); err != nil || even != nil {
		return even, err
	}
	return bounds, nil
}

// sampled takes every c/n-th key of a sample of c rows: right for any type of key and any skew.
func sampled(ctx context.Context, conn *pgx.Conn, t *rowv1.Table, n int64, percent float64) ([][]string, int64, error) {
	// The sample's columns get names of our own: the table's may be anything, also ours.
	var named, texts []string
	for i, c := range keyColumns(t) {
		named = append(named, fmt.Sprintf("%s AS k%d", c, i))
		texts = append(texts, fmt.Sprintf("k%d::text", i))
	}
	sql := fmt.Sprintf(`SELECT c, ARRAY[%s] FROM (
		SELECT %s, row_number() OVER (ORDER BY %s) - 1 AS r, count(*) OVER () AS c FROM ONLY %s TABLESAMPLE SYSTEM (%s)) s
		WHERE r = 0 OR r * %[6]d / c > (r - 1) * %[6]d / c ORDER BY r`,
		strings.Join(texts, ", "), strings.Join(named, ", "), strings.Join(keyColumns(t), ", "), ident(t.Source.Schema, t.Source.Name),
		strconv.FormatFloat(percent, 'g', -1, 64), n)
	rows, err := conn.Query(ctx, sql, pgx.QueryExecModeExec)
	if err != nil {
		return nil, 0, err
	}
	var bounds [][]string
	var count int64
	var key []string
	_, err = pgx.ForEachRow(rows, []any{&count, &key}, func() error {
		bounds = append(bounds, key)
		key = nil
		return nil
	})
	if err != nil || len(bounds) == 0 {
		return nil, 0, err
	}
	return bounds[1:], count, nil // the first only carries the count: the first range is open
}

// evenly divides the space between the smallest and the largest key, which the index knows; nil if the key is
// not one integer.
func evenly(ctx context.Context, conn *pgx.Conn, t *rowv1.Table, n int64) ([][]string, error) {
	const int8OID, int2OID, int4OID = 20, 21, 23
	if len(t.Key) != 1 {
		return nil, nil
	}
	switch t.Columns[t.Key[0]].NativeId {
	case int8OID, int2OID, int4OID:
	default:
		return nil, nil
	}
	var low, high *int64
	col := keyColumns(t)[0]
	err := conn.QueryRow(ctx, fmt.Sprintf("SELECT min(%[1]s)::bigint, max(%[1]s)::bigint FROM ONLY %[2]s", col, ident(t.Source.Schema, t.Source.Name)),
		pgx.QueryExecModeExec).Scan(&low, &high)
	if err != nil || low == nil {
		return nil, err
	}
	step := (float64(*high) - float64(*low)) / float64(n)
	if step < 1 {
		return nil, nil
	}
	var bounds [][]string
	for i := int64(1); i < n; i++ {
		if at := float64(*low) + step*float64(i); at < math.MaxInt64 {
			bounds = append(bounds, []string{strconv.FormatInt(int64(at), 10)})
		}
	}
	return bounds, nil
}
