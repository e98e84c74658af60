package postgres

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// copyRow is a row of COPY's binary form; nil is NULL.
func copyRow(values ...[]byte) []byte {
	row := binary.BigEndian.AppendUint16(nil, uint16(len(values)))
	for _, v := range values {
		if v == nil {
			row = binary.BigEndian.AppendUint32(row, 0xffffffff)
			continue
		}
		row = append(binary.BigEndian.AppendUint32(row, uint32(len(v))), v...)
	}
	return row
}

func paddedTable() *rowv1.Table {
	return &rowv1.Table{Columns: []*rowv1.Column{
		{Name: "id", NativeId: 23, NativeType: "integer"},
		{Name: "a", NativeId: oidBPChar, NativeType: "character(30)"},
		{Name: "b", NativeId: oidBPChar, NativeType: "bpchar"},
		{Name: "c", NativeId: oidBPChar, NativeType: "character(1)"},
		{Name: "d", NativeId: 25, NativeType: "text"},
	}}
}

func TestBlanks_AreTakenFromPaddedColumnsOnly(t *testing.T) {
	trimmer := blanksOf(paddedTable())
	pad := func(s string) []byte { return []byte(s + strings.Repeat(" ", 30-len(s))) }
	id := []byte{0x20, 0x20, 0x20, 0x20} // a number that looks like blanks
	for name, c := range map[string]struct{ row, want []byte }{
		"blanks at the end": {copyRow(id, pad("ab  c"), []byte("x  "), []byte(" "), []byte("y  ")),
			copyRow(id, []byte("ab  c"), []byte("x  "), []byte{}, []byte("y  "))},
		"only blanks": {copyRow(id, pad(""), []byte("  "), []byte("z"), nil), copyRow(id, []byte{}, []byte("  "), []byte("z"), nil)},
		"nulls":       {copyRow(nil, nil, nil, nil, nil), copyRow(nil, nil, nil, nil, nil)},
		"full":        {copyRow(id, pad(strings.Repeat("ü", 15)), nil, []byte("1"), nil), copyRow(id, pad(strings.Repeat("ü", 15)), nil, []byte("1"), nil)},
	} {
		got, err := trimmer.trim(c.row)
		if err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	for n := range 40 {
		v := append(bytes.Repeat([]byte{'!'}, n), bytes.Repeat([]byte{' '}, 40-n)...)
		if got := withoutBlanks(v); got != n {
			t.Errorf("%d characters: %d", n, got)
		}
	}
}

func TestBlanks_RefuseWhatIsNotARow(t *testing.T) {
	good := copyRow([]byte("1234"), []byte("a "), nil, nil, []byte("x"))
	trimmer := blanksOf(paddedTable())
	for n := range len(good) {
		if _, err := trimmer.trim(good[:n]); err == nil {
			t.Errorf("%d of %d bytes pass", n, len(good))
		}
	}
	if _, err := trimmer.trim(append(good, 0)); err == nil {
		t.Error("a byte too many passes")
	}
	if _, err := trimmer.trim(copyRow(nil)); err == nil {
		t.Error("a row of another table passes")
	}
}

func TestBlanks_OnlyWhereThereArePaddedColumns(t *testing.T) {
	table := paddedTable()
	table.Columns = table.Columns[:1]
	if blanksOf(table) != nil {
		t.Error("a table of numbers is trimmed")
	}
	table = paddedTable()
	table.Columns[4].TextOnly = true // the whole table travels as text
	if blanksOf(table) != nil {
		t.Error("text is trimmed")
	}
}

// BenchmarkBlanks is a row of pgbench_accounts.
func BenchmarkBlanks(b *testing.B) {
	trimmer := &blanks{padded: []bool{false, false, false, true}}
	row := copyRow([]byte{0, 0, 0, 1}, []byte{0, 0, 0, 1}, []byte{0, 0, 0, 0}, bytes.Repeat([]byte{' '}, 84))
	b.ReportAllocs()
	b.SetBytes(int64(len(row)))
	for b.Loop() {
		if _, err := trimmer.trim(row); err != nil {
			b.Fatal(err)
		}
	}
}
