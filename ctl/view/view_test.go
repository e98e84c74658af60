package view

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// go test ./ctl/view -update writes the golden files again.
var update = flag.Bool("update", false, "write the golden files again")

const started = int64(1772416330_000000)

// loading is a status with every field set.
func loading() *controlv1.Status {
	return &controlv1.Status{
		Pipeline: "shop", Phase: controlv1.Phase_PHASE_LOAD, Health: controlv1.Health_HEALTH_DEGRADED, Desired: controlv1.Desired_DESIRED_RUNNING,
		Mode: controlv1.Mode_MODE_FULL_LOAD_AND_CDC, Source: "old:5432/shop", Target: "new:5432/shop", TablesTotal: 87, TablesDone: 81, TablesFailed: 1,
		RowsTotalEstimate: 2_000_000, RowsLoaded: 1_200_000, BytesTotalEstimate: 200 << 20, BytesLoaded: 126 << 20, RowsPerSecond: 12000, BytesPerSecond: 3 << 20,
		ChunksTotal: 40, ChunksDone: 25, StepsTotal: 300, StepsDone: 120, TablesCompared: 3, TablesEqual: 2, EqualAtMicros: started + 30_000000, TablesNotFollowed: 1, LagSeconds: 0.84, ChangesPerSecond: 3410,
		Stream: &fleetv1.StreamProgress{AppliedPrintable: "3A/9F10C2D8", Transactions: 100, Changes: 918273, HeldBytes: 1 << 20, RetainedLogBytes: 48 << 20, OverlappingChunks: 2, LagKnown: true},
		Failures: []*fleetv1.Failure{{Code: "E3006", Where: "source › table shop.audit_log", Why: "no key", Fix: []string{"ALTER TABLE shop.audit_log REPLICA IDENTITY FULL;"},
			Class: fleetv1.FailureClass_FAILURE_CLASS_HOLD}},
		NotCarried: []*connectorv1.NotCarried{{Kind: "view", Object: "shop.v", Reason: "it needs a table that is left out", Todo: "create it by hand"}},
		NextSteps:  []string{"drover resume shop"}, CreatedMicros: started, UpdatedMicros: started + 60_000000,
		Phases: []*controlv1.PhaseTime{{Phase: controlv1.Phase_PHASE_ASSESS, StartedMicros: started - 2_500000, EndedMicros: started}, {Phase: controlv1.Phase_PHASE_LOAD, StartedMicros: started}},
		TopTables: []*controlv1.TableStatus{
			{Source: "shop.orders", State: "loading", RowsEstimate: 606_118_204, Rows: 412_000_000, Bytes: 90 << 20, ChunksTotal: 10, ChunksDone: 7, Fraction: 0.78, FractionAcknowledged: 0.68, BytesInFlight: 5 << 20},
			{Source: "shop.\x1b[2Jévil", State: "loading", RowsEstimate: 0, Rows: 0, ChunksTotal: 4, ChunksDone: 1, Fraction: 0.25, FractionAcknowledged: 0.25},
			{Source: "shop.audit_log", State: "failed", RowsEstimate: 100, ChunksTotal: 1},
			{Source: "shop.長い名前の表", State: "loading", RowsEstimate: 700, Rows: 700, ChunksTotal: 2, ChunksDone: 1, Fraction: 0.5, FractionAcknowledged: 0.5},
		},
		Bottleneck: "reading the source", Waiting: "the transaction of pid 4711 at the source (user shop, application nightly report, open for 42 s) to end", TraceId: "4bf92f3577b34da6a3ce929d0e0e4736",
		Indexes: 5, ForeignKeys: 6, Sequences: 7, LoadFraction: 0.63, RowsInFlight: 1000, BytesInFlight: 5 << 20,
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != got {
		t.Errorf("%s (%v); got:\n%s", path, err, got)
	}
}

func TestStatus_JSONKeepsItsShape(t *testing.T) {
	b, err := json.MarshalIndent(FromStatus(loading()), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "status.json", string(b)+"\n")
}

func TestLine_KeepsItsKeys(t *testing.T) {
	now := time.UnixMicro(started + 60_000000)
	streaming := loading()
	streaming.Phase, streaming.Health, streaming.Waiting, streaming.Bottleneck = controlv1.Phase_PHASE_STREAMING, controlv1.Health_HEALTH_OK, "", ""
	behind := loading()
	behind.Stream.LagKnown = false
	if s := FromStatus(behind); s.Stream.LagSeconds != nil || !strings.Contains(Line(s, now), " lag_s=unknown ") {
		t.Errorf("a lag that nobody knows is shown as %v: %s", s.Stream.LagSeconds, Line(s, now))
	}
	golden(t, "lines.txt", Line(FromStatus(loading()), now)+"\n"+Line(FromStatus(streaming), now)+"\n")
}

func TestScreen_FitsEveryWidth(t *testing.T) {
	var all strings.Builder
	for _, width := range []int{120, 80, 60, 40, 20} {
		all.WriteString(strings.Repeat("=", width) + "\n")
		for _, l := range Screen(loading(), Style{Width: width, Hint: "ctrl-c detaches, it keeps running"}, nil) {
			if n := columns(l); n > width {
				t.Errorf("%d columns where %d fit: %q", n, width, l)
			}
			all.WriteString(l + "\n")
		}
	}
	if strings.Contains(all.String(), "\x1b") {
		t.Error("a table's name moves the cursor")
	}
	golden(t, "screens.txt", all.String())
}

func TestScreen_HintsAtNothingOnceItIsDone(t *testing.T) {
	s := loading()
	s.Phase = controlv1.Phase_PHASE_DONE
	if l := Screen(s, Style{Width: 200, Hint: "ctrl-c stops"}, nil); strings.Contains(strings.Join(l, " "), "ctrl-c") {
		t.Errorf("%q", l)
	}
}

func TestScreen_AnyPhaseOfAnEmptyStatus(t *testing.T) {
	for p := range controlv1.Phase_name {
		if l := Screen(&controlv1.Status{Pipeline: "x", Phase: controlv1.Phase(p)}, Style{Width: 80, Color: true}, &Pace{}); len(l) < 2 {
			t.Errorf("phase %d: %q", p, l)
		}
	}
}

func TestASCII_ChangesGlyphsAndKeepsNames(t *testing.T) {
	var b strings.Builder
	in := "a → b · █░ é…"
	if n, err := ASCII(&b).Write([]byte(in)); err != nil || n != len(in) {
		t.Errorf("%d, %v", n, err)
	}
	if b.String() != "a > b | #. é~" {
		t.Errorf("%q", b.String())
	}
}

func TestUTF8_FollowsTheLocale(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, false}, {map[string]string{"LANG": "C"}, false}, {map[string]string{"LANG": "de_DE.UTF-8"}, true}, {map[string]string{"LANG": "C.utf8"}, true},
		{map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, false}, {map[string]string{"LANG": "C", "LC_CTYPE": "en_US.UTF-8"}, true},
	} {
		if got := UTF8(func(k string) string { return c.env[k] }); got != c.want {
			t.Errorf("%v: %v", c.env, got)
		}
	}
}

func TestPace_MeasuresATablesOwnSpeed(t *testing.T) {
	p, now := &Pace{}, time.Unix(1000, 0)
	table := &controlv1.TableStatus{Source: "a"}
	if rate, left := p.table(table, now); rate != "–" || left != "–" {
		t.Errorf("one sample: %s %s", rate, left)
	}
	table.Bytes, table.BytesInFlight, table.Fraction = 15<<20, 5<<20, 0.25
	if rate, left := p.table(table, now.Add(10*time.Second)); rate != "2.0 MiB/s" || left != "30 s" {
		t.Errorf("two samples: %s %s", rate, left)
	}
}

func TestWrap_BreaksBetweenWordsAndCutsAtLast(t *testing.T) {
	for n, want := range map[int]string{40: "one two three four", 9: "one two|three fo…", 5: "one|two …", 1: "…|…", 100: "one two three four"} {
		if got := strings.Join(wrap("one two three four", n, 2), "|"); got != want {
			t.Errorf("%d columns: %q, not %q", n, got, want)
		}
	}
	if wrap("", 10, 2) != nil {
		t.Error("nothing is a line")
	}
}
