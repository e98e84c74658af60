package position

import "testing"

func TestPrint_ShowsWhatTheFormatSays(t *testing.T) {
	lsn := []byte{0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0x3A, 0x9F, 0x10, 0xC2, 0xD8}
	for _, c := range []struct {
		format string
		p      []byte
		want   string
	}{
		{"%[8:12]X/%[12:16]X", lsn, "3A/9F10C2D8"},
		{"%[4:]s:%[0:4]d", append([]byte{0, 0, 1, 0}, "binlog.000003"...), "binlog.000003:256"},
		{"%[:]s", []byte("3E11FA47:1-77"), "3E11FA47:1-77"},
		{"at 100%% of %[0:1]d", []byte{7}, "at 100% of 7"},
		{"%[8:12]X", nil, ""},
		{"", lsn, ""},
		{"%[8:12]X", []byte{1, 2}, "0102"},
		{"%[2:1]X", lsn[:3], "000000"},
		{"%[a:]X", []byte{1}, "01"},
		{"%[0:1", []byte{1}, "01"},
		{"%[0:1]q", []byte{1}, "01"},
		{"%[:]d", lsn, "00000001000000020000003a9f10c2d8"},
	} {
		if got := Print(c.format, c.p); got != c.want {
			t.Errorf("Print(%q, %x) = %q, want %q", c.format, c.p, got, c.want)
		}
	}
}
