package view

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// copied is a copy that failed once: assess ended long before the run that is summed up, the build was begun before it.
func copied() (*controlv1.Status, Run) {
	began := time.UnixMicro(started)
	at := func(seconds float64) int64 { return began.Add(time.Duration(seconds * 1e9)).UnixMicro() }
	phase := func(p controlv1.Phase, from, to float64) *controlv1.PhaseTime {
		return &controlv1.PhaseTime{Phase: p, StartedMicros: at(from), EndedMicros: at(to)}
	}
	s := &controlv1.Status{Pipeline: "shop", Phase: controlv1.Phase_PHASE_DONE, Health: controlv1.Health_HEALTH_OK, Mode: controlv1.Mode_MODE_FULL_LOAD,
		Source: "old:5432/shop", Target: "new:5432/shop", TablesTotal: 1, TablesDone: 1, TablesCompared: 1, TablesEqual: 1, RowsTotalEstimate: 1, RowsLoaded: 1200,
		BytesLoaded: 5 << 20, BytesTotalEstimate: 5 << 20, ChunksDone: 1, ChunksTotal: 1, Indexes: 1, ForeignKeys: 2, TraceId: "4bf92f3577b34da6a3ce929d0e0e4736",
		Phases: []*controlv1.PhaseTime{phase(controlv1.Phase_PHASE_ASSESS, -17.2, -1), phase(controlv1.Phase_PHASE_SCHEMA, -0.5, 0.25),
			phase(controlv1.Phase_PHASE_LOAD, 0.25, 1), phase(controlv1.Phase_PHASE_CATCH_UP, 1, 1.5), phase(controlv1.Phase_PHASE_VERIFY, 1.5, 1.6),
			{Phase: controlv1.Phase_PHASE_DONE, StartedMicros: at(1.6)}},
		NotCarried: []*connectorv1.NotCarried{
			{Kind: "owner", Object: "ghost", Reason: "the role does not exist at the target; it would own 1 object", Todo: `CREATE ROLE "ghost";  -- then run the same command again`},
			{Kind: "view", Object: "shop.v", Reason: "it needs a table that is left out", Todo: "create it by hand once what it needs is there"}},
		Problems: []*connectorv1.Problem{
			{Code: "W4004", Warning: true, Side: "target", Object: "role ghost", Reason: "it owns 1 object at the source, and it does not exist here"},
			{Code: "W4004", Warning: true, Side: "target", Object: "database shop", Reason: "its settings are the owner's"},
			{Code: "W4005", Warning: true, Side: "source", Object: "table shop.audit", Reason: "no unique index without nulls"}},
	}
	return s, Run{Began: began, Ended: began.Add(1690 * time.Millisecond), RowsBefore: 1000}
}

// Its times are those of the command, and each thing is told once, whatever the width.
func TestSummary_IsOfThisRunAndFits(t *testing.T) {
	var all strings.Builder
	for _, width := range []int{0, 100, 80, 30, 12} {
		s, run := copied()
		run.Width = width
		var b strings.Builder
		Summary(s, run).Text(&b, width != 80)
		for _, l := range strings.Split(b.String(), "\n") {
			if n := columns(l); width > 0 && n > width && !strings.HasPrefix(l, "    CREATE ROLE") {
				t.Errorf("%d columns where %d fit: %q", n, width, l)
			}
		}
		if n := strings.Count(b.String(), "ghost") - strings.Count(b.String(), `CREATE ROLE "ghost"`); n != 1 {
			t.Errorf("the role is named %d times:\n%s", n, b.String())
		}
		all.WriteString(strings.Repeat("=", width) + "\n" + b.String())
	}
	golden(t, "summary.txt", all.String())
}

func TestSummary_JSONTellsTheRun(t *testing.T) {
	var b strings.Builder
	s, run := copied()
	if err := Summary(s, run).Write(nil, &b, "json"); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Version    int
		Pipeline   string
		Seconds    float64
		RowsBefore int64 `json:"rows_loaded_before"`
		Phases     []Phase
		Errors     []Failure
	}
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != Version || got.Seconds != 1.7 || got.RowsBefore != 1000 || got.Errors == nil || len(got.Phases) != 5 || got.Phases[0].Seconds != 0.25 {
		t.Errorf("%+v", got)
	}
}
