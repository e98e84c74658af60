package command

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
)

// defaultData is $DROVER_DATA, else $XDG_STATE_HOME/drover, else ~/.local/state/drover.
func defaultData() string {
	if d := os.Getenv("DROVER_DATA"); d != "" {
		return d
	}
	if d := os.Getenv("XDG_STATE_HOME"); d != "" {
		return filepath.Join(d, "drover")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.TempDir()
	}
	return filepath.Join(home, ".local", "state", "drover")
}

// copyName names the pipeline of a pair of databases: the same pair finds the same state again.
func copyName(source, target string) string {
	h := sha256.Sum256([]byte(source + "\x00" + target))
	return "copy-" + hex.EncodeToString(h[:5])
}

// copyData is where `drover copy` keeps the state of one pair, so that several copies run side by side.
func copyData(data, pipeline string) string { return filepath.Join(data, "copy", pipeline) }
