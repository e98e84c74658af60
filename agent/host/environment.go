package host

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/droverdb/drover/internal/fault"
	"github.com/droverdb/drover/internal/telemetry"
)

// passed are the variables a connector inherits, with these prefixes or names, and nothing else: what drivers need to
// find logins and certificates, what telemetry needs, and the log's level.
var (
	passed = []string{"HOME", "PGPASSFILE", "PGSERVICEFILE", "PGPASSWORD", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ", "GOCOVERDIR", telemetry.LevelVar, telemetry.ProfileVar}
	prefix = []string{"PGSSL", "OTEL_"}
)

func environment(budget int64) []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if slices.Contains(passed, name) || slices.ContainsFunc(prefix, func(p string) bool { return strings.HasPrefix(name, p) }) {
			env = append(env, v)
		}
	}
	// Buffers are short-lived and pooled: the collector finds little to do, and a limit on top keeps it honest: a source reads
	// the catalog of ten thousands of tables, a sink makes them. It is a soft limit.
	env = append(env, fmt.Sprintf("GOMEMLIMIT=%d", budget), "GOGC=150")
	return append(env, fault.Environ()...)
}
