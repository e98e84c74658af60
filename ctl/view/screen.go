package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/droverdb/drover/internal/plural"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// shownPhases are the words of the live display.
var shownPhases = map[string]string{"assess": "ASSESSING", "schema": "SCHEMA", "load": "LOADING", "catch-up": "CATCHING UP",
	"streaming": "STREAMING", "verify": "VERIFYING", "done": "DONE"}

// Screen is the live form of a status: the lines that are redrawn in place. pace remembers former screens and may be nil.
func Screen(raw *controlv1.Status, st Style, pace *Pace) []string {
	s := FromStatus(raw)
	out := []string{head(s, st)}
	if s.Source != "" {
		out = append(out, fit(st.Width, clean(s.Source)+" → "+clean(s.Target), prefixed("bottleneck: ", s.Bottleneck)))
	}
	if s.Waiting != "" {
		for _, l := range wrap("waiting: "+strings.TrimPrefix(clean(s.Waiting), "waiting "), st.Width, 2) {
			out = append(out, st.paint(yellow, l))
		}
	}
	if t := s.Stream; t != nil {
		out = append(out, streamLine(s, t, st))
	}
	if s.Phase == "schema" || s.Phase == "catch-up" {
		out = append(out, fit(st.Width, "schema steps "+Bar(s.Steps.Done, s.Steps.Total, 20)+fmt.Sprintf(" %d/%d", s.Steps.Done, s.Steps.Total)))
	}
	out = append(out, tableLines(raw, st, pace)...)
	for _, f := range s.Failures {
		out = append(out, st.paint(red, clip(fmt.Sprintf("%s %s: %s", f.Code, clean(f.Where), clean(f.Why)), st.Width)))
		if len(out) > maxLines {
			break
		}
	}
	return append(out, footer(raw, s, st))
}

// maxLines bounds the screen so that it fits an ordinary terminal.
const maxLines = 14

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// head is the first line: what, how far, how fast, until when.
func head(s Status, st Style) string {
	word := shownPhases[s.Phase]
	if s.Desired == "paused" || s.Desired == "stopped" {
		word = strings.ToUpper(s.Desired)
	}
	parts := []string{s.Pipeline + "  " + word}
	switch s.Phase {
	case "streaming":
		if t := s.Stream; t != nil {
			parts = append(parts, "lag "+t.LagText(" s"), Short(int64(t.ChangesPerSecond))+" changes/s", Bytes(t.HeldBytes)+" held")
		}
	case "load":
		parts[0] += fmt.Sprintf("  %d %%", percent(s.Load.Progress))
		parts = append(parts, fmt.Sprintf("%s of ~%s", Bytes(s.Load.Bytes), Bytes(s.Load.BytesEstimate)))
		if s.Load.ETA != nil {
			parts = append(parts, "ETA "+secondsRange(s.Load.ETA[0], s.Load.ETA[1]))
		}
		parts = append(parts, Bytes(int64(s.Load.BytesPerSecond))+"/s", Short(int64(s.Load.RowsPerSecond))+" rows/s")
		if n := s.Load.BytesInFlight; n > 0 {
			parts = append(parts, Bytes(n)+" in flight")
		}
	case "verify":
		parts = append(parts, fmt.Sprintf("%d/%s compared", s.Tables.Compared, plural.Of(s.Tables.Total, "table")))
	}
	if s.Phase != "done" { // then there is nothing to stop
		parts = append(parts, st.Hint)
	}
	line := fit(st.Width, parts...)
	colour := map[string]string{"ok": green, "waiting": yellow, "degraded": yellow, "failed": red}[s.Health]
	return strings.Replace(line, word, st.paint(colour, word), 1)
}

func streamLine(s Status, t *Stream, st Style) string {
	parts := []string{"changes: " + Short(t.Changes) + " applied"}
	if s.Phase != "streaming" {
		parts = append(parts, "lag "+t.LagText(" s"), Bytes(t.HeldBytes)+" held")
	}
	return fit(st.Width, append(parts, prefixed("at ", t.Position), Bytes(t.RetainedLogBytes)+" of log kept at the source")...)
}

// The columns of the table list. What a narrow terminal has no room for is left out from the right, the bar shrinks first.
const (
	stateWidth, percentWidth, rowsWidth, rateWidth, etaWidth = 9, 5, 19, 11, 8
	wideBar, narrowBar                                       = 20, 8
)

func tableLines(raw *controlv1.Status, st Style, pace *Pace) []string {
	if len(raw.TopTables) == 0 {
		return nil
	}
	name := 5
	for _, t := range raw.TopTables {
		name = max(name, columns(clean(t.Source)))
	}
	name = min(name, max(12, st.Width/3))
	room := st.Width - name - 1 - stateWidth - percentWidth
	bar := wideBar
	if room < wideBar+2+rowsWidth {
		bar = narrowBar
	}
	room -= bar + 2
	withRows, withRate, withETA := room >= rowsWidth, room >= rowsWidth+rateWidth, room >= rowsWidth+rateWidth+etaWidth
	row := func(table, state, bars, percent, rows, rate, eta string) string {
		line := cell(table, name, false) + " " + cell(state, stateWidth, false) + " " + cell(bars, bar, false) + cell(percent, percentWidth, true)
		for _, c := range []struct {
			on    bool
			text  string
			width int
		}{{withRows, rows, rowsWidth}, {withRate, rate, rateWidth}, {withETA, eta, etaWidth}} {
			if c.on {
				line += cell(c.text, c.width, true)
			}
		}
		return clip(line, st.Width)
	}
	out := []string{st.paint(faint, row("TABLE", "STATE", "PROGRESS", "", "ROWS", "SPEED", "ETA"))}
	for _, t := range raw.TopTables {
		rate, eta := pace.table(t, time.Now())
		percent := fmt.Sprintf("%d %%", percent(t.Fraction))
		bars := tableBar(t, bar)
		line := row(clean(t.Source), t.State, bars, percent, Short(t.Rows)+" of ~"+Short(t.RowsEstimate), rate, eta)
		if done := strings.TrimRight(bars, "░"); done != "" {
			line = strings.Replace(line, done, st.paint(cyan, done), 1)
		}
		if t.State == "failed" {
			line = strings.Replace(line, t.State, st.paint(yellow, t.State), 1)
		}
		out = append(out, line)
	}
	return out
}

// tableBar shows what the target has acknowledged, and lighter what is on its way.
func tableBar(t *controlv1.TableStatus, width int) string {
	done := int(t.Fraction * float64(width))
	acknowledged := min(int(t.FractionAcknowledged*float64(width)), done)
	return strings.Repeat("█", acknowledged) + strings.Repeat("▒", done-acknowledged) + strings.Repeat("░", width-done)
}

func footer(raw *controlv1.Status, s Status, st Style) string {
	loading := int64(0)
	for _, t := range raw.TopTables {
		if t.State == "loading" {
			loading++
		}
	}
	parts := []string{fmt.Sprintf("%d/%s loaded", s.Tables.Done, plural.Of(s.Tables.Total, "table"))}
	add := func(on bool, format string, args ...any) {
		if on {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(s.Tables.Failed > 0, "%d failed", s.Tables.Failed)
	add(loading > 0, "%d loading", loading)
	add(s.Tables.Compared > 0, "verified %d/%d", s.Tables.Equal, s.Tables.Total)
	add(s.Tables.NotFollowed > 0, "%d not followed", s.Tables.NotFollowed)
	add(true, "%d/%s", s.Load.Chunks, plural.Of(s.Load.ChunksTotal, "chunk"))
	add(s.Steps.Total > 0, "%d/%s", s.Steps.Done, plural.Of(s.Steps.Total, "schema step"))
	if len(s.TraceID) >= 8 {
		parts = append(parts, "trace "+s.TraceID[:8])
	}
	return st.paint(faint, fit(st.Width, parts...))
}
