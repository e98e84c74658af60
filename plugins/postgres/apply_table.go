package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// encoding is how the values of a column arrive.
type encoding uint8

const (
	encodeBinary encoding = iota // Arrow binary: PostgreSQL's binary form
	encodeText                   // Arrow binary: PostgreSQL's text form
	encodeTyped                  // a typed Arrow column, written by its codec
)

const oidText = 25

// applyColumn is a data column as the target has it.
type applyColumn struct {
	name     string
	at       uint32 // the target's own type
	oid      uint32 // of the element that is sent
	arrayOID uint32 // of the array that is sent
	resolved string // the target's type without a modifier, as SQL
	cast     bool   // what is sent must be cast to resolved
	encoding encoding
	codec    valueCodec
	key      bool
	listed   bool // can be looked for in a list; not an array, of which a list would be one more dimension
	always   bool // GENERATED ALWAYS AS IDENTITY: UPDATE cannot set it
	match    matching
}

// applyTable is one schema version of a table with everything that statements need.
type applyTable struct {
	table   *rowv1.Table
	version uint32
	decoder *arrowio.Decoder
	columns []applyColumn
	// from names the table in statements that change or read rows. ONLY keeps them off tables that inherit from
	// it, which are tables of their own; a partitioned table has no rows but those of its partitions.
	from        string
	partitioned bool
	// alwaysSafe: an identity column outside the key can only be changed by delete and insert.
	alwaysSafe bool
	statements map[string]string
}

// findOperators appends every schema with an equality operator to the search path: citext = citext, say, must
// not become text = text because the extension lives elsewhere. What the owner's functions rely on stays first.
func findOperators(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT set_config('search_path', concat_ws(', ', nullif(current_setting('search_path'), ''),
		string_agg(DISTINCT quote_ident(n.nspname), ', ')), false)
		FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oprname = '=' AND n.nspname <> 'pg_catalog'`)
	return err
}

// newApplyTable looks the target's types up; conn must not be in a pipeline.
func newApplyTable(ctx context.Context, conn *pgx.Conn, t *rowv1.Table, s *rowv1.TableSchema, payload []byte) (*applyTable, error) {
	dec, err := arrowio.NewDecoder(payload)
	if err != nil {
		return nil, diag.Internal.New(tableWhere(t), err, "")
	}
	a := &applyTable{table: t, version: s.Version, decoder: dec, statements: map[string]string{}}
	fields := dec.Schema().Fields()
	cols := s.Columns
	if len(cols) == 0 {
		cols = t.Columns
	}
	if len(fields) != roundColumns+len(cols) {
		return nil, diag.Internal.New(tableWhere(t), nil, "a layout of %d fields for %d columns", len(fields), len(cols))
	}
	for i, c := range cols {
		a.columns = append(a.columns, columnOf(c, fields[roundColumns+i], slices.Contains(t.Key, uint32(i))))
	}
	if err := a.lookUp(ctx, conn); err != nil {
		return nil, mapError(err, tableWhere(t))
	}
	return a, nil
}

func columnOf(c *rowv1.Column, f arrow.Field, key bool) applyColumn {
	out := applyColumn{name: c.Name, key: key, oid: c.NativeId}
	switch arrowio.NativeOf(f) {
	case arrowio.NativePGBinary:
		out.encoding = encodeBinary
	case arrowio.NativePGText:
		out.encoding = encodeText
	default:
		out.encoding, out.codec = encodeTyped, codecFor(c)
	}
	return out
}

// targetType is what pg_attribute says about a column.
type targetType struct {
	Name     string
	OID      uint32
	ArrayOID uint32
	Resolved string
	Identity string
	Match    matching
	Parted   bool
	Listed   bool
}

func (a *applyTable) lookUp(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `SELECT a.attname::text, a.atttypid, t.typarray, format_type(a.atttypid, -1), a.attidentity::text,
			`+matchingSQL+`, c.relkind = 'p', t.typcategory <> 'A'
		FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_class c ON c.oid = a.attrelid
		WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`, targetName(a.table))
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[targetType])
	if err != nil {
		return err
	}
	if len(found) == 0 && len(a.columns) > 0 {
		return goneAtTarget(a.table)
	}
	types := map[string]targetType{}
	for _, f := range found {
		types[f.Name], a.partitioned = f, f.Parted
	}
	if a.from = targetName(a.table); !a.partitioned {
		a.from = "ONLY " + a.from
	}
	for i := range a.columns {
		c := &a.columns[i]
		tt, ok := types[c.name]
		if !ok {
			return diag.SchemaChanged.New(tableWhere(a.table), nil, "the target has no column %s", ident(c.name)).
				WithFix("At the target, give the table the columns that it has at the source.")
		}
		if err := c.fit(ctx, conn, tt); err != nil {
			return err
		}
		a.alwaysSafe = a.alwaysSafe || c.always && !c.key
	}
	return nil
}

// fit decides as what the column's values are sent to the target.
func (c *applyColumn) fit(ctx context.Context, conn *pgx.Conn, tt targetType) error {
	source := c.oid
	c.match, c.at, c.listed = tt.Match, tt.OID, tt.Listed
	c.oid, c.arrayOID, c.resolved, c.always = tt.OID, tt.ArrayOID, tt.Resolved, tt.Identity == "a"
	if c.encoding == encodeText {
		c.oid, c.arrayOID, c.cast = oidText, oidTextArray, tt.OID != oidText
		return nil
	}
	if source != tt.OID && source != 0 && source < systemTypes && tt.OID < systemTypes {
		// The target's type differs: send the source's, PostgreSQL casts.
		err := conn.QueryRow(ctx, "SELECT typarray FROM pg_type WHERE oid = $1", source).Scan(&c.arrayOID)
		if err != nil {
			return err
		}
		c.oid, c.cast = source, true
	}
	if c.arrayOID == 0 {
		c.cast = true
		return c.wrapArray(ctx, conn)
	}
	return nil
}

const (
	oidOID        = 26
	oidByteaArray = 1001
	oidTextArray  = 1009
	oidOIDArray   = 1028
	oidInt8Array  = 1016
	// systemTypes and higher are numbers that differ from database to database.
	systemTypes  = 16384
	roundColumns = 5
)

// wrapArray makes a domain over an array type. PostgreSQL has no arrays of arrays that unnest keeps apart,
// but it has arrays of domains over arrays.
func (c *applyColumn) wrapArray(ctx context.Context, conn *pgx.Conn) error {
	name := ident("drover", fmt.Sprintf("array_%d", c.oid))
	find := func() error {
		return conn.QueryRow(ctx, "SELECT oid, typarray FROM pg_type WHERE oid = to_regtype($1)", name).Scan(&c.oid, &c.arrayOID)
	}
	if find() == nil {
		return nil
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(bookkeepingLock)); err != nil {
			return err
		}
		if find() == nil {
			return nil
		}
		var base string
		if err := tx.QueryRow(ctx, "SELECT format_type($1, -1)", c.oid).Scan(&base); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "CREATE DOMAIN "+name+" AS "+base); err != nil {
			return err
		}
		return find()
	})
}

// value returns the bytes of a value that needs no codec; ok is false for NULL.
func (c *applyColumn) append(dst []byte, a arrow.Array, row int) ([]byte, error) {
	if c.codec != nil {
		return appendSized(dst, c.codec, a, row)
	}
	return appendNative(dst, a, row)
}
