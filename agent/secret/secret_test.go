package secret

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/droverdb/drover/internal/diag"
)

func TestResolve_FollowsEveryKindOfReference(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(path, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DROVER_TEST_PW", "from env")
	Set("named", "by name")
	for ref, want := range map[string]string{"": "", "file:" + path: "from file", "env:DROVER_TEST_PW": "from env",
		Local("held"): "held", "local:named": "by name"} {
		if got, err := Resolve(ref); err != nil || got != want {
			t.Errorf("%s: %q, %v", ref, got, err)
		}
	}
}

func TestResolve_NeverRepeatsWhatMayBeAPassword(t *testing.T) {
	Set("gone", "x")
	Forget("local:gone")
	for _, ref := range []string{"hunter2", "local:gone", "env:DROVER_NOT_SET", "file:/nonexistent"} {
		_, err := Resolve(ref)
		if e := diag.Find(err); e == nil || e.Code.ID != diag.SecretAbsent.ID {
			t.Errorf("%s: %v", ref, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Error("a password given in place of a reference is repeated")
		}
	}
}
