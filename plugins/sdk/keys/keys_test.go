package keys

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// same fails unless the bytes order as want does.
func same(t *rapid.T, a, b []byte, want int) {
	t.Helper()
	if got := bytes.Compare(a, b); got != want {
		t.Fatalf("%x and %x compare as %d, want %d", a, b, got, want)
	}
}

func must(t *rapid.T, b []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestComposite_OrdersAsItsColumns(t *testing.T) {
	type key struct {
		i int32
		s []byte
		n int64
	}
	draw := func(t *rapid.T, name string) key {
		return key{rapid.Int32Range(-1, 1).Draw(t, name), rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 0xff}), 0, 3).Draw(t, name), rapid.Int64().Draw(t, name)}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t, "a"), draw(t, "b")
		enc := func(k key) []byte { return AppendInt64(AppendBytes(AppendInt32(nil, k.i), k.s), k.n) }
		want := cmp.Or(cmp.Compare(a.i, b.i), bytes.Compare(a.s, b.s), cmp.Compare(a.n, b.n))
		same(t, enc(a), enc(b), want)
	})
}

func TestIntegers_BothFormsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		for _, k := range []struct {
			oid  uint32
			trim func(int64) int64
			bin  func(int64) []byte
		}{
			{oidInt8, func(v int64) int64 { return v }, func(v int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }},
			{oidInt4, func(v int64) int64 { return int64(int32(v)) }, func(v int64) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }},
			{oidInt2, func(v int64) int64 { return int64(int16(v)) }, func(v int64) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }},
			{oidOID, func(v int64) int64 { return int64(uint32(v)) }, func(v int64) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }},
		} {
			x, y := k.trim(a), k.trim(b)
			ex, ey := must2(t, k.oid, true, k.bin(x)), must2(t, k.oid, true, k.bin(y))
			same(t, ex, ey, cmp.Compare(x, y))
			same(t, ex, must2(t, k.oid, false, fmt.Append(nil, x)), 0)
		}
	})
}

func must2(t *rapid.T, oid uint32, bin bool, v []byte) []byte {
	t.Helper()
	b, err := AppendPG(nil, oid, bin, v)
	return must(t, b, err)
}

// numericBinary writes text as numeric_send does.
func numericBinary(text string) []byte {
	sign := uint16(0)
	switch text {
	case "NaN":
		return []byte{0, 0, 0, 0, 0xc0, 0, 0, 0}
	case "Infinity":
		return []byte{0, 0, 0, 0, 0xd0, 0, 0, 0x20}
	case "-Infinity":
		return []byte{0, 0, 0, 0, 0xf0, 0, 0, 0x20}
	}
	if strings.HasPrefix(text, "-") {
		sign, text = 0x4000, text[1:]
	}
	whole, frac, _ := strings.Cut(text, ".")
	scale := len(frac)
	whole = strings.Repeat("0", (4-len(whole)%4)%4) + whole
	frac += strings.Repeat("0", (4-len(frac)%4)%4)
	weight, all := len(whole)/4-1, whole+frac
	out := binary.BigEndian.AppendUint16(nil, uint16(len(all)/4))
	out = binary.BigEndian.AppendUint16(out, uint16(weight))
	out = binary.BigEndian.AppendUint16(out, sign)
	out = binary.BigEndian.AppendUint16(out, uint16(scale))
	for ; all != ""; all = all[4:] {
		var d int
		fmt.Sscanf(all[:4], "%d", &d)
		out = binary.BigEndian.AppendUint16(out, uint16(d))
	}
	return out
}

func TestNumeric_OrdersAndForgetsScale(t *testing.T) {
	text := rapid.OneOf(rapid.StringMatching(`-?[0-9]{1,12}(\.[0-9]{1,9})?`), rapid.StringMatching(`-?0{0,5}[0-9]{1,2}(\.0{0,5}[0-9]{1,2})?`),
		rapid.SampledFrom([]string{"NaN", "Infinity", "-Infinity", "0", "0.00", "10000", "1", "-1", "-10000", "0.0001"}))
	rank := func(s string) int {
		return map[string]int{"-Infinity": -1, "Infinity": 1, "NaN": 2}[s]
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		want := cmp.Compare(rank(a), rank(b))
		if rank(a) == 0 && rank(b) == 0 {
			x, _ := new(big.Rat).SetString(a)
			y, _ := new(big.Rat).SetString(b)
			want = x.Cmp(y)
		}
		ea, eb := must2(t, oidNumeric, false, []byte(a)), must2(t, oidNumeric, false, []byte(b))
		same(t, ea, eb, want)
		same(t, ea, must2(t, oidNumeric, true, numericBinary(a)), 0)
	})
}

func TestTimes_BothFormsOrder(t *testing.T) {
	epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	text := func(at time.Time, layout string) string {
		if at.Year() <= 0 {
			// The layout cannot write years before 1: shift by the calendar's period of 400 years.
			shifted := at.AddDate(8000, 0, 0)
			return fmt.Sprintf("%04d", 1-at.Year()) + shifted.Format(layout)[4:] + " BC"
		}
		s := at.Format(layout)
		return s
	}
	rapid.Check(t, func(t *rapid.T) {
		micros := rapid.Int64Range(-200_000_000_000_000_000, 200_000_000_000_000_000).Draw(t, "micros")
		days := micros / microsPerDay
		at := epoch.Add(0).AddDate(0, 0, int(days)).Add(time.Duration(micros%microsPerDay) * time.Microsecond)
		bin := binary.BigEndian.AppendUint64(nil, uint64(micros))
		same(t, must2(t, oidTimestamp, true, bin), must2(t, oidTimestamp, false, []byte(text(at, "2006-01-02 15:04:05.999999"))), 0)
		day := at.Truncate(24 * time.Hour)
		floor := int32(math.Floor(float64(micros) / microsPerDay))
		same(t, AppendInt32(nil, floor), must2(t, oidDate, false, []byte(text(day, "2006-01-02"))), 0)
	})
}

func TestInfinities_AreTheEnds(t *testing.T) {
	for _, oid := range []uint32{oidDate, oidTimestamp, oidTimestampTZ} {
		var got [][]byte
		tail := map[uint32]string{oidTimestamp: " 00:00:00", oidTimestampTZ: " 00:00:00+00"}[oid]
		for _, v := range []string{"-infinity", "4713-01-01" + tail + " BC", "0001-12-31" + tail + " BC", "0001-01-01" + tail, "1999-12-31" + tail, "2000-01-01" + tail, "29427-01-01" + tail, "infinity"} {
			b, err := AppendPG(nil, oid, false, []byte(v))
			if err != nil {
				t.Fatal(v, err)
			}
			got = append(got, b)
		}
		for i := 1; i < len(got); i++ {
			if bytes.Compare(got[i-1], got[i]) >= 0 {
				t.Errorf("type %d: value %d is not above its predecessor", oid, i)
			}
		}
	}
}

func TestOthers_BothFormsAgree(t *testing.T) {
	u := [16]byte{0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255}
	for _, k := range []struct {
		oid  uint32
		text string
		bin  []byte
	}{
		{oidUUID, "deadbeef-0001-0203-0405-060708090aff", u[:]},
		{oidBytea, `\x0001ff00`, []byte{0, 1, 0xff, 0}},
		{oidBool, "t", []byte{1}}, {oidBool, "f", []byte{0}},
		{oidBPChar, "a  ", []byte("a")}, {oidText, "ä", []byte("ä")},
	} {
		a, errA := AppendPG(nil, k.oid, false, []byte(k.text))
		b, errB := AppendPG(nil, k.oid, true, k.bin)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %x (%v) and %x (%v)", k.text, a, errA, b, errB)
		}
	}
}

func FuzzAppendPG(f *testing.F) {
	f.Add(uint32(oidNumeric), false, []byte("-1.5"))
	f.Add(uint32(oidTimestamp), false, []byte("0001-01-01 00:00:00.1 BC"))
	f.Add(uint32(oidUUID), false, []byte("-"))
	f.Fuzz(func(t *testing.T, oid uint32, bin bool, v []byte) {
		if b, err := AppendPG([]byte("x"), oid, bin, v); err == nil && b[0] != 'x' {
			t.Fatal("dst was overwritten")
		}
	})
}

func BenchmarkAppendPG(b *testing.B) {
	for _, k := range []struct {
		name string
		oid  uint32
		bin  bool
		v    []byte
	}{
		{"int8", oidInt8, true, make([]byte, 8)},
		{"int8-text", oidInt8, false, []byte("123456789")},
		{"uuid-text", oidUUID, false, []byte("deadbeef-0001-0203-0405-060708090aff")},
		{"numeric", oidNumeric, true, numericBinary("123456.789")},
		{"timestamp-text", oidTimestamp, false, []byte("2026-11-21 08:00:00.123456")},
	} {
		b.Run(k.name, func(b *testing.B) {
			b.ReportAllocs()
			dst := make([]byte, 0, 64)
			for b.Loop() {
				var err error
				if dst, err = AppendPG(dst[:0], k.oid, k.bin, k.v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
