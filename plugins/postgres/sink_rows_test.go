package postgres

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// change is one row of a round in a test. Values are text; "-" is NULL, "?" is unchanged.
type change struct {
	op   byte
	key  string
	old  int // row number + 1, 0: none
	vals []string
}

func ch(op byte, key, vals string) change {
	return change{op: op, key: key, vals: strings.Split(vals, "|")}
}

func moved(old int, key, vals string) change {
	c := ch('I', key, vals)
	c.old = old + 1
	return c
}

func layoutOf(t *rowv1.Table, native string) *arrow.Schema {
	var fields []arrow.Field
	for _, c := range t.Columns {
		if native == sdk.LaneArrow {
			fields = append(fields, arrowField(c))
			continue
		}
		fields = append(fields, arrowio.NativeField(c.Name, native))
	}
	return arrowio.RoundSchema(t.Columns, fields)
}

func encodeValue(typ, native, v string) []byte {
	if native == arrowio.NativePGText {
		return []byte(v)
	}
	n, _ := strconv.ParseInt(v, 10, 64)
	switch typ {
	case "int4":
		return binary.BigEndian.AppendUint32(nil, uint32(n))
	case "int8":
		return binary.BigEndian.AppendUint64(nil, uint64(n))
	case "_int4":
		b := beginArray(nil, 23, 2)
		for range 2 {
			b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 4), uint32(n))
		}
		return b
	}
	return []byte(v)
}

func appendValue(f array.Builder, c *rowv1.Column, native, v string) {
	if native != sdk.LaneArrow {
		f.(*array.BinaryBuilder).Append(encodeValue(c.NativeType, native, v))
		return
	}
	if err := codecFor(c).AppendText(f, []byte(v)); err != nil {
		panic(err)
	}
}

func record(t *rowv1.Table, native string, rows []change) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, layoutOf(t, native))
	defer b.Release()
	for _, r := range rows {
		b.Field(0).(*array.Uint8Builder).Append(r.op)
		b.Field(1).(*array.Uint32Builder).Append(0)
		b.Field(2).(*array.BinaryBuilder).Append([]byte(r.key))
		bits, any := make([]byte, (len(t.Columns)+7)/8), false
		for i := range t.Columns {
			f := b.Field(5 + i)
			v := "-"
			if i < len(r.vals) {
				v = r.vals[i]
			}
			switch v {
			case "?":
				bits[i>>3] |= 1 << (i & 7)
				any = true
				f.AppendNull()
			case "-":
				f.AppendNull()
			default:
				appendValue(f, t.Columns[i], native, v)
			}
		}
		if any {
			b.Field(3).(*array.BinaryBuilder).Append(bits)
		} else {
			b.Field(3).AppendNull()
		}
		if r.old > 0 {
			b.Field(4).(*array.Int32Builder).Append(int32(r.old - 1))
		} else {
			b.Field(4).AppendNull()
		}
	}
	return b.NewRecordBatch()
}
