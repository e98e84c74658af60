package view

import (
	"fmt"
	"io"
	"strings"
	"time"
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

// Count64 prints a number with thousands separators.
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

// Line is the plain form: one key=value line. Keys are added at the end, never renamed.
func Line(s Status, now time.Time) string {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s pipeline=%s phase=%s health=%s", now.UTC().Format(time.RFC3339), s.Pipeline, s.Phase, s.Health)
	if s.Desired != "" && s.Desired != "running" {
		fmt.Fprintf(b, " desired=%s", s.Desired)
	}
	fmt.Fprintf(b, " tables=%d/%d rows=%d bytes=%d chunks=%d/%d steps=%d/%d", s.Tables.Done, s.Tables.Total, s.Load.Rows,
		s.Load.Bytes, s.Load.Chunks, s.Load.ChunksTotal, s.Steps.Done, s.Steps.Total)
	if s.Phase == "load" {
		fmt.Fprintf(b, " percent=%d rows_s=%.0f bytes_s=%.0f", percent(s.Load.Progress), s.Load.RowsPerSecond, s.Load.BytesPerSecond)
		if s.Load.ETA != nil {
			fmt.Fprintf(b, " eta_s=%.0f-%.0f", s.Load.ETA[0], s.Load.ETA[1])
		}
	}
	if t := s.Stream; t != nil {
		fmt.Fprintf(b, " lag_s=%s changes_s=%.0f changes=%d held_b=%d retained_b=%d", t.LagText(""), t.ChangesPerSecond,
			t.Changes, t.HeldBytes, t.RetainedLogBytes)
		if t.Position != "" {
			fmt.Fprintf(b, " position=%s", t.Position)
		}
	}
	if s.Tables.Compared > 0 {
		fmt.Fprintf(b, " equal=%d/%d", s.Tables.Equal, s.Tables.Compared)
	}
	fmt.Fprintf(b, " errors=%d held=%d", len(s.Failures), s.Tables.Failed)
	if s.Bottleneck != "" {
		fmt.Fprintf(b, " bottleneck=%q", s.Bottleneck)
	}
	if s.Waiting != "" {
		fmt.Fprintf(b, " waiting=%q", s.Waiting)
	}
	if s.Phase == "load" {
		fmt.Fprintf(b, " in_flight_b=%d", s.Load.BytesInFlight)
	}
	fmt.Fprintf(b, " failed=%d", s.Tables.Failed)
	if s.Tables.EqualAt != "" {
		fmt.Fprintf(b, " equal_at=%s", s.Tables.EqualAt)
	}
	if s.Tables.NotFollowed > 0 {
		fmt.Fprintf(b, " not_followed=%d", s.Tables.NotFollowed)
	}
	return b.String()
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
