package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
)

// shared is one lab for all tests, at a thousandth of the size: starting two servers costs more than most tests.
var shared struct {
	once sync.Once
	lab  *lab
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.lab != nil {
		shared.lab.close()
	}
	os.Exit(code)
}

// tiny is the shared lab with a report of its own. Where drover does not run, any file stands in for the binary.
func tiny(t *testing.T) *lab {
	t.Helper()
	shared.once.Do(func() {
		shared.lab, shared.err = openLab(context.Background(), options{scale: 0.001, runs: 1, drover: os.Args[0], hasty: true})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	l := *shared.lab
	l.report = newReport(l.options)
	return &l
}

func TestLoaders_CopyRowsAndIndexes(t *testing.T) {
	l := tiny(t)
	if _, err := l.filled(t.Context(), "mixed", append(wide(l), small(2000)(l)...)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pipe", "dump-dir", "dump-pipe", "native", "pgcopydb"} {
		if !l.available(name) {
			continue
		}
		u, err := l.loadOnce(t.Context(), name, "mixed")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if u.wall <= 0 {
			t.Errorf("%s took no time", name)
		}
	}
}

// standIn is called like drover and copies in another way, so that the program is tested apart from what it measures.
const standIn = `#!/bin/sh
set -e
[ "$1" = copy ]
pg_dump "$2" | psql -qX -v ON_ERROR_STOP=1 -o /dev/null "$3"
`

func TestRun_MeasuresAndPrints(t *testing.T) {
	t.Setenv("PATH", tiny(t).bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	script := filepath.Join(t.TempDir(), "drover")
	if err := os.WriteFile(script, []byte(standIn), 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	code := run(t.Context(), []string{"-scale", "0.001", "-runs", "1", "-only", "tables,tables-200,empty", "-peers", "dump-pipe", "-drover", script}, &out)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"| tables   | dump-pipe |", "tables-200 → tables", "| empty "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "NOT MEASURED") {
		t.Error(out.String())
	}
}

func TestSame_NoticesAMissingRow(t *testing.T) {
	l := tiny(t)
	for _, s := range []*dev.Server{l.source, l.target} {
		if err := errors.Join(s.CreateDatabase(t.Context(), "x"), s.Exec(t.Context(), "x", "CREATE TABLE a (i int)")); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.same(t.Context(), "x", "x"); err != nil {
		t.Fatal(err)
	}
	if err := l.source.Exec(t.Context(), "x", "INSERT INTO a VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	if err := l.same(t.Context(), "x", "x"); err == nil {
		t.Fatal("a missing row went unnoticed")
	}
}

func TestSubscription_DrainsEveryBacklog(t *testing.T) {
	l := tiny(t)
	for _, w := range streams() {
		from := "native_" + w.name
		if err := l.source.CreateDatabase(t.Context(), from); err != nil {
			t.Fatal(err)
		}
		if err := w.fill(t.Context(), l, from); err != nil {
			t.Fatal(err)
		}
		if err := l.target.CreateDatabase(t.Context(), from); err != nil {
			t.Fatal(err)
		}
		s := &subscription{l: l, from: from, to: from}
		if err := s.attach(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.gather(t.Context(), l, from); err != nil {
			t.Fatal(err)
		}
		if err := l.source.Exec(t.Context(), from, "INSERT INTO bench_mark VALUES (7)"); err != nil {
			t.Fatal(err)
		}
		if _, err := l.drain(t.Context(), s, from, 7); err != nil {
			t.Errorf("%s: %v", w.name, err)
		}
		if err := s.detach(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestBeats_MeasureTheNativeSubscription(t *testing.T) {
	l := tiny(t)
	const db = "beats"
	if err := errors.Join(l.source.CreateDatabase(t.Context(), db), l.target.CreateDatabase(t.Context(), db),
		l.source.Exec(t.Context(), db, "CREATE TABLE bench_beat (run int, writer int, n int, PRIMARY KEY (run, writer, n)); "+markTable)); err != nil {
		t.Fatal(err)
	}
	s := &subscription{l: l, from: db, to: db}
	if err := s.attach(t.Context()); err != nil {
		t.Fatal(err)
	}
	late, _, err := l.beats(t.Context(), s, db, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(late) != beatRate {
		t.Errorf("%d latencies, want %d", len(late), beatRate)
	}
	if err := s.detach(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestReadLog_ComparesTheConnectorWithRecvlogical(t *testing.T) {
	l := tiny(t)
	if err := readLog(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if len(l.report.ratios) != 2 {
		t.Errorf("rows: %v", l.report.ratios)
	}
}

func TestMeter_CountsMemoryAndCPUOfChildren(t *testing.T) {
	script := filepath.Join(t.TempDir(), "busy")
	// The work is done by a grandchild; the shell that is measured only waits for it.
	if err := os.WriteFile(script, []byte("#!/bin/sh\nsh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'\n:\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	l := &lab{options: options{drover: script}, tmp: t.TempDir()}
	m, err := l.drive()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	u, err := m.wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if u.cpu < 20*time.Millisecond || u.rss <= 0 || u.wall <= 0 {
		t.Errorf("usage: %+v", u)
	}
}

func TestReport_TellsOverFromOk(t *testing.T) {
	r := newReport(options{scale: 1, runs: 3})
	r.ratio("a", "pipe", time.Second, 900*time.Millisecond, 1)
	r.ratio("b", "pipe", time.Second, 1100*time.Millisecond, 1)
	r.took("a", usage{rss: 500 << 20, cpu: time.Second, disk: gigabyte}, true)
	r.drover["narrow-1m"], r.drover["narrow"] = usage{wall: time.Second, rss: 1}, usage{wall: 12 * time.Second, rss: 1}
	r.growth()
	var b bytes.Buffer
	r.print(&b)
	for _, want := range []string{"| a        | pipe | 1.000  | 0.900    | 0.90  | 1.00  | ok       |", "| 1.10  | 1.00  | **over** |", "500 MB", "× 12.0"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if n := strings.Count(b.String(), "**over**"); n != 3 {
		t.Errorf("%d rows are over, want 3:\n%s", n, b.String())
	}
}

func TestParse_RefusesUnknownNames(t *testing.T) {
	for _, args := range [][]string{{"-only", "nothing"}, {"-peers", "nobody"}, {"-scale", "0"}, {"-runs", "0"}, {"-what"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}

func TestTypical_TakesMediansAndTheHighestMemory(t *testing.T) {
	u := typical([]usage{{wall: 3, cpu: 1, rss: 10}, {wall: 1, cpu: 3, rss: 30}, {wall: 2, cpu: 2, rss: 20}})
	if u.wall != 2 || u.cpu != 2 || u.rss != 30 {
		t.Errorf("%+v", u)
	}
}
