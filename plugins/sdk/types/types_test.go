package types

import "testing"

func TestMap(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     Fit
	}{
		{Int32, Int32, Exact}, {Int32, Int64, Widened}, {Int64, Int32, Lossy}, {Int64, Float64, Lossy}, {Int32, Float64, Widened},
		{Decimal, Text, Widened}, {Text, Decimal, Lossy}, {TimestampTZ, Timestamp, Lossy}, {"unheard-of", Text, Lossy},
	} {
		if got := Map(c.from, c.to); got != c.want {
			t.Errorf("%s to %s is %s, want %s", c.from, c.to, got, c.want)
		}
	}
}

func TestEveryLogicalTypeHasStorage(t *testing.T) {
	for name := range wider {
		if _, ok := Storage(name); !ok {
			t.Errorf("%s has no storage", name)
		}
	}
	if _, ok := Storage("unheard-of"); ok {
		t.Error("an unknown type has storage")
	}
}
