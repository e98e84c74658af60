package dev

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		helper()
	}
	code := Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		os.Stderr.WriteString(err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}

func TestServer_SurvivesStopKillAndPause(t *testing.T) {
	s := Postgres(t, "work_mem=7MB")
	url := s.URL("postgres")
	if got := MustQuery(t, url, "SHOW work_mem"); got != "7MB" {
		t.Errorf("work_mem = %s", got)
	}
	if got := MustQuery(t, url, "SHOW wal_level"); got != "logical" {
		t.Errorf("wal_level = %s", got)
	}
	MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")

	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := Exec(t.Context(), url, "SELECT 1"); err == nil {
		t.Error("a stopped server answers")
	}
	start(t, s)
	MustExec(t, url, "INSERT INTO t VALUES (2)")

	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	if got := MustQuery(t, url, "SELECT count(*) FROM t"); got != "2" {
		t.Errorf("%s rows after a crash, want 2", got)
	}

	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := Exec(ctx, url, "SELECT 1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused server: %v, want a deadline", err)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	MustExec(t, url, "INSERT INTO t VALUES (3)")
}

func start(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestServer_CloseRemovesEverythingEvenWhenPaused(t *testing.T) {
	s := Postgres(t)
	pid, dir := s.proc.pid, s.dir
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := waitGone([]int{pid}, 0); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder stays: %v", err)
	}
	if err := s.Start(t.Context()); err == nil {
		t.Error("a closed server starts")
	}
}

func TestStartPostgres_ReportsTheServersOwnWords(t *testing.T) {
	_, err := StartPostgres(t.Context(), Options{Settings: map[string]string{"wal_level": "nonsense"}})
	if err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("got %v", err)
	}
}

func TestDatabase_IsFreshAndDropsItsSlots(t *testing.T) {
	var first string
	t.Run("first", func(t *testing.T) {
		first = Database(t)
		MustExec(t, first, "CREATE TABLE t ()", "SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
	})
	second := Database(t)
	if first == second {
		t.Error("the same database twice")
	}
	if got := MustQuery(t, second, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); got != "0" {
		t.Errorf("%s tables in a fresh database", got)
	}
	if got := MustQuery(t, second, "SELECT count(*) FROM pg_replication_slots"); got != "0" {
		t.Errorf("%s slots left", got)
	}
}

func TestDumpSchema_IsEqualForEqualDatabases(t *testing.T) {
	a, b := Database(t), Database(t)
	ddl := "CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL); CREATE INDEX ON t (v)"
	MustExec(t, a, ddl, "CREATE SCHEMA drover; CREATE TABLE drover.token (x int)", "CREATE PUBLICATION p FOR ALL TABLES")
	MustExec(t, b, ddl)
	dump := func(url string) string {
		text, err := DumpSchema(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if da, db := dump(a), dump(b); da != db || !strings.Contains(da, "CREATE INDEX") {
		t.Errorf("dumps differ or are empty:\n%s\n---\n%s", da, db)
	}
	MustExec(t, b, "ALTER TABLE t ADD COLUMN w int")
	if dump(a) == dump(b) {
		t.Error("a further column goes unseen")
	}
}

func TestQuery_TellsNullFromEmpty(t *testing.T) {
	if got := MustQuery(t, Shared(t).URL("postgres"), "VALUES (NULL, ''), ('a', 'b')"); got != "\\N\t\na\tb" {
		t.Errorf("got %q", got)
	}
}

// helperEnv makes this test binary a process that starts a server, prints "pid folder", and waits to be killed.
const helperEnv = "DROVER_DEV_TEST_HELPER"

func helper() {
	s, err := StartPostgres(context.Background(), Options{NoFsync: true})
	if err == nil && os.Getenv(helperEnv) == "paused" {
		err = s.Pause()
	}
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString(strconv.Itoa(s.proc.pid) + " " + s.dir + "\n")
	select {}
}

func TestServer_DiesWithItsParent(t *testing.T) {
	for _, mode := range []string{"running", "paused"} {
		t.Run(mode, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), helperEnv+"="+mode)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line := make([]byte, 4096)
			n, _ := out.Read(line)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			text, dir, _ := strings.Cut(strings.TrimSpace(string(line[:n])), " ")
			pid, err := strconv.Atoi(text)
			if err != nil {
				t.Fatalf("helper said %q", line[:n])
			}
			defer os.RemoveAll(filepath.Dir(dir))
			if err := waitGone([]int{pid}, 20*time.Second); err != nil {
				t.Error(err)
			}
		})
	}
}
