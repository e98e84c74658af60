package view

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/plural"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// Run is the command that a summary is about: one of several, perhaps, that the pipeline has seen.
type Run struct {
	Began, Ended time.Time
	// RowsBefore were loaded when it began.
	RowsBefore int64
	// Width is that of the terminal; 0: there is none, and no line is broken.
	Width int
}

// Summary is how a copy ended. Its times are those of this run: what others did is no part of them.
func Summary(s *controlv1.Status, r Run) Listing {
	v := FromStatus(s)
	v.Phases, v.Warnings = r.phases(s), []Problem{}
	for _, x := range warnings(s) {
		v.Warnings = append(v.Warnings, fromProblem(x))
	}
	answer := struct {
		Status
		Seconds    float64 `json:"seconds"`
		RowsBefore int64   `json:"rows_loaded_before"`
	}{v, r.seconds(), r.RowsBefore}
	return Listing{Value: answer, Items: []any{answer}, Errors: v.Failures, Rows: [][]string{{v.Pipeline}}, Text: func(w io.Writer, wide bool) {
		t := summary{w, r, v.Phases}
		t.phases(s)
		t.notCarried(s.NotCarried)
		t.warnings(s)
		t.end(s, wide)
	}}
}

func (r Run) seconds() float64 { return tenth(r.Ended.Sub(r.Began).Seconds()) }

// phases are those that ended in this run, each from when the run began at the earliest.
func (r Run) phases(s *controlv1.Status) []Phase {
	phases, began := []Phase{}, r.Began.UnixMicro()
	for _, p := range s.Phases {
		if p.EndedMicros != 0 && p.EndedMicros < began {
			continue
		}
		own := &controlv1.PhaseTime{Phase: p.Phase, StartedMicros: max(p.StartedMicros, began), EndedMicros: p.EndedMicros}
		phases = append(phases, Phase{PhaseName(own.Phase), stamp(own.StartedMicros), PhaseSeconds(own)})
	}
	return phases
}

// summary writes the text of one.
type summary struct {
	w   io.Writer
	run Run
	own []Phase
}

func (t summary) phases(s *controlv1.Status) {
	tables := plural.Of(s.TablesTotal, "table")
	t.row("assess", "assess", fmt.Sprintf("%s · ~%s %s · %s", tables, Count64(s.RowsTotalEstimate), plural.Word(s.RowsTotalEstimate, "row"), Bytes(s.BytesTotalEstimate)))
	t.row("schema", "schema", tables)
	t.row("load", "load", fmt.Sprintf("%d/%s  %s  %s %s  %s", s.TablesDone, tables, plural.Of(s.ChunksDone, "chunk"), Count64(s.RowsLoaded),
		plural.Word(s.RowsLoaded, "row"), Bytes(s.BytesLoaded)))
	t.row("build", "catch-up", fmt.Sprintf("%s, %s, %s", plural.Of(s.Indexes, "index"), plural.Of(s.ForeignKeys, "foreign key"), plural.Of(s.Sequences, "sequence")))
	if s.TablesCompared > 0 {
		match := "match"
		if s.TablesCompared == 1 {
			match = "matches"
		}
		t.row("verify", "verify", fmt.Sprintf("%d/%s %s (count + checksum)", s.TablesEqual, plural.Of(s.TablesCompared, "table"), match))
	}
}

// The columns of a row: what, in words, how long.
const nameWidth, textWidth, tookWidth = 8, 64, 8

// row is a phase with its time, "before" if another run went through it. Words that do not fit go on below.
func (t summary) row(name, phase, text string) {
	took, ran := 0.0, false
	for _, p := range t.own {
		if p.Phase == phase {
			took, ran = took+p.Seconds, true
		}
	}
	time := fmt.Sprintf("%.1f s", took)
	if !ran {
		time = "before"
	}
	room := textWidth
	if t.run.Width > 0 {
		room = min(room, t.run.Width-nameWidth-tookWidth-2)
	}
	if room < 2*nameWidth { // too narrow for columns
		t.line("", name+" "+time)
		t.line("  ", text)
		return
	}
	for i, l := range wrap(text, room, len(text)) {
		if i == 0 && columns(text) <= room {
			l = text // with its own spaces
		}
		line := cell(name, nameWidth, false) + " " + cell(l, room, false) + " " + cell(time, tookWidth, true)
		fmt.Fprintln(t.w, strings.TrimRight(line, " "))
		name, time = "", ""
	}
}

// line breaks text where the terminal ends, and indents what follows.
func (t summary) line(indent, text string) {
	if t.run.Width <= 0 {
		fmt.Fprintln(t.w, indent+text)
		return
	}
	for _, l := range wrap(text, max(1, t.run.Width-len(indent)), len(text)) {
		fmt.Fprintln(t.w, indent+l)
	}
}

func (t summary) notCarried(left []*connectorv1.NotCarried) {
	if len(left) > 0 {
		t.line("", fmt.Sprintf("not carried over (%d):", len(left)))
	}
	for _, x := range left {
		what := fmt.Sprintf("%s %s: %s.", x.Kind, clean(x.Object), strings.TrimSuffix(x.Reason, "."))
		todo, statements, _ := strings.Cut(x.Todo, "\n")
		if t.run.Width > 0 && isSQL(todo) { // it is there to be copied
			t.line("  ", what)
			fmt.Fprintln(t.w, "    "+todo)
		} else {
			t.line("  ", what+" "+todo)
		}
		for sql := range strings.Lines(statements) {
			fmt.Fprintln(t.w, "    "+strings.TrimSuffix(sql, "\n"))
		}
	}
}

// warnings leaves out what the list of what is not carried over has told.
func warnings(s *controlv1.Status) (out []*connectorv1.Problem) {
	for _, x := range s.Problems {
		if x.Warning && !listed(s.NotCarried, x) {
			out = append(out, x)
		}
	}
	return out
}

func (t summary) warnings(s *controlv1.Status) {
	seen := map[string]bool{}
	for _, x := range warnings(s) {
		t.line("", fmt.Sprintf("warning  %s %s: %s", x.Code, clean(x.Object), clean(x.Reason)))
		writeOwnFixes(t.w, x, seen)
	}
}

// listed: a warning beforehand that something will not be carried over came true, and is in the list. What a role is missing
// for, its objects and rights, stands there by its name.
func listed(left []*connectorv1.NotCarried, x *connectorv1.Problem) bool {
	role, isRole := strings.CutPrefix(x.Object, "role ")
	return x.Code == diag.NotCarried.ID && slices.ContainsFunc(left, func(n *connectorv1.NotCarried) bool {
		return n.Kind+" "+n.Object == x.Object || isRole && n.Object == role && (n.Kind == "owner" || n.Kind == "grant")
	})
}

func (t summary) end(s *controlv1.Status, wide bool) {
	if t.run.RowsBefore > 0 {
		t.line("", "resumed; rows loaded before: "+Count64(t.run.RowsBefore))
	}
	word := "done"
	if s.Phase != controlv1.Phase_PHASE_DONE || len(s.Failures) > 0 || s.TablesCompared > s.TablesEqual {
		word = "ended with errors"
	}
	t.line("", fmt.Sprintf("%s in %.1f s.", word, t.run.seconds()))
	if wide {
		trace := ""
		if s.TraceId != "" {
			trace = "   trace " + s.TraceId
		}
		t.line("", fmt.Sprintf("pipeline %s: %s → %s%s", s.Pipeline, s.Source, s.Target, trace))
	}
}
