package copy_test

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

var colour = regexp.MustCompile(`\x1b\[\d+m`)

// colourful is a terminal of today, dull one of a machine without locales.
var (
	colourful = []string{"LC_ALL=C.UTF-8", "TERM=xterm", "NO_COLOR="}
	dull      = []string{"LC_ALL=C", "TERM=xterm", "NO_COLOR=1"}
)

func TestTerminal_IsRedrawnInPlaceAndStopsOnInterrupt(t *testing.T) {
	source, target := pair(t)
	data := t.TempDir()
	x := harness.StartTerminal(t, harness.Command{Args: []string{"copy", source, target, "--follow", "--name", "tty", "--data", data}, Env: colourful}, 80, 24)
	x.WaitFor(t, "STREAMING", 60*time.Second)
	requireWidth(t, x, 80)
	if s := x.Screen(); strings.Count(s, "tables loaded") != 1 || strings.Count(s, "tty  ") != 1 {
		t.Errorf("the display was not redrawn in place:\n%s", s)
	}
	watch := harness.StartTerminal(t, harness.Command{Args: []string{"status", "tty", "-w", "--data", data}, Env: colourful}, 100, 24)
	watch.WaitFor(t, "ctrl-c detaches", 10*time.Second)
	log, _, _ := strings.Cut(dev.MustQuery(t, source, "SELECT pg_current_wal_lsn()"), "/")
	watch.WaitFor(t, "at "+log+"/", 10*time.Second) // the applied position, as PostgreSQL writes it
	watch.Type(t, "\x03")
	if code := watch.Wait(); code != 0 || !strings.Contains(watch.Screen(), "detached: tty keeps running") {
		t.Errorf("exit code %d after detaching:\n%s", code, watch.Screen())
	}
	awaitPhase(t, "tty", data, "streaming")
	x.Type(t, "\x03")
	if code := x.Wait(); code != 130 || !strings.Contains(x.Screen(), "run the same command again to go on") {
		t.Errorf("exit code %d after Ctrl-C:\n%s", code, x.Screen())
	}
}

func TestTerminal_ShowsBarsWideNarrowAndWithoutUTF8(t *testing.T) {
	source, target := pair(t)
	data := t.TempDir()
	// The load waits, so that the screens have something to show.
	p := harness.Start(t, harness.Command{Args: []string{"copy", source, target, "--follow", "--name", "bars", "--data", data},
		Env: []string{"DROVER_FAULT=load.before-read=sleep:4s"}})
	p.WaitForOutput(t, "phase=load", 60*time.Second)
	args := []string{"status", "bars", "-w", "--data", data}
	wide := harness.StartTerminal(t, harness.Command{Args: args, Env: colourful}, 80, 24)
	narrow := harness.StartTerminal(t, harness.Command{Args: args, Env: dull}, 44, 9)
	wide.WaitFor(t, "TABLE", 30*time.Second)
	narrow.WaitFor(t, "TABLE", 30*time.Second)
	for _, want := range []string{"bars  LOADING", "░░░░░░░░", "public.child", "0 of ~15,000"} {
		if s := wide.Screen(); !strings.Contains(s, want) {
			t.Errorf("no %q on the wide screen:\n%s", want, s)
		}
	}
	for _, want := range []string{"bars  LOADING", "........", "public.child", "0/8 tables loaded"} {
		if s := narrow.Screen(); !strings.Contains(s, want) {
			t.Errorf("no %q on the narrow screen:\n%s", want, s)
		}
	}
	if s := narrow.Screen(); strings.Count(s, "\n") > 9 {
		t.Errorf("more lines than the terminal has:\n%s", s)
	}
	requireWidth(t, wide, 80)
	requireWidth(t, narrow, 44)
	if !colour.MatchString(wide.Raw()) || colour.MatchString(narrow.Raw()) {
		t.Error("colour where NO_COLOR is set, or none where it is not")
	}
	if strings.ContainsAny(narrow.Raw(), "█░·→–…") {
		t.Errorf("glyphs that the locale does not have:\n%q", narrow.Raw())
	}
	p.WaitForOutput(t, "phase=streaming", 60*time.Second)
	if strings.Contains(p.Stderr(), "\x1b") {
		t.Errorf("control sequences in a pipe: %q", p.Stderr())
	}
}

// The summary of a narrow terminal fits it, too, and names a foreign key once.
func TestTerminal_SummaryFits(t *testing.T) {
	source, target := pair(t)
	x := harness.StartTerminal(t, harness.Command{Args: []string{"copy", source, target, "--tables", "public.child", "--data", t.TempDir()}, Env: colourful}, 30, 24)
	if code := x.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	x.WaitFor(t, "done in", 10*time.Second)
	requireWidth(t, x, 30)
	if s := strings.Join(strings.Fields(x.Screen()), " "); strings.Count(s, "foreign key public.child.") != 1 || strings.Contains(s, "foreign key rows") || strings.Contains(s, "1 tables") {
		t.Errorf("the key is not named once, or one table is many:\n%s", s)
	}
}

func requireWidth(t *testing.T, x *harness.Terminal, width int) {
	t.Helper()
	for _, l := range strings.Split(x.Screen(), "\n") {
		if n := utf8.RuneCountInString(l); n >= width {
			t.Errorf("a line of %d columns: %q", n, l)
		}
	}
}
