package postgres

import (
	"bytes"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

func TestReadChunks_ArrowCarriesTheSameTuples(t *testing.T) {
	url := dev.Database(t)
	s := openSource(t, url)
	dev.MustExec(t, url, `CREATE TABLE mixed (id int PRIMARY KEY, b bool, i2 int2, i8 int8, f4 float4, f8 float8, n numeric, s text, c char(5), v varchar(9),
		y bytea, u uuid, d date, tm time, ts timestamp, tz timestamptz, iv interval, j json, jb jsonb, x bit varying, ip inet, a int[], r int4range)`,
		`INSERT INTO mixed SELECT g, g % 2 = 0, g, g::int8 * 1000000007, g / 3.0, 'NaN', (ARRAY['NaN','0.00','-12345678901234567890.000100','1e50'])[1 + g % 4]::numeric,
		repeat('é' || g, g % 50), 'ab', 'x', decode(repeat('00ff', g % 9), 'hex'), gen_random_uuid(), date '0044-03-15 BC' + g, '24:00:00', '1969-07-20 20:17:40.000001', 'epoch',
		interval '1 month -2 days 03:04:05.6' * g, '{ "a":  1}', '{"a": 1.50}', B'10110', '10.0.0.0/8', ARRAY[1, NULL, g], int4range(g, g + 5) FROM generate_series(1, 3000) g`,
		"INSERT INTO mixed (id) VALUES (0)", "INSERT INTO mixed (id, s) VALUES (-1, repeat('long', 700000))")
	table := describeTable(t, url, "mixed", rowv1.GateMode_GATE_MODE_KEYED, "id")
	chunk := []*rowv1.Chunk{{Id: sdk.ChunkID(3, 0), Table: 3}}
	plain, _ := readAll(t, s, &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{table}, Chunks: chunk})

	table.Lane = sdk.LaneArrow
	var dec *arrowio.Decoder
	var tuples []byte
	var rows int64
	err := s.ReadChunks(t.Context(), &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{table}, Chunks: chunk}, func(f *sdk.Frame) error {
		defer f.Free()
		var err error
		switch k := f.Header.Kind.(type) {
		case *rowv1.FrameHeader_ChunkBegin:
			if k.ChunkBegin.Lane != sdk.LaneArrow {
				t.Errorf("lane %s", k.ChunkBegin.Lane)
			}
			dec, err = arrowio.NewDecoder(f.Bytes())
		case *rowv1.FrameHeader_ChunkData:
			rec, err := dec.Decode(f.Bytes())
			if err != nil {
				return err
			}
			defer rec.Release()
			tuples, err = encodeTuples(tuples, table, rec)
			return err
		case *rowv1.FrameHeader_ChunkEnd:
			rows = k.ChunkEnd.Result.Rows
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if rows != 3002 || !bytes.Equal(tuples, plain[0]) {
		t.Errorf("%d rows; %d bytes of tuples through Arrow, %d without it", rows, len(tuples), len(plain[0]))
	}
}

func TestReadChunks_TextOnlyColumnsNeverTakeArrow(t *testing.T) {
	url := dev.Database(t)
	s := openSource(t, url)
	dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY, k regclass)", "INSERT INTO t VALUES (1, 't')")
	table := describeTable(t, url, "t", rowv1.GateMode_GATE_MODE_KEYED, "id")
	table.Columns[1].TextOnly, table.Lane = true, sdk.LaneArrow
	payloads, _ := readAll(t, s, &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{table}, Chunks: []*rowv1.Chunk{{Id: 9, Table: 3}}})
	if string(payloads[0]) != "1\tpublic.t\n" {
		t.Errorf("got %q", payloads[0])
	}
}
