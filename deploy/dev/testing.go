package dev

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres starts a server for one test and takes it down with it. Settings read "name=value".
// Without server binaries the test fails; it never passes by being skipped.
func Postgres(t testing.TB, settings ...string) *Server {
	t.Helper()
	o := Options{NoFsync: true, Settings: map[string]string{}}
	for _, setting := range settings {
		name, value, ok := strings.Cut(setting, "=")
		if !ok {
			t.Fatalf("dev: setting %q has no '='", setting)
		}
		o.Settings[name] = value
	}
	s, err := StartPostgres(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var shared struct {
	mu     sync.Mutex
	server *Server
	err    error
	names  atomic.Int64
}

// Shared is the test binary's one server, started by the first test that asks. Main takes it down.
// Do not stop it; other tests use it too.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil && shared.err == nil {
		settings := map[string]string{"max_connections": "200", "max_wal_senders": "50", "max_replication_slots": "50"}
		shared.server, shared.err = StartPostgres(context.Background(), Options{NoFsync: true, Settings: settings})
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// Database is the URL of a fresh database on the shared server, dropped with its slots when the test ends.
func Database(t testing.TB) string {
	t.Helper()
	s := Shared(t)
	name := fmt.Sprintf("t%d_%d", os.Getpid(), shared.names.Add(1))
	if err := s.CreateDatabase(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.DropDatabase(ctx, name); err != nil {
			t.Error(err)
		}
	})
	return s.URL(name)
}

// Clone is the URL of a copy of a database of the shared server, made by the server itself. Nobody may be connected to it.
func Clone(t testing.TB, of string) string {
	t.Helper()
	to := Database(t)
	name := func(at string) string {
		config, err := pgx.ParseConfig(at)
		if err != nil {
			t.Fatal(err)
		}
		return pgx.Identifier{config.Database}.Sanitize()
	}
	MustExec(t, Shared(t).URL("postgres"), "DROP DATABASE "+name(to), "CREATE DATABASE "+name(to)+" TEMPLATE "+name(of))
	return to
}

// MustExec runs SQL or fails the test.
func MustExec(t testing.TB, url string, sql ...string) {
	t.Helper()
	for _, one := range sql {
		if err := Exec(t.Context(), url, one); err != nil {
			t.Fatalf("%v\nin: %s", err, one)
		}
	}
}

// MustQuery returns a statement's text (see Query) or fails the test.
func MustQuery(t testing.TB, url, sql string) string {
	t.Helper()
	text, err := Query(t.Context(), url, sql)
	if err != nil {
		t.Fatalf("%v\nin: %s", err, sql)
	}
	return text
}

// Main runs a package's tests and then takes the shared server down: os.Exit(dev.Main(m)) in TestMain.
func Main(m interface{ Run() int }) int {
	root.retain()
	code := m.Run()
	if err := closeShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

func closeShared() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	var err error
	if shared.server != nil {
		err = shared.server.Close()
		shared.server = nil
	}
	root.release()
	return err
}
