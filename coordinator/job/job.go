// Package job checks pipelines: all problems at once. Pure.
package job

import (
	"fmt"
	"regexp"
)

// Spec is what has to be checked of a pipeline.
type Spec struct {
	Version                     int32
	Name                        string
	Mode                        int32
	SourceURL, TargetURL        string
	SourceKind, TargetKind      string
	WhenNotEmpty, Verify, Apply string
	Lane                        string
	ChunkBytes                  int64
	Parallel                    int32
}

var name = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)

// Problems returns everything that is wrong, one line each.
func Problems(s Spec) []string {
	var out []string
	add := func(bad bool, format string, args ...any) {
		if bad {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	add(s.Version > 1, "version %d is newer than this coordinator", s.Version)
	add(!name.MatchString(s.Name), "name %q: lower-case letters, digits, . _ -, at most 63, must not begin with a sign", s.Name)
	add(s.Mode != 1 && s.Mode != 2, "mode is missing")
	add(s.SourceURL == "" || s.SourceKind == "", "source has no URL")
	add(s.TargetURL == "" || s.TargetKind == "", "target has no URL")
	add(s.ChunkBytes < 0, "load.chunk_bytes is negative")
	add(s.Parallel < 0, "load.parallel is negative")
	word := func(field, v string, allowed ...string) {
		for _, a := range append(allowed, "") {
			if v == a {
				return
			}
		}
		add(true, "%s: %q is none of %q", field, v, allowed)
	}
	word("load.when_not_empty", s.WhenNotEmpty, "fail", "truncate")
	word("verify", s.Verify, "checksum", "none")
	word("apply", s.Apply, "transactional")
	word("lane", s.Lane, "native", "arrow")
	return out
}
