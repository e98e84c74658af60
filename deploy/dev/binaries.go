package dev

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

const (
	oldestMajor    = 15
	preferredMajor = 15
)

// Variables that name other servers than those that deploy/dev/setup installs. deploy/dev/versions sets them.
const (
	sourceVar = "DROVER_DEV_POSTGRES"        // folder of initdb and postgres
	targetVar = "DROVER_DEV_POSTGRES_TARGET" // the same for servers that a test takes as target; default: no others
	dumpVar   = "DROVER_DEV_PG_DUMP"         // a pg_dump that is as new as any of the servers; default: beside the server
)

// ErrNoPostgres means that no usable server binaries were found.
var ErrNoPostgres = errors.New("dev: no PostgreSQL server (15 or newer) found; run deploy/dev/setup")

// binaries finds the folder that holds initdb, postgres and pg_dump. DROVER_DEV_POSTGRES names it outright;
// otherwise Debian's versioned folders are searched (15 first, then the highest), then PATH, then what deploy/dev/setup
// unpacked for this user. DROVER_DEV_POSTGRES_ROOT names another place of versioned folders than Debian's.
func binaries() (string, error) {
	if dir := os.Getenv(sourceVar); dir != "" {
		return named(dir)
	}
	place := os.Getenv("DROVER_DEV_POSTGRES_ROOT")
	if place == "" {
		place = "/usr/lib/postgresql"
	}
	dirs, err := filepath.Glob(filepath.Join(place, "*", "bin"))
	if err != nil {
		return "", err
	}
	best, bestMajor := "", 0
	for _, dir := range dirs {
		major, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err != nil || major < oldestMajor || !complete(dir) {
			continue
		}
		if major == preferredMajor {
			return dir, nil
		}
		if major > bestMajor {
			best, bestMajor = dir, major
		}
	}
	if best != "" {
		return best, nil
	}
	if found, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(found); err == nil && complete(filepath.Dir(real)) {
			return filepath.Dir(real), nil
		}
	}
	if cache, err := os.UserCacheDir(); err == nil {
		if dir := filepath.Join(cache, "drover-dev", "postgresql", "bin"); complete(dir) {
			return dir, nil
		}
	}
	return "", ErrNoPostgres
}

// targetBinaries is the folder of servers that a test takes as target.
func targetBinaries() (string, error) {
	if dir := os.Getenv(targetVar); dir != "" {
		return named(dir)
	}
	return binaries()
}

func named(dir string) (string, error) {
	if complete(dir) {
		return dir, nil
	}
	return "", fmt.Errorf("dev: %s lacks initdb, postgres or (unless %s names it) pg_dump", dir, dumpVar)
}

// pgDump is the program that dumps databases of both sides.
func pgDump() (string, error) {
	if path := os.Getenv(dumpVar); path != "" {
		return path, nil
	}
	bin, err := binaries()
	return filepath.Join(bin, "pg_dump"), err
}

// complete reports whether dir holds every program that this package runs.
func complete(dir string) bool {
	for _, name := range []string{"initdb", "postgres", "pg_dump"} {
		if name == "pg_dump" && os.Getenv(dumpVar) != "" {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}
