package postgres

import (
	"bytes"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/plugins/sdk/keys"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// The server is the judge: its order of values must be the order of their bytes, in both forms.
func TestKeys_OrderAsTheServerDoes(t *testing.T) {
	conn, err := connect(t.Context(), Config{URL: dev.Database(t)}, "test", connectorv1.Role_ROLE_SOURCE)
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(conn)
	for kind, values := range map[string]string{
		"int2": "SELECT g::int2 FROM unnest(ARRAY[-32768,-1,0,1,255,256,32767]) g",
		"int8": "SELECT (g * g * g) FROM generate_series(-2000000::int8, 2000000, 99991) g",
		"oid":  "SELECT g::oid FROM unnest(ARRAY[0,1,2147483648,4294967295]) g",
		"bool": "SELECT g FROM unnest(ARRAY[true, false]) g",
		"numeric": `SELECT v FROM (SELECT (random() * 10 ^ (g % 40 - 20) * (g % 3 - 1))::numeric FROM generate_series(1, 2000) g
			UNION VALUES ('NaN'::numeric), ('Infinity'), ('-Infinity'), (0), (10000), (9999.9999), (-10000), (0.0001), (1e-30), (-1e-30), (1e100), (-1e100), (1e131071), (1e-16383)) x(v)`,
		"date":        "SELECT d FROM unnest(ARRAY['-infinity','4713-01-01 BC','0001-12-31 BC','0001-01-01','1999-12-31','2000-02-29','5874897-12-31','infinity']::date[]) d",
		"timestamp":   "SELECT timestamp '0100-02-28 23:59:59.999999 BC' + g * interval '13 days 7.000003 s' FROM generate_series(0, 90000, 97) g UNION VALUES (timestamp 'infinity'), ('-infinity'), ('294276-12-31 23:59:59.999999'), ('4714-11-24 00:00:00 BC')",
		"timestamptz": "SELECT timestamptz 'epoch' + g * interval '99 days 0.1 s' FROM generate_series(-5000, 5000, 13) g",
		"uuid":        "SELECT gen_random_uuid() FROM generate_series(1, 500)",
		"bytea":       `SELECT decode(substr(repeat(h, 3), 1, (n % 4) * 2), 'hex') FROM unnest(ARRAY['00','0001','00ff','01','ff','ff00']) h, generate_series(0, 7) n`,
		"text":        `SELECT (a || b) COLLATE "C" FROM unnest(ARRAY['', 'a', 'B', 'é', '€', '𝄞', E'\x01']) a, unnest(ARRAY['', ' ', 'z', 'Z', E'\x01', 'ß']) b`,
	} {
		t.Run(kind, func(t *testing.T) {
			var last []byte
			n := 0
			sql := "SELECT v, v::text FROM (SELECT DISTINCT v FROM (" + values + ") x(v)) y ORDER BY y.v"
			rows, err := conn.Query(t.Context(), sql, pgx.QueryResultFormats{pgx.BinaryFormatCode, pgx.TextFormatCode})
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				raw := rows.RawValues()
				oid := rows.FieldDescriptions()[0].DataTypeOID
				bin, errB := keys.AppendPG(nil, oid, true, raw[0])
				text, errT := keys.AppendPG(nil, oid, false, raw[1])
				if errB != nil || errT != nil || !bytes.Equal(bin, text) {
					t.Fatalf("%s: binary %x (%v), text %x (%v)", raw[1], bin, errB, text, errT)
				}
				if n > 0 && bytes.Compare(last, bin) >= 0 {
					t.Fatalf("%s: %x is not above %x", raw[1], bin, last)
				}
				last = bin
				n++
			}
			if rows.Err() != nil || n < 2 {
				t.Fatalf("%d values, %v", n, rows.Err())
			}
		})
	}
}
