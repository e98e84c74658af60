package postgres

import (
	"bytes"
	"context"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/deploy/dev"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// forms asks a server for the binary and the text form of a value.
func forms(t *testing.T, conn *pgx.Conn, expr string) (oid uint32, bin, text []byte) {
	t.Helper()
	for _, format := range []int16{1, 0} {
		r := conn.PgConn().ExecParams(context.Background(), "SELECT "+expr, nil, nil, nil, []int16{format}).Read()
		if r.Err != nil {
			t.Fatalf("%s: %v", expr, r.Err)
		}
		oid = r.FieldDescriptions[0].DataTypeOID
		if v := r.Rows[0][0]; format == 1 {
			bin = bytes.Clone(v)
		} else {
			text = bytes.Clone(v)
		}
	}
	return oid, bin, text
}

func TestCodecsKeepEveryValue(t *testing.T) {
	url := dev.Database(t)
	dev.MustExec(t, url, `CREATE TYPE mood AS ENUM ('so so', 'fine')`, `CREATE DOMAIN posint AS int CHECK (value > 0)`)
	conn, err := connect(t.Context(), Config{URL: url, Pipeline: "types"}, "test", connectorv1.Role_ROLE_SOURCE)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, expr := range []string{
		`true`, `false`, `(-32768)::int2`, `2147483647`, `(-9223372036854775808)::int8`, `4294967295::oid`,
		`1.5::float4`, `'NaN'::float8`, `'-Infinity'::float8`, `1e-300::float8`, `0.1::float4`,
		`''::text`, `'größer'::varchar`, `'ab  '::char(5)`, `'n'::name`, `'{"a": 1.50}'::json`, `'{"a": 1.50}'::jsonb`, `'<a/>'::xml`,
		`'\x00ff'::bytea`, `''::bytea`, `'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid`,
		`'2024-02-29'::date`, `'infinity'::date`, `'-infinity'::date`, `'0044-03-15 BC'::date`, `'4713-01-01 BC'::date`, `'5874897-12-31'::date`,
		`'24:00:00'::time`, `'12:34:56.000001'::time`, `'00:00'::time`,
		`'2024-02-29 12:34:56.789'::timestamp`, `'infinity'::timestamp`, `'0001-01-01 BC'::timestamp`, `'1969-12-31 23:59:59.999999'::timestamp`,
		`'12345-01-01 00:00:00+00'::timestamptz`, `'-infinity'::timestamptz`,
		`'1 year 2 mons -3 days +04:05:06.789'::interval`, `'-1 mon'::interval`, `'-00:00:00.000001'::interval`, `'0'::interval`,
		`0::numeric`, `0.000::numeric`, `-1.50::numeric`, `'NaN'::numeric`, `'Infinity'::numeric`, `'-Infinity'::numeric`,
		`12345678901234567890.000012340000::numeric`, `0.00000001::numeric`, `100000000::numeric`, `10000.0001::numeric`, `1e100::numeric`, `1e-100::numeric`,
		`'12'::public.posint`, `'so so'::public.mood`, `'{1,2}'::int[]`, `'10.0.0.1'::inet`, `'[1,5)'::int4range`,
	} {
		oid, bin, text := forms(t, conn, expr)
		col := testColumn("c", "", oid)
		if oid >= firstLocalOID {
			col.LogicalType = "enum"
		}
		check(t, conn, expr, col.GetNativeId(), bin, func(b array.Builder, c valueCodec) error { return c.AppendBinary(b, bin) }, col.GetLogicalType())
		if latticeOf(col) != "" {
			check(t, conn, expr, oid, bin, func(b array.Builder, c valueCodec) error { return c.AppendText(b, text) }, col.GetLogicalType())
		}
	}
	for _, expr := range []string{`'294276-12-31 23:59:59'::timestamp`} {
		oid, bin, _ := forms(t, conn, expr)
		col := testColumn("c", "", oid)
		b := array.NewBuilder(memory.DefaultAllocator, arrowField(col).Type)
		if err := codecFor(col).AppendBinary(b, bin); err == nil {
			t.Errorf("%s fits", expr)
		}
		b.Release()
	}
}

func check(t *testing.T, _ *pgx.Conn, expr string, oid uint32, want []byte, add func(array.Builder, valueCodec) error, logical string) {
	t.Helper()
	col := testColumn("c", "", oid)
	col.LogicalType = logical
	codec := codecFor(col)
	b := array.NewBuilder(memory.DefaultAllocator, arrowField(col).Type)
	defer b.Release()
	if err := add(b, codec); err != nil {
		t.Errorf("%s: %v", expr, err)
		return
	}
	a := b.NewArray()
	defer a.Release()
	got, err := codec.WriteBinary(nil, a, 0)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s as %T: got %x, want %x (%v)", expr, codec, got, want, err)
	}
}

func TestSameModifier(t *testing.T) {
	for _, c := range []struct {
		native string
		oid    uint32
		typmod int32
		want   bool
	}{
		{"numeric(10,2)", oidNumeric, (10<<16 | 2) + 4, true}, {"numeric(10,2)", oidNumeric, (12<<16 | 4) + 4, false},
		{"numeric(10,2)", oidNumeric, -1, false}, {"numeric", oidNumeric, (12<<16 | 4) + 4, true}, {"numeric(3,-2)", oidNumeric, (3<<16 | 0x7fe) + 4, true},
		{"character varying(20)", oidVarchar, 24, true}, {"character varying(20)", oidVarchar, 34, false}, {"timestamp(3) without time zone", 1114, 3, true},
	} {
		if got := sameModifier(c.native, c.oid, c.typmod); got != c.want {
			t.Errorf("%s, %d: %v", c.native, c.typmod, got)
		}
	}
}
