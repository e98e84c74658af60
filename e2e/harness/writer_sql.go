package harness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// writerColumn is a column as the writer sees it.
type writerColumn struct {
	name       string // quoted
	typ        string // as format_type prints it, with its modifier
	key        bool   // part of the primary key
	foreign    bool   // part of a foreign key: copied, never invented
	unique     bool   // part of a unique index other than the primary key, or of an exclusion: always new
	hasDefault bool
	always     bool // GENERATED ALWAYS AS IDENTITY: an UPDATE may only say DEFAULT
	nullable   bool
	random     string // SQL that makes a value; "" for a type we know no values of
}

type writerTable struct {
	name      string // quoted, with schema
	columns   []writerColumn
	key       []writerColumn
	freshKeys bool // at least one key column can be given a new value
}

const describeColumns = `
SELECT quote_ident(a.attname), a.attname::text, a.attidentity = 'a', format_type(a.atttypid, a.atttypmod),
  EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey)),
  EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = a.attrelid AND c.contype = 'f' AND a.attnum = ANY (c.conkey)),
  EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND (i.indisunique OR i.indisexclusion) AND NOT i.indisprimary AND a.attnum = ANY (i.indkey)),
  a.atthasdef OR a.attidentity <> '', NOT a.attnotnull,
  EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND (a.attnum = ANY (i.indkey) OR i.indexprs IS NOT NULL))
FROM pg_attribute a
WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attnum`

// describe reads the columns that can be written.
func describe(ctx context.Context, conn *pgx.Conn, table string, values map[string]string) (*writerTable, error) {
	t := &writerTable{name: quoted(table)}
	found, err := conn.Query(ctx, describeColumns, t.name)
	if err != nil {
		return nil, fmt.Errorf("harness: describe %s: %w", table, err)
	}
	t.columns, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (c writerColumn, err error) {
		var indexed bool // an index entry holds a third of a page at most
		var plain string
		err = row.Scan(&c.name, &plain, &c.always, &c.typ, &c.key, &c.foreign, &c.unique, &c.hasDefault, &c.nullable, &indexed)
		if c.random = randomValue(c.typ); c.typ == "text" && !indexed {
			c.random = cast(longText, c.typ)
		}
		if sql := values[plain]; sql != "" {
			c.random = cast(sql, c.typ)
		}
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("harness: describe %s: %w", table, err)
	}
	for _, c := range t.columns {
		if c.key {
			t.key = append(t.key, c)
			t.freshKeys = t.freshKeys || c.random != "" && !c.foreign
		}
	}
	return t, nil
}

// sampleKeys reads some of the keys that exist.
func (t *writerTable) sampleKeys(ctx context.Context, conn *pgx.Conn) ([][]string, error) {
	if len(t.key) == 0 {
		return nil, nil
	}
	found, err := conn.Query(ctx, fmt.Sprintf("SELECT %s FROM %s LIMIT %d", t.keyText(), t.name, mostKeys))
	if err != nil {
		return nil, fmt.Errorf("harness: keys of %s: %w", t.name, err)
	}
	return pgx.CollectRows(found, pgx.RowTo[[]string])
}

// randomValue is SQL that makes a value of the type. Small domains where keys are small, so that keys collide and come back.
func randomValue(typ string) string {
	base, _, _ := strings.Cut(typ, "(")
	plain := map[string]string{
		"smallint":         "(random() * 32767)::int",
		"integer":          "(random() * 2147483646)::int",
		"bigint":           "(random() * 1000000000000)::bigint",
		"real":             "random() * 1000",
		"double precision": "(random() - 0.5) * 10 ^ (random() * 20)",
		"boolean":          "random() < 0.5",
		"uuid":             "gen_random_uuid()",
		"date":             "date '2000-01-01' + (random() * 10000)::int",
		"json":             `json_build_object('a', random(), 'b', md5(random()::text))`,
		"jsonb":            `jsonb_build_object('a', random(), 'b', jsonb_build_array(1, NULL, 'ü'))`,
		"bytea":            "decode(repeat(md5(random()::text), 1 + (random() * 4)::int), 'hex')",
		"text":             shortText,
		"inet":             "inet '10.0.0.0' + (random() * 1000000)::bigint",
		"integer[]":        "ARRAY[(random() * 100)::int, NULL, 3]",
		"text[]":           `ARRAY[md5(random()::text), NULL, 'a"b,c\']`,
	}
	if sql, ok := plain[base]; ok {
		return cast(sql, typ)
	}
	switch base {
	case "numeric":
		return cast(numericValue(typ), typ)
	case "character varying", "character":
		// A cast to a shorter type cuts, so any length will do.
		return cast("md5(random()::text)", typ)
	case "time", "time without time zone":
		return cast("time '00:00' + random() * interval '24 hours'", typ)
	case "interval":
		return cast("random() * interval '1000 days'", typ)
	}
	if strings.HasPrefix(typ, "timestamp") {
		return cast("timestamp '2000-01-01' + random() * interval '10000 days'", typ)
	}
	return ""
}

// shortText has quotes, a tab and a letter beyond ASCII.
const shortText = `U&'\00e4''"\0009' || md5(random()::text)`

// longText is short for the most part, and now and then long enough to be stored out of line.
const longText = `CASE WHEN random() < 0.02
	THEN (SELECT string_agg(md5(random()::text || g), '') FROM generate_series(1, 400) g)
	ELSE ` + shortText + ` END`

// numericValue keeps within the precision: numeric(p,s) holds p-s digits before the point.
func numericValue(typ string) string {
	var precision, scale int
	if n, _ := fmt.Sscanf(typ, "numeric(%d,%d)", &precision, &scale); n < 1 {
		return "(random() * 1e12)::numeric / 7"
	}
	return fmt.Sprintf("trunc(random()::numeric * 0.9 * 10::numeric ^ %d, %d)", precision-scale, max(scale, 0))
}

func cast(sql, typ string) string { return "(" + sql + ")::" + typ }

func (t *writerTable) keyText() string {
	texts := make([]string, len(t.key))
	for i, c := range t.key {
		texts[i] = c.name + "::text"
	}
	return "ARRAY[" + strings.Join(texts, ", ") + "]"
}

// where finds a row by its key, given as text.
func (t *writerTable) where() string {
	terms := make([]string, len(t.key))
	for i, c := range t.key {
		terms[i] = fmt.Sprintf("%s = $%d::text::%s", c.name, i+1, c.typ)
	}
	return strings.Join(terms, " AND ")
}

func (t *writerTable) returningKey() string {
	if len(t.key) == 0 {
		return ""
	}
	return " RETURNING " + t.keyText()
}

// invent inserts a row of new values; a column of unknown type gets its default.
func (t *writerTable) invent() string {
	names, values := make([]string, len(t.columns)), make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i], values[i] = c.name, "DEFAULT"
		if c.random != "" && !c.foreign && (!c.key || !c.hasDefault) {
			values[i] = c.random
		}
	}
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s) ON CONFLICT DO NOTHING%s", t.name,
		strings.Join(names, ", "), strings.Join(values, ", "), t.returningKey())
}

// clone inserts a copy of the row at a key, with a new key and about half of the values new.
func (t *writerTable) clone(rnd *rand.Rand) string {
	names, values := make([]string, len(t.columns)), make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i], values[i] = c.name, c.name
		if c.random != "" && !c.foreign && (c.key || c.unique || rnd.IntN(2) == 0) {
			values[i] = c.random
		}
	}
	return fmt.Sprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s WHERE %s ON CONFLICT DO NOTHING%s", t.name,
		strings.Join(names, ", "), strings.Join(values, ", "), t.name, t.where(), t.returningKey())
}

// update changes some columns besides the key; sometimes none, which a log reader must survive too.
func (t *writerTable) update(rnd *rand.Rand) string {
	var sets []string
	for _, c := range t.columns {
		switch {
		case c.key || c.foreign || c.always || c.random == "":
		case c.nullable && rnd.IntN(12) == 0:
			sets = append(sets, c.name+" = NULL")
		case rnd.IntN(3) == 0:
			sets = append(sets, c.name+" = "+c.random)
		}
	}
	if len(sets) == 0 {
		sets = append(sets, t.unchanged())
	}
	return fmt.Sprintf("UPDATE %s SET %s WHERE %s", t.name, strings.Join(sets, ", "), t.where())
}

// unchanged sets a column to what it is.
func (t *writerTable) unchanged() string {
	for _, c := range slices.Backward(t.columns) {
		if !c.always {
			return c.name + " = " + c.name
		}
	}
	return t.columns[0].name + " = DEFAULT"
}

func (t *writerTable) remove() string {
	return fmt.Sprintf("DELETE FROM %s WHERE %s", t.name, t.where())
}

// rekey moves the row at a key to a new one.
func (t *writerTable) rekey() string {
	var sets []string
	for _, c := range t.key {
		switch {
		case c.always:
			sets = append(sets, c.name+" = DEFAULT")
		case c.random != "" && !c.foreign:
			sets = append(sets, c.name+" = "+c.random)
		}
	}
	return fmt.Sprintf("UPDATE %s SET %s WHERE %s%s", t.name, strings.Join(sets, ", "), t.where(), t.returningKey())
}
