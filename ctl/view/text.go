package view

import (
	"fmt"
	"io"
	"strings"
	"time"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// Bytes prints a size with a binary unit.
func Bytes(n int64) string {
	f, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	i := 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// Count prints a number with thousands separators.
func Count64(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Bar draws a progress bar of the given width in characters.
func Bar(done, total int64, width int) string {
	if total <= 0 {
		return strings.Repeat("░", width)
	}
	n := int(float64(width) * min(1, float64(done)/float64(total)))
	return strings.Repeat("█", n) + strings.Repeat("░", width-n)
}

// Percent is done of total in whole percent; it shows 100 only when everything is done.
func Percent(done, total int64) int {
	if total <= 0 {
		return 0
	}
	p := int(100 * float64(done) / float64(total))
	if p >= 100 && done < total {
		return 99
	}
	return min(p, 100)
}

// Line is the plain form: one key=value line.
func Line(s Status, now time.Time) string {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s pipeline=%s phase=%s health=%s", now.UTC().Format(time.RFC3339), s.Pipeline, s.Phase, s.Health)
	fmt.Fprintf(b, " tables=%d/%d rows=%d bytes=%d chunks=%d/%d steps=%d/%d", s.Tables.Done, s.Tables.Total, s.Load.Rows,
		s.Load.Bytes, s.Load.Chunks, s.Load.ChunksTotal, s.Steps.Done, s.Steps.Total)
	if t := s.Stream; t != nil {
		fmt.Fprintf(b, " lag_s=%.1f changes_s=%.0f changes=%d held_b=%d retained_b=%d", t.LagSeconds, t.ChangesPerSecond,
			t.Changes, t.HeldBytes, t.RetainedLogBytes)
	}
	fmt.Fprintf(b, " errors=%d", len(s.Failures))
	if s.Waiting != "" {
		fmt.Fprintf(b, " waiting=%q", s.Waiting)
	}
	return b.String()
}

// Screen is the live form: the lines that are redrawn in place.
func Screen(raw *controlv1.Status, width int) []string {
	s := FromStatus(raw)
	head := fmt.Sprintf("%s  %s", s.Pipeline, strings.ToUpper(s.Phase))
	var out []string
	switch {
	case s.Phase == "streaming" && s.Stream != nil:
		head += fmt.Sprintf("  lag %.1f s   %.0f changes/s   %s unread", s.Stream.LagSeconds, s.Stream.ChangesPerSecond, Bytes(s.Stream.HeldBytes))
	case s.Load.BytesEstimate > 0:
		head += fmt.Sprintf("  %d %%   %s / ~%s   %s/s   %s rows/s", loadPercent(s), Bytes(s.Load.Bytes), Bytes(s.Load.BytesEstimate),
			Bytes(int64(s.Load.BytesPerSecond)), Count64(int64(s.Load.RowsPerSecond)))
	}
	out = append(out, head, fmt.Sprintf("source %s   target %s", s.Source, s.Target))
	if s.Waiting != "" {
		out = append(out, "waiting: "+s.Waiting)
	}
	for _, t := range raw.TopTables {
		if len(out) > 9 {
			break
		}
		out = append(out, tableLine(t))
	}
	out = append(out, fmt.Sprintf("%d/%d tables loaded · %d/%d chunks · %d/%d schema steps · %d errors", s.Tables.Done, s.Tables.Total,
		s.Load.Chunks, s.Load.ChunksTotal, s.Steps.Done, s.Steps.Total, len(s.Failures)))
	for i, l := range out {
		out[i] = clip(l, width)
	}
	return out
}

func loadPercent(s Status) int {
	if s.Tables.Total > 0 && s.Tables.Done == s.Tables.Total {
		return 100
	}
	return min(99, Percent(s.Load.Bytes, s.Load.BytesEstimate))
}

func tableLine(t *controlv1.TableStatus) string {
	return fmt.Sprintf("%-32s %-9s %s %10s rows  %d/%d chunks", clip(t.Source, 32), t.State, Bar(t.ChunksDone, t.ChunksTotal, 20),
		Count64(t.Rows), t.ChunksDone, t.ChunksTotal)
}

func clip(s string, width int) string {
	r := []rune(s)
	if width < 8 || len(r) <= width {
		return s
	}
	return string(r[:width-1]) + "…"
}

// WriteFailure prints an error in its four parts.
func WriteFailure(w io.Writer, f Failure, title string) {
	if title != "" {
		title = ": " + title
	}
	fmt.Fprintf(w, "error %s%s\n", f.Code, title)
	part(w, "where", f.Where)
	part(w, "why", f.Why)
	for i, x := range f.Fix {
		name := "fix"
		if i > 0 {
			name = ""
		}
		part(w, name, x)
	}
	if f.Code != "" {
		part(w, "more", "drover explain "+f.Code)
	}
}

func part(w io.Writer, name, text string) {
	if text == "" {
		return
	}
	for i, l := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if i > 0 {
			name = ""
		}
		fmt.Fprintf(w, "  %-6s %s\n", name, l)
	}
}

// WriteProblems prints what a check found, worst first, each with its fix.
func WriteProblems(w io.Writer, checks int32, problems []*connectorv1.Problem) {
	failed, warned := 0, 0
	for _, p := range problems {
		if p.Warning {
			warned++
		} else {
			failed++
		}
	}
	fmt.Fprintf(w, "%d checks: %d ok · %d warnings · %d failed\n", checks, max(0, int(checks)-failed-warned), warned, failed)
	for _, warning := range []bool{false, true} {
		for _, p := range problems {
			if p.Warning != warning {
				continue
			}
			mark := "✗"
			if warning {
				mark = "!"
			}
			fmt.Fprintf(w, "%s %s %s: %s\n", mark, p.Code, p.Object, p.Reason)
			for _, f := range p.Fix {
				fmt.Fprintf(w, "    %s> %s\n", p.Side, f)
			}
		}
	}
}
