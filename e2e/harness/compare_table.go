package harness

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/zeebo/xxh3"
)

// compareTable merges both sides' rows, each printed whole and sorted by its text, without holding them in memory.
func compareTable(ctx context.Context, a, b *pgx.Conn, name string, show int) (TableResult, error) {
	result := TableResult{Name: name}
	columns, err := column(ctx, a, `SELECT attname::text FROM pg_attribute
		WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`, quoted(name))
	if err != nil {
		return result, err
	}
	for i := range columns {
		columns[i] = pgx.Identifier{columns[i]}.Sanitize()
	}
	// A row's text tells NULL from '' and quotes what it must: equal text is equal rows.
	sql := `SELECT r FROM (SELECT ROW(` + strings.Join(columns, ", ") + `)::text AS r FROM ` + quoted(name) + `) x ORDER BY r COLLATE "C"`
	left, right := open(ctx, a, sql), open(ctx, b, sql)
	merge(left, right, &result, show)
	if err := left.close(); err != nil {
		return result, fmt.Errorf("source: %w", err)
	}
	if err := right.close(); err != nil {
		return result, fmt.Errorf("target: %w", err)
	}
	result.SourceRows, result.SourceSum = left.rows, sumText(left.hash.Sum128().Bytes())
	result.TargetRows, result.TargetSum = right.rows, sumText(right.hash.Sum128().Bytes())
	if result.Equal() && (result.SourceSum != result.TargetSum || result.SourceRows != result.TargetRows) {
		return result, fmt.Errorf("rows pair up but their sums differ: a defect of this comparison")
	}
	return result, nil
}

func merge(left, right *rows, result *TableResult, show int) {
	for left.row != nil || right.row != nil {
		order := bytes.Compare(left.row, right.row)
		if left.row == nil {
			order = 1
		} else if right.row == nil {
			order = -1
		}
		switch {
		case order == 0:
			left.next()
			right.next()
		case order < 0:
			result.OnlySource++
			result.example(show, "- ", left.row)
			left.next()
		default:
			result.OnlyTarget++
			result.example(show, "+ ", right.row)
			right.next()
		}
	}
}

const longestExample = 300

func (r *TableResult) example(show int, sign string, row []byte) {
	if len(r.Examples) >= 2*show {
		return
	}
	text := string(row[:min(len(row), longestExample)])
	if len(row) > longestExample {
		text += fmt.Sprintf("… (%d bytes, sum %x)", len(row), xxh3.Hash(row))
	}
	r.Examples = append(r.Examples, sign+text)
}

// rows is a sorted stream of rows; row is nil at its end.
type rows struct {
	reader *pgconn.ResultReader
	row    []byte // valid until next
	rows   int64
	hash   *xxh3.Hasher
}

func open(ctx context.Context, c *pgx.Conn, sql string) *rows {
	r := &rows{reader: c.PgConn().ExecParams(ctx, sql, nil, nil, nil, nil), hash: xxh3.New()}
	r.next()
	return r
}

func (r *rows) next() {
	if r.row = nil; !r.reader.NextRow() {
		return
	}
	r.row = r.reader.Values()[0] // a row's text is never NULL nor empty
	r.rows++
	_, _ = r.hash.Write(r.row)
	_, _ = r.hash.Write([]byte{0})
}

func (r *rows) close() error {
	_, err := r.reader.Close()
	return err
}
