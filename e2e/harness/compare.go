package harness

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/deploy/dev"
)

// SequenceRule says how strictly sequences are compared.
type SequenceRule int

const (
	SequencesExact   SequenceRule = iota // the same last value
	SequencesAtLeast                     // the target's next value is not below the source's
	SequencesSkip
)

// CompareOptions shape a comparison. The zero value compares everything, exactly.
type CompareOptions struct {
	Tables     []string // schema.table; all when empty
	SkipSchema bool     // do not compare the schemas' dumps
	Sequences  SequenceRule
	Show       int // differing rows shown per table; 5 when 0
}

// TableResult is the comparison of one table.
type TableResult struct {
	Name                 string
	SourceRows           int64
	TargetRows           int64
	SourceSum, TargetSum string // xxh3-128 over all rows in order
	OnlySource           int64  // rows without an equal at the target
	OnlyTarget           int64
	Examples             []string // "- row" only at the source, "+ row" only at the target
}

// Equal reports whether both sides hold the same rows.
func (r TableResult) Equal() bool { return r.OnlySource == 0 && r.OnlyTarget == 0 }

// Report is what a comparison found.
type Report struct {
	Tables    []TableResult
	Missing   []string // tables and sequences that only one side has
	Sequences []string // sequences that differ
	Schema    []string // lines of the dumps that only one side has
}

// Equal reports whether nothing differs.
func (r Report) Equal() bool {
	return len(r.Missing)+len(r.Sequences)+len(r.Schema) == 0 &&
		!slices.ContainsFunc(r.Tables, func(t TableResult) bool { return !t.Equal() })
}

// Rows is the number of rows compared at the source.
func (r Report) Rows() (n int64) {
	for _, t := range r.Tables {
		n += t.SourceRows
	}
	return n
}

// String lists the differences, or says how much was equal.
func (r Report) String() string {
	if r.Equal() {
		return fmt.Sprintf("equal: %d tables, %d rows", len(r.Tables), r.Rows())
	}
	var b strings.Builder
	for _, t := range r.Tables {
		if !t.Equal() {
			fmt.Fprintf(&b, "%s: %d rows at the source, %d at the target; %d only at the source, %d only at the target\n",
				t.Name, t.SourceRows, t.TargetRows, t.OnlySource, t.OnlyTarget)
			for _, example := range t.Examples {
				fmt.Fprintf(&b, "  %s\n", example)
			}
		}
	}
	for _, group := range [][]string{r.Missing, r.Sequences, r.Schema} {
		for _, line := range group {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// RequireEqual fails the test unless both databases are equal, and unless there was something to compare.
func RequireEqual(t testing.TB, source, target string, o CompareOptions) Report {
	t.Helper()
	r, err := Compare(t.Context(), source, target, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Tables) == 0 {
		t.Fatal("harness: no table to compare")
	}
	if !r.Equal() {
		t.Fatalf("databases differ:\n%s", r)
	}
	return r
}

// Compare reads both databases whole, except system schemas and schema drover. Nobody should write meanwhile.
func Compare(ctx context.Context, source, target string, o CompareOptions) (Report, error) {
	if o.Show == 0 {
		o.Show = 5
	}
	var r Report
	a, err := connect(ctx, source)
	if err != nil {
		return r, err
	}
	defer a.Close(context.WithoutCancel(ctx))
	b, err := connect(ctx, target)
	if err != nil {
		return r, err
	}
	defer b.Close(context.WithoutCancel(ctx))
	if err := compareTables(ctx, a, b, o, &r); err != nil {
		return r, err
	}
	if o.Sequences != SequencesSkip {
		if err := compareSequences(ctx, a, b, o.Sequences, &r); err != nil {
			return r, err
		}
	}
	if !o.SkipSchema {
		if r.Schema, err = compareSchemas(ctx, source, target); err != nil {
			return r, err
		}
	}
	return r, nil
}

// connect opens a session whose settings make equal values print equally.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("harness: %w", err)
	}
	maps.Copy(config.RuntimeParams, map[string]string{"timezone": "UTC", "datestyle": "ISO", "intervalstyle": "postgres",
		"extra_float_digits": "1", "bytea_output": "hex", "work_mem": "64MB", "search_path": "pg_catalog",
		"row_security": "off", "client_encoding": "UTF8"})
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("harness: %w", err)
	}
	return conn, nil
}

// namedAs is a relation as this package names it: schema.table, or both quoted when the schema holds a dot or a quote.
const namedAs = `CASE WHEN n.nspname ~ '[."]' THEN '"' || replace(n.nspname, '"', '""') || '"."' || replace(c.relname, '"', '""') || '"'
	ELSE n.nspname || '.' || c.relname END`

const userSchemas = `n.nspname NOT IN ('pg_catalog', 'information_schema', 'drover') AND n.nspname NOT LIKE 'pg\_%'`

// compareTables compares the columns that the source has; a partitioned table is read through its root.
func compareTables(ctx context.Context, a, b *pgx.Conn, o CompareOptions, r *Report) error {
	const list = `SELECT ` + namedAs + ` FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.relpersistence <> 't' AND ` + userSchemas + ` ORDER BY 1`
	atA, err := column(ctx, a, list)
	if err != nil {
		return err
	}
	atB, err := column(ctx, b, list)
	if err != nil {
		return err
	}
	wanted := o.Tables
	if len(wanted) == 0 {
		wanted = atA
		for _, name := range atB {
			if !slices.Contains(atA, name) {
				r.Missing = append(r.Missing, "table only at the target: "+name)
			}
		}
	}
	for _, name := range wanted {
		if !slices.Contains(atA, name) {
			r.Missing = append(r.Missing, "table not at the source: "+name)
			continue
		}
		if !slices.Contains(atB, name) {
			r.Missing = append(r.Missing, "table only at the source: "+name)
			continue
		}
		result, err := compareTable(ctx, a, b, name, o.Show)
		if err != nil {
			return fmt.Errorf("harness: compare %s: %w", name, err)
		}
		r.Tables = append(r.Tables, result)
	}
	return nil
}

func column(ctx context.Context, c *pgx.Conn, sql string, args ...any) ([]string, error) {
	rows, err := c.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("harness: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("harness: %w", err)
	}
	return list, nil
}

// compareSequences compares the value that nextval would give. For an ascending sequence AtLeast allows a later one.
func compareSequences(ctx context.Context, a, b *pgx.Conn, rule SequenceRule, r *Report) error {
	atA, err := sequences(ctx, a)
	if err != nil {
		return err
	}
	atB, err := sequences(ctx, b)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(atA)) {
		there, ok := atB[name]
		here := atA[name]
		switch {
		case !ok:
			r.Missing = append(r.Missing, "sequence only at the source: "+name)
		case here.next == there.next:
		case rule == SequencesAtLeast && (there.next > here.next) == (here.step > 0):
		default:
			r.Sequences = append(r.Sequences, fmt.Sprintf("sequence %s: next value %d at the source, %d at the target", name, here.next, there.next))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(atB)) {
		if _, ok := atA[name]; !ok {
			r.Missing = append(r.Missing, "sequence only at the target: "+name)
		}
	}
	return nil
}

type sequence struct{ next, step int64 }

func sequences(ctx context.Context, c *pgx.Conn) (map[string]sequence, error) {
	names, err := column(ctx, c, `SELECT `+namedAs+` FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND `+userSchemas)
	if err != nil {
		return nil, err
	}
	found := map[string]sequence{}
	for _, name := range names {
		var s sequence
		sql := `SELECT CASE WHEN s.is_called THEN s.last_value + q.seqincrement ELSE s.last_value END, q.seqincrement
			FROM ` + quoted(name) + ` s, pg_sequence q WHERE q.seqrelid = '` + strings.ReplaceAll(quoted(name), "'", "''") + `'::regclass`
		if err := c.QueryRow(ctx, sql).Scan(&s.next, &s.step); err != nil {
			return nil, fmt.Errorf("harness: sequence %s: %w", name, err)
		}
		found[name] = s
	}
	return found, nil
}

// compareSchemas lists the lines of the dumps that have no partner on the other side.
func compareSchemas(ctx context.Context, source, target string) ([]string, error) {
	a, err := dev.DumpSchema(ctx, source)
	if err != nil {
		return nil, err
	}
	b, err := dev.DumpSchema(ctx, target)
	if err != nil {
		return nil, err
	}
	if a == b {
		return nil, nil
	}
	count := map[string]int{}
	for line := range strings.Lines(a) {
		count[line]++
	}
	for line := range strings.Lines(b) {
		count[line]--
	}
	var diff []string
	for _, line := range slices.Sorted(maps.Keys(count)) {
		sign := "-"
		if count[line] < 0 {
			sign = "+"
		}
		if count[line] != 0 {
			diff = append(diff, "schema "+sign+" "+strings.TrimSuffix(line, "\n"))
		}
	}
	if len(diff) == 0 {
		diff = []string{"schema: the same lines in another order"}
	}
	return diff, nil
}

// quoted is "schema"."table" for schema.table; a schema that holds a dot comes quoted already.
func quoted(name string) string {
	if strings.HasPrefix(name, `"`) {
		return name
	}
	schema, table, _ := strings.Cut(name, ".")
	return pgx.Identifier{schema, table}.Sanitize()
}

func sumText(sum [16]byte) string { return hex.EncodeToString(sum[:]) }
