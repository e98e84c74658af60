package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
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
	return one(t, Options{NoFsync: true}, settings)
}

// TargetPostgres is Postgres for a server that is a target: of another version, if DROVER_DEV_POSTGRES_TARGET says so.
func TargetPostgres(t testing.TB, settings ...string) *Server {
	t.Helper()
	return one(t, Options{NoFsync: true, Target: true}, settings)
}

func one(t testing.TB, o Options, settings []string) *Server {
	t.Helper()
	o.Settings = map[string]string{}
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

// sharedServer is started by the first test that asks.
type sharedServer struct {
	mu     sync.Mutex
	server *Server
	err    error
}

var (
	shared, sharedTarget sharedServer
	names                atomic.Int64
)

// Shared is the test binary's one server, started by the first test that asks. Main takes it down.
// Do not stop it; other tests use it too.
func Shared(t testing.TB) *Server { return shared.get(t, false) }

// SharedTarget is the one for targets: Shared itself, unless DROVER_DEV_POSTGRES_TARGET names another version.
func SharedTarget(t testing.TB) *Server {
	if os.Getenv(targetVar) == "" {
		return Shared(t)
	}
	return sharedTarget.get(t, true)
}

func (s *sharedServer) get(t testing.TB, target bool) *Server {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil && s.err == nil {
		settings := map[string]string{"max_connections": "200", "max_wal_senders": "50", "max_replication_slots": "50"}
		s.server, s.err = StartPostgres(context.Background(), Options{NoFsync: true, Settings: settings, Target: target})
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.server
}

// Database is the URL of a fresh database on the shared server, dropped with its slots when the test ends.
func Database(t testing.TB) string { return Shared(t).database(t) }

// TargetDatabase is Database for a target, see SharedTarget.
func TargetDatabase(t testing.TB) string { return SharedTarget(t).database(t) }

func (s *Server) database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("t%d_%d", os.Getpid(), names.Add(1))
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

// ForVersion leaves out the lines of SQL that the server of a database does not know: those that end with "-- since 16" on an older
// one, and those that end with "-- before 16" on others.
func ForVersion(t testing.TB, url, sql string) string {
	t.Helper()
	major := Major(t, url)
	var b strings.Builder
	for line := range strings.Lines(sql) {
		text := strings.TrimRight(line, "\n")
		if at := strings.LastIndex(text, "-- "); at >= 0 {
			var word string
			var n int
			_, _ = fmt.Sscanf(text[at:], "-- %s %d", &word, &n) // other comments have no number
			if n > 0 && (word == "since" && major < n || word == "before" && major >= n) {
				continue
			}
		}
		b.WriteString(line)
	}
	return b.String()
}

// Major is the version of a database's server.
func Major(t testing.TB, url string) int {
	t.Helper()
	number, err := strconv.Atoi(MustQuery(t, url, "SHOW server_version_num"))
	if err != nil {
		t.Fatal(err)
	}
	return number / 10000
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
	err := errors.Join(shared.close(), sharedTarget.close())
	root.release()
	return err
}

func (s *sharedServer) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil
	}
	err := s.server.Close()
	s.server = nil
	return err
}
