package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/scratch"
)

// lab is where everything runs: two servers, the binary, a folder.
type lab struct {
	options
	source, target *dev.Server
	bin            string // folder of the server's own client programs
	tmp            string // the folder of scratch
	scratch        *scratch.Folder
	began          time.Time
	report         *report
}

// serverSettings keep background work of the servers out of the measurements; they stay as durable as in production.
// A subscription is started again at once: with the default interval it would idle for up to 5 s before it drains.
var serverSettings = map[string]string{
	"shared_buffers":                   "1GB",
	"maintenance_work_mem":             "512MB",
	"max_wal_size":                     "16GB",
	"min_wal_size":                     "8GB",
	"checkpoint_timeout":               "1h",
	"autovacuum":                       "off",
	"max_locks_per_transaction":        "512",
	"max_logical_replication_workers":  "8",
	"max_worker_processes":             "16",
	"wal_retrieve_retry_interval":      "50ms",
	"log_min_messages":                 "fatal",
	"max_connections":                  "100",
	"max_parallel_maintenance_workers": "2",
}

func openLab(ctx context.Context, o options) (*lab, error) {
	l := &lab{options: o, began: time.Now(), report: newReport(o)}
	var err error
	if l.drover, err = filepath.Abs(o.drover); err != nil {
		return nil, err
	}
	if _, err := os.Stat(l.drover); err != nil {
		return nil, fmt.Errorf("bench: no binary to measure: %w; run make build", err)
	}
	if l.scratch, err = scratch.New("bench"); err != nil {
		return nil, err
	}
	l.tmp = l.scratch.Path
	server := dev.Options{Settings: serverSettings, NoFsync: o.hasty}
	l.source, err = dev.StartPostgres(ctx, server)
	if err == nil {
		l.target, err = dev.StartPostgres(ctx, server)
	}
	if err == nil {
		l.bin, err = dev.Query(ctx, l.source.URL("postgres"), "SELECT setting FROM pg_config WHERE name = 'BINDIR'")
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// close takes everything down; the servers die with us in any case.
func (l *lab) close() {
	for _, s := range []*dev.Server{l.source, l.target} {
		if s == nil {
			continue
		}
		if err := s.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	_ = l.scratch.Close()
}

func (l *lab) step(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%7.1f s  %s\n", time.Since(l.began).Seconds(), fmt.Sprintf(format, args...))
}

// n is a size of the full benchmark, scaled; never below the floor.
func (l *lab) n(full, floor int) int { return max(floor, int(float64(full)*l.scale)) }

// command is a program of the server's distribution, or one found in PATH.
func (l *lab) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	path := filepath.Join(l.bin, name)
	if _, err := os.Stat(path); err != nil {
		path = name
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "PATH="+l.bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	cmd.Dir = l.tmp
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// call runs a program to its end; what it wrote is in the error.
func (l *lab) call(ctx context.Context, name string, args ...string) error {
	if out, err := l.command(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, tail(out))
	}
	return nil
}

// join runs two programs with a pipe between them.
func join(from, to *exec.Cmd) error {
	var fromErr, toErr bytes.Buffer
	from.Stderr, to.Stderr = &fromErr, &toErr
	pipe, err := from.StdoutPipe()
	if err != nil {
		return err
	}
	to.Stdin = pipe
	if err := from.Start(); err != nil {
		return err
	}
	if err := to.Run(); err != nil {
		_ = pipe.Close() // the writer ends with a broken pipe
		return errors.Join(fmt.Errorf("%s: %w: %s", filepath.Base(to.Path), err, tail(toErr.Bytes())), from.Wait())
	}
	if err := from.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(from.Path), err, tail(fromErr.Bytes()))
	}
	return nil
}

func tail(out []byte) string { return strings.TrimSpace(string(out[max(0, len(out)-1500):])) }

// copySchema copies parts of a schema: "pre-data" (tables), "post-data" (keys, indexes), or both.
func (l *lab) copySchema(ctx context.Context, from, to string, sections ...string) error {
	args := []string{"--no-publications", "--no-subscriptions", "--schema-only", "-d", l.source.URL(from)}
	for _, section := range sections {
		args = append(args, "--section="+section)
	}
	return join(l.command(ctx, "pg_dump", args...), l.command(ctx, "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-o", os.DevNull, l.target.URL(to)))
}

// settle writes out what earlier work left in memory, so that no contender pays for another one.
func (l *lab) settle(ctx context.Context) error {
	return errors.Join(l.source.Exec(ctx, "postgres", "CHECKPOINT"), l.target.Exec(ctx, "postgres", "CHECKPOINT"))
}

// fingerprint counts a database's rows and indexes, whatever its tables are.
const fingerprint = `SELECT count(*) || ' tables, ' ||
	coalesce(sum((xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %s', c.oid::regclass), false, true, '')))[1]::text::bigint), 0) || ' rows, ' ||
	(SELECT count(*) FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace s ON s.oid = t.relnamespace WHERE s.nspname = 'public') || ' indexes'
FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace WHERE c.relkind = 'r' AND s.nspname = 'public'`

// same fails unless source and target have as many tables, rows and indexes.
func (l *lab) same(ctx context.Context, from, to string) error {
	a, err := dev.Query(ctx, l.source.URL(from), fingerprint)
	if err != nil {
		return err
	}
	b, err := dev.Query(ctx, l.target.URL(to), fingerprint)
	if err == nil && a != b {
		err = fmt.Errorf("source has %s, target %s", a, b)
	}
	return err
}

// until polls a query until it answers want.
func until(ctx context.Context, url, query, want string, every time.Duration) error {
	for {
		got, err := dev.Query(ctx, url, query)
		if err != nil || got == want {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s is %q, want %q", ctx.Err(), query, got, want)
		case <-time.After(every):
		}
	}
}
