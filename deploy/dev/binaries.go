package dev

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

const (
	oldestMajor    = 15
	preferredMajor = 15
)

// ErrNoPostgres means that no usable server binaries were found.
var ErrNoPostgres = errors.New("dev: no PostgreSQL server (15 or newer) found; run deploy/dev/setup")

// binaries finds the folder that holds initdb, postgres and pg_dump. DROVER_DEV_POSTGRES names it outright;
// otherwise Debian's versioned folders are searched (15 first, then the highest), then PATH, then what deploy/dev/setup
// unpacked for this user. DROVER_DEV_POSTGRES_ROOT names another place of versioned folders than Debian's.
func binaries() (string, error) {
	if dir := os.Getenv("DROVER_DEV_POSTGRES"); dir != "" {
		if complete(dir) {
			return dir, nil
		}
		return "", ErrNoPostgres
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

// complete reports whether dir holds every program that this package runs.
func complete(dir string) bool {
	for _, name := range []string{"initdb", "postgres", "pg_dump"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}
