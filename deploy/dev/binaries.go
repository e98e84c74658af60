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
// otherwise Debian's versioned folders are searched (15 first, then the highest), then PATH.
func binaries() (string, error) {
	if dir := os.Getenv("DROVER_DEV_POSTGRES"); dir != "" {
		if complete(dir) {
			return dir, nil
		}
		return "", ErrNoPostgres
	}
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
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
