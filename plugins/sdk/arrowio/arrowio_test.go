package arrowio

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/droverdb/drover/plugins/sdk"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func sample(t testing.TB, rows int) arrow.RecordBatch {
	t.Helper()
	cols := []*rowv1.Column{{Name: "id"}, {Name: "note"}}
	schema := RoundSchema(cols, []arrow.Field{NativeField("id", NativePGBinary), {Name: "x", Type: arrow.BinaryTypes.String}})
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i := range rows {
		b.Field(0).(*array.Uint8Builder).Append(sdk.OpInsert)
		b.Field(1).(*array.Uint32Builder).Append(uint32(i))
		b.Field(2).(*array.BinaryBuilder).Append(fmt.Appendf(nil, "key%d", i))
		b.Field(3).AppendNull()
		b.Field(4).AppendNull()
		b.Field(5).(*array.BinaryBuilder).Append([]byte{0, 0, 0, byte(i)})
		if i%3 == 0 {
			b.Field(6).AppendNull()
		} else {
			b.Field(6).(*array.StringBuilder).Append("some text of a row")
		}
	}
	return b.NewRecordBatch()
}

func TestRoundTrip(t *testing.T) {
	rec := sample(t, 100)
	defer rec.Release()
	enc, err := NewEncoder(rec.Schema())
	if err != nil {
		t.Fatal(err)
	}
	dec, err := NewDecoder(enc.SchemaMessage())
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Release()
	if !dec.Schema().Equal(rec.Schema()) {
		t.Fatalf("schema %v, want %v", dec.Schema(), rec.Schema())
	}
	if got := NativeOf(dec.Schema().Field(sdk.RoundColumns)); got != NativePGBinary {
		t.Fatalf("native encoding %q", got)
	}
	if got := dec.Schema().Field(6).Name; got != "note" {
		t.Fatalf("column named %q", got)
	}
	for _, piece := range []arrow.RecordBatch{rec, rec.NewSlice(10, 20), rec.NewSlice(0, 0), rec.NewSlice(99, 100)} {
		msg, err := enc.Batch(piece)
		if err != nil {
			t.Fatal(err)
		}
		got, err := dec.Decode(msg)
		if err != nil {
			t.Fatal(err)
		}
		if !array.RecordEqual(got, piece) {
			t.Errorf("batch of %d rows differs", piece.NumRows())
		}
		got.Release()
	}
}

func TestDamageIsAnErrorAndDoesNotStick(t *testing.T) {
	rec := sample(t, 5)
	defer rec.Release()
	enc, err := NewEncoder(rec.Schema())
	if err != nil {
		t.Fatal(err)
	}
	dec, err := NewDecoder(enc.SchemaMessage())
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Release()
	good, err := enc.Batch(rec)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, {}, {1, 2, 3}, good[:20], good[:len(good)-64], enc.SchemaMessage(), bytes.Repeat([]byte{0xff}, 64)} {
		if r, err := dec.Decode(bad); err == nil {
			t.Errorf("damaged message of %d bytes gave %v", len(bad), r)
		}
	}
	got, err := dec.Decode(good)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Release()
	if !array.RecordEqual(got, rec) {
		t.Error("batch differs after damaged ones")
	}
}

func FuzzDecode(f *testing.F) {
	rec := sample(f, 3)
	enc, err := NewEncoder(rec.Schema())
	if err != nil {
		f.Fatal(err)
	}
	msg, err := enc.Batch(rec)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg)
	f.Add(enc.SchemaMessage())
	dec, err := NewDecoder(enc.SchemaMessage())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := dec.Decode(b); err == nil {
			r.Release()
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	for _, rows := range []int{1, 100, 20000} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			rec := sample(b, rows)
			enc, err := NewEncoder(rec.Schema())
			if err != nil {
				b.Fatal(err)
			}
			dec, err := NewDecoder(enc.SchemaMessage())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				msg, err := enc.Batch(rec)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(msg)))
				got, err := dec.Decode(msg)
				if err != nil {
					b.Fatal(err)
				}
				got.Release()
			}
		})
	}
}
