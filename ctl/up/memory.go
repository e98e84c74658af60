package up

import (
	"os"
	"runtime/debug"
)

const (
	// softLimit is what this process may use before the collector works harder. Connectors have limits of their own.
	softLimit = 112 << 20
	// slack is how much of what is alive may be garbage beside it, in percent. What grows with the number of tables
	// is alive for long; the little that is short-lived here costs the collector next to nothing.
	slack = 60
)

// boundMemory leaves alone what the environment says.
func boundMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softLimit)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(slack)
	}
}
