package postgres

import (
	"bytes"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func TestRereadAnswersInTheRoundsOwnLayout(t *testing.T) {
	for _, lane := range []string{sdk.LanePGValues, sdk.LaneArrow} {
		t.Run(lane, func(t *testing.T) {
			table := itemTable(7, "item")
			url := dev.Database(t)
			dev.MustExec(t, url, itemDDL, `INSERT INTO item VALUES (1, 'a', repeat('x', 9000)), (2, NULL, 'two'), (3, 'c', 'three')`)
			src := &Source{cfg: Config{URL: url, Pipeline: "reread"}}
			st, err := newStreamTable(table, lane, true)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range []byte{1, 2, 9} {
				vals := []wireValue{{kind: valueBinary, data: []byte{0, 0, 0, id}}, {kind: valueNull}, {kind: valueUnchanged}}
				if err := st.add(sdk.OpInsert, 0, vals, vals, false, -1); err != nil {
					t.Fatal(err)
				}
			}
			msg, err := st.batch()
			if err != nil {
				t.Fatal(err)
			}
			dec, err := arrowio.NewDecoder(st.enc.SchemaMessage())
			if err != nil {
				t.Fatal(err)
			}
			defer dec.Release()
			rec, err := dec.Decode(msg.ReadOnlyData())
			if err != nil {
				t.Fatal(err)
			}
			defer rec.Release()
			answer := reread(t, src, table, rec)
			h := answer.Header.GetReread()
			if len(h.GetKeys()) != 3 || !h.GetCoverage().GetExact() || h.GetTable() != 7 || h.GetSchemaVersion() != schemaVersion {
				t.Fatalf("header %v", h)
			}
			rows, err := dec.Decode(answer.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Release()
			if rows.NumRows() != 2 {
				t.Fatalf("%d rows", rows.NumRows())
			}
			sameKeys(t, rows, h.GetKeys())
			big := rows.Column(sdk.RoundColumns + 2)
			if got := cell(big, 0) + " " + cell(big, 1); got != "x*9000 two" {
				t.Errorf("values %s", got)
			}
		})
	}
}

func sameKeys(t *testing.T, rows arrow.RecordBatch, want [][]byte) {
	t.Helper()
	for i := range int(rows.NumRows()) {
		if got := rows.Column(2).(*array.Binary).Value(i); !bytes.Equal(got, want[i]) {
			t.Errorf("row %d has key %x, want %x", i, got, want[i])
		}
	}
}

func reread(t *testing.T, src *Source, table *rowv1.Table, rec arrow.RecordBatch) *sdk.Frame {
	t.Helper()
	var keys bytes.Buffer
	w := ipc.NewWriter(&keys, ipc.WithSchema(rec.Schema()))
	if err := w.Write(rec); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var answer *sdk.Frame
	req := &connectorv1.RereadRequest{Table: table, SchemaVersion: schemaVersion, Keys: keys.Bytes()}
	if err := src.Reread(t.Context(), req, func(f *sdk.Frame) error { answer = f; return nil }); err != nil {
		t.Fatal(err)
	}
	return answer
}
