package lease

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The target knows an attempt by its fence, not by the grants within: the next attempt is above those too.
func TestMint_IsAboveEveryGrantOfTheAttemptsSeen(t *testing.T) {
	first := Mint(0, 0)
	grant := first
	for range 100000 {
		grant = Next(grant)
	}
	for _, c := range []struct{ stored, seen uint64 }{{grant, 0}, {0, first}, {0, grant}, {first, grant}} {
		if e := Mint(c.stored, c.seen); e <= grant {
			t.Errorf("Mint(%d, %d) = %d is not above %d", c.stored, c.seen, e, grant)
		}
	}
}
