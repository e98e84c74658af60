package postgres

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestPosition_OrdersAsTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		if got := bytes.Compare(position(a, a), position(b, b)); (got < 0) != (a < b) || (got == 0) != (a == b) {
			t.Fatalf("%x and %x compare as %d", a, b, got)
		}
		commit, end, err := readPosition(position(a, b))
		if err != nil || commit != a || end != b {
			t.Fatalf("%x, %x reads as %x, %x (%v)", a, b, commit, end, err)
		}
		if lsn, err := parseLSN(formatLSN(b)); err != nil || lsn != b {
			t.Fatalf("printed form reads as %x (%v), want %x", lsn, err, b)
		}
	})
}

func TestPosition_RefusesForeignOnes(t *testing.T) {
	if _, _, err := readPosition([]byte{1}); err == nil {
		t.Error("a foreign position is taken")
	}
	for _, s := range []string{"", "1", "G/1", "1/100000000"} {
		if _, err := parseLSN(s); err == nil {
			t.Errorf("%q is taken for an LSN", s)
		}
	}
}
