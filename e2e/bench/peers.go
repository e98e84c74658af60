package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/droverdb/drover/deploy/dev"
)

// peerNames are all that run beside Drover.
var peerNames = []string{"pipe", "pgcopydb", "dump-dir", "dump-pipe", "native", "recvlogical"}

// loader copies one database into an empty one. It times itself: what it needs beforehand is not counted.
type loader func(ctx context.Context, l *lab, from, to string) (usage, error)

var loaders = map[string]loader{
	"drover": loadDrover, "pipe": loadPipe, "pgcopydb": loadPgcopydb,
	"dump-dir": loadDumpDir, "dump-pipe": loadDumpPipe, "native": loadNative,
}

// available says whether a contender takes part, and tells once when one should but cannot.
func (l *lab) available(name string) bool {
	if name == "drover" {
		return true
	}
	if !selected(l.peers, name) {
		return false
	}
	if name == "pgcopydb" {
		if _, err := exec.LookPath(name); err != nil {
			l.report.note("pgcopydb: SKIPPED in every row: it is not installed; e2e/bench/setup installs it")
			return false
		}
	}
	return true
}

// timed measures the wall of work.
func timed(work func() error) (usage, error) {
	began := time.Now()
	err := work()
	return usage{wall: time.Since(began)}, err
}

func loadDrover(ctx context.Context, l *lab, from, to string) (usage, error) {
	data, err := os.MkdirTemp(l.tmp, "data-")
	if err != nil {
		return usage{}, err
	}
	defer os.RemoveAll(data)
	m, err := l.drive("copy", l.source.URL(from), l.target.URL(to), "--data", data, "--verify", "none", "--progress", "none")
	if err != nil {
		return usage{}, err
	}
	return m.wait(ctx)
}

// loadPipe is what one can do by hand: a binary pipe for each table, then keys and indexes.
func loadPipe(ctx context.Context, l *lab, from, to string) (usage, error) {
	if err := l.copySchema(ctx, from, to, "pre-data"); err != nil {
		return usage{}, err
	}
	tables, err := dev.Query(ctx, l.source.URL(from), "SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
	if err != nil {
		return usage{}, err
	}
	return timed(func() error {
		for table := range strings.Lines(tables) {
			table = strings.TrimSpace(table)
			err := join(l.command(ctx, "psql", "-qX", "-c", "COPY "+table+" TO STDOUT (FORMAT binary)", l.source.URL(from)),
				l.command(ctx, "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-c", "COPY "+table+" FROM STDIN (FORMAT binary)", l.target.URL(to)))
			if err != nil {
				return err
			}
		}
		return l.copySchema(ctx, from, to, "post-data")
	})
}

func loadPgcopydb(ctx context.Context, l *lab, from, to string) (usage, error) {
	dir := filepath.Join(l.tmp, "pgcopydb")
	defer os.RemoveAll(dir)
	return timed(func() error {
		return l.call(ctx, "pgcopydb", "clone", "--source", l.source.URL(from), "--target", l.target.URL(to),
			"--dir", dir, "--table-jobs", "2", "--index-jobs", "2")
	})
}

func loadDumpDir(ctx context.Context, l *lab, from, to string) (usage, error) {
	dir := filepath.Join(l.tmp, "dump")
	defer os.RemoveAll(dir)
	return timed(func() error {
		if err := l.call(ctx, "pg_dump", "-Fd", "-j2", "-f", dir, "-d", l.source.URL(from)); err != nil {
			return err
		}
		return l.call(ctx, "pg_restore", "-j2", "-d", l.target.URL(to), dir)
	})
}

func loadDumpPipe(ctx context.Context, l *lab, from, to string) (usage, error) {
	return timed(func() error {
		return join(l.command(ctx, "pg_dump", "-d", l.source.URL(from)),
			l.command(ctx, "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-o", os.DevNull, l.target.URL(to)))
	})
}

// loadNative is the initial sync of a subscription whose tables exist already.
func loadNative(ctx context.Context, l *lab, from, to string) (u usage, err error) {
	s := &subscription{l: l, from: from, to: to}
	if err := l.copySchema(ctx, from, to); err != nil {
		return u, err
	}
	if err := l.source.Exec(ctx, from, "CREATE PUBLICATION "+nativeName+" FOR ALL TABLES"); err != nil {
		return u, err
	}
	defer func() { err = errors.Join(err, s.detach(context.WithoutCancel(ctx))) }()
	return timed(func() error { return s.sync(ctx) })
}
