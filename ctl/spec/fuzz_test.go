package spec

import (
	"testing"

	"github.com/droverdb/drover/internal/diag"
)

// FuzzParse: any file gives a pipeline or a coded error, never a crash.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "version: 1\nname: a\nsource: postgres://a\ntarget: postgres://b\n", "{", "version: x", "a: &a [*a]",
		"version: 1\nname: a\nsource: {url: 'postgres://u:p@h/d', password: env:X}\ntarget: {}\ntables: {include: ['*']}\n",
		"version: 1\nload: {chunk_size: 9999999999999GB}\n", "cdc: {heartbeat: -1s}", "\xff\xfe", "- 1\n- 2", "source: [1]\ntables: 3"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse("p.yaml", b)
		if err != nil && diag.Find(err) == nil {
			t.Fatalf("an error without a code: %v", err)
		}
		if err == nil && (s.Name == "" || s.Source == nil || s.Target == nil) {
			t.Fatalf("accepted: %v", s)
		}
	})
}
