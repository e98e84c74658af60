package diag

import (
	"regexp"
	"strings"
	"testing"
)

func TestRegistry_EveryCodeHasAllItsParts(t *testing.T) {
	id := regexp.MustCompile(`^[EW][1-6]\d{3}$`)
	if len(All()) < 40 {
		t.Fatalf("registry has %d codes", len(All()))
	}
	for _, c := range All() {
		if !id.MatchString(c.ID) {
			t.Errorf("%s: malformed code", c.ID)
		}
		if c.Title == "" || c.Explain == "" || strings.TrimSpace(c.Fix) == "" || c.Class == 0 {
			t.Errorf("%s: title, explanation, fix or class is missing", c.ID)
		}
	}
}

func TestError_IsFoundInAChain(t *testing.T) {
	e := WalLevel.New("source › wal_level = replica", nil, "changes cannot be read")
	if Find(e) != e || ClassOf(e) != Fatal || e.Fix()[0] != WalLevel.Fix {
		t.Fatal("coded error lost its parts")
	}
	if got := e.WithFix("SQL;").Fix(); got[0] != "SQL;" {
		t.Fatal("exact fix is not preferred")
	}
}
