package matrix_test

import (
	_ "embed"
	"fmt"
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
)

var (
	//go:embed testdata/tables.sql
	tablesSQL string
	//go:embed testdata/rows.sql
	rowsSQL string
	//go:embed testdata/writes.sql
	writesSQL string
)

// keyTable is a table k_NAME (k TYPE PRIMARY KEY, n int, v text). value makes a key of the number i.
type keyTable struct{ name, typ, value string }

// keyTables has one table for every type that can be a key, whether its bytes sort as its values do or not.
var keyTables = []keyTable{
	{"int2", "int2", "(i - 2500)::int2"},
	{"int4", "int4", "(i * 858993 - 2147483648)::int4"},
	{"int8", "int8", "i * 1000003 - 9223372036854775807"},
	{"oid", "oid", "(4294967295 - i)::oid"},
	{"char", `"char"`, `chr(33 + (i % 90)::int)::"char"`},
	{"name", "name", "('n' || i)::name"},
	{"uuid", "uuid", "md5(i::text)::uuid"},
	{"text_c", `text COLLATE "C"`, "chr(97 + (i % 1000)::int) || i"},
	{"text_default", "text", "'K ' || md5(i::text)"},
	{"text_icu", `text COLLATE "en-x-icu"`, "CASE i % 2 WHEN 0 THEN 'é' ELSE 'E' END || md5(i::text)"},
	{"text_ci", "text COLLATE ci", "'Mixed' || i"},
	{"varchar_c", `varchar(40) COLLATE "C"`, "'v' || i"},
	{"bpchar_c", `char(12) COLLATE "C"`, "'c' || i"},
	{"citext", "citext", "('Ci' || i)::citext"},
	{"bytea", "bytea", "decode(md5(i::text), 'hex') || '\\x00'"},
	{"date", "date", "CASE i WHEN 1 THEN 'infinity' WHEN 2 THEN '-infinity' ELSE '4713-01-01 BC'::date + (i * 700)::int END"},
	{"timestamp", "timestamp", "CASE i WHEN 1 THEN 'infinity' WHEN 2 THEN '-infinity' ELSE '0900-01-01 BC'::timestamp + i * interval '211 days 0.000001 s' END"},
	{"timestamptz", "timestamptz", "CASE i WHEN 1 THEN 'infinity' WHEN 2 THEN '-infinity' ELSE '0900-01-01 BC'::timestamptz + i * interval '211 days 0.000001 s' END"},
	{"time", "time", "time '00:00' + i * interval '1.5 s'"},
	{"timetz", "timetz", "CASE i % 2 WHEN 0 THEN timetz '00:00+03' ELSE timetz '23:00-05' END + i * interval '1.5 s'"},
	{"interval", "interval", "i * interval '1 day 3 s' - interval '5 years'"},
	{"numeric", "numeric", "CASE i WHEN 1 THEN 'NaN' WHEN 2 THEN 'Infinity' WHEN 3 THEN '-Infinity' WHEN 4 THEN 1e400 WHEN 5 THEN -1e-300 ELSE (i - 2500) / 7.0 END"},
	{"numeric_scale", "numeric(12,4)", "((i - 2500) / 8.0)::numeric(12,4)"},
	{"float8", "float8", "CASE i WHEN 1 THEN 'NaN' WHEN 2 THEN '-Infinity' WHEN 3 THEN '-0' ELSE (i - 2500) * 1.1e-7 END"},
	{"float4", "float4", "((i - 2500) * 1.1e-3)::float4"},
	{"money", "money", "i::numeric::money"},
	{"bits", "varbit", "i::bit(16)::varbit"},
	{"inet", "inet", "inet '10.0.0.0/8' + i"},
	{"macaddr", "macaddr", "('08:00:2b:00:' || lpad(to_hex(i / 256), 2, '0') || ':' || lpad(to_hex(i % 256), 2, '0'))::macaddr"},
	{"domain_int", "posint", "(i + 1)::posint"},
	{"domain_text", "code", "('d' || i)::code"},
	{"range", "int4range", "int4range(i::int, (i + 3)::int)"},
	{"array", "int[]", "ARRAY[i::int, NULL, -i::int]"},
	{"jsonb", "jsonb", "jsonb_build_object('k', i)"},
	{"ltree", "ltree", "('Top.n' || i)::ltree"},
	{"composite_type", "pair", "ROW(i, 'x' || i, 'sad')::pair"},
}

func (k keyTable) table() string { return "public.k_" + k.name }

// on is the table as a server of a version can hold it: numeric has no infinities before PostgreSQL 14.
func (k keyTable) on(major int) keyTable {
	switch {
	case major >= 14:
	case k.name == "float8": // or the literals beside it were numeric
		k.value = strings.Replace(k.value, "1.1e-7", "1.1e-7::float8", 1)
	case k.name == "numeric":
		k.value = strings.NewReplacer("'Infinity'", "1e999", "'-Infinity'", "-1e999").Replace(k.value)
	}
	return k
}

func (k keyTable) ddl() string {
	rows := 1500
	if k.name == "char" { // there are not more
		rows = 60
	}
	return fmt.Sprintf(`CREATE TABLE k_%[1]s (n int, k %[2]s, v text, PRIMARY KEY (k));
		INSERT INTO k_%[1]s SELECT i, %[3]s, repeat('v', (i %% 60)::int) FROM generate_series(1::bigint, %[4]d) i;`, k.name, k.typ, k.value, rows)
}

// fill makes all tables of the matrix.
func fill(t *testing.T, url string) {
	t.Helper()
	var b strings.Builder
	for _, k := range keyTables {
		b.WriteString(k.on(dev.Major(t, url)).ddl())
	}
	dev.MustExec(t, url, dev.ForVersion(t, url, tablesSQL), b.String(), dev.ForVersion(t, url, rowsSQL))
}

// writes are the transactions of writes.sql: what a comment heads is one.
func writes() []string {
	var out []string
	for _, part := range strings.Split("\n"+writesSQL, "\n-- ")[1:] {
		_, sql, _ := strings.Cut(part, "\n")
		out = append(out, strings.TrimSpace(sql))
	}
	return out
}

// written are the tables that get a writer of their own, with values for columns whose type does not say enough. The writer's
// ON CONFLICT refuses deferrable constraints: such tables are in writes.sql alone.
var written = map[string]map[string]string{
	"public.k_composite":       {"b": "md5((random() * 40)::int::text)::uuid", "a": "(random() * 24)::int - 12"},
	"public.k_include":         nil,
	"public.k_not_null_unique": nil,
	"public.k_other_identity":  nil,
	"public.k_full_with_key":   nil,
	"public.bare":              nil,
	"public.toast":             nil,
	"public.toast_full":        nil,
	"public.types":             {"x": "'<a/>'", "d": "'infinity'", "ts": "'0044-03-15 BC'", "num": "'NaN'"},
	`"Sch.ema ""q"" 😀"."Tab.le ""x"", it's; DROP 😀"`:                         nil,
	"public.a23456789012345678901234567890123456789012345678901234567890123": nil,
	"public.drover":    nil,
	"public.part":      {"at": "'2019-01-01'::date + (random() * 2000)::int"},
	"public.part_bare": nil,
	"public.parent":    nil,
	"public.heir":      nil,
	"public.empty":     {"r": "(SELECT int4range(a, a + 9) FROM (SELECT (random() * 1e8)::int) x(a))"},
	"public.always":    nil,
	"public.generated": {"n": "(random() * 1e6)::int", "v": "left(md5(random()::text), 9)"},
	"public.uniques":   nil,
	"public.customer":  {"name": "'c' || md5(random()::text)"},
	"public.orders":    {"n": "(random() * 1e6)::int"},
	"public.emptied":   nil,
	"public.dropped":   nil,
	"public.wide":      nil,
}
