package view

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// Style says what the place that text goes to can show.
type Style struct {
	Width int
	// Color: the terminal understands colours and the user has not refused them (NO_COLOR).
	Color bool
	// Hint is what Ctrl-C does, e.g. "ctrl-c detaches, it keeps running".
	Hint string
}

const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
	faint  = "2"
)

// paint colours s, or leaves it alone.
func (st Style) paint(code, s string) string {
	if !st.Color || s == "" || code == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// plainGlyphs replaces our own decoration where the locale's character set has none of it.
var plainGlyphs = strings.NewReplacer("█", "#", "▒", "=", "░", ".", "·", "|", "→", ">", "…", "~", "–", "-", "✗", "x", "✓", "+", "›", ">")

// ASCII is a writer for places whose locale is not UTF-8: Drover's own glyphs become ASCII of the same width, names of tables pass as they are.
func ASCII(w io.Writer) io.Writer { return asciiWriter{w} }

type asciiWriter struct{ w io.Writer }

func (a asciiWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(a.w, plainGlyphs.Replace(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// UTF8 reports whether a locale's character set is UTF-8; get reads the environment.
func UTF8(get func(string) string) bool {
	for _, v := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if s := get(v); s != "" {
			s = strings.ToUpper(s)
			return strings.Contains(s, "UTF-8") || strings.Contains(s, "UTF8")
		}
	}
	return false
}

// columns is how many columns of a terminal s takes.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// clean makes a name harmless on a terminal: a control character in it could move the cursor or worse.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
}

// clip cuts s to at most n columns.
func clip(s string, n int) string {
	if columns(s) <= n {
		return s
	}
	used := 0
	for i, r := range s {
		if used += runeColumns(r); used > n-1 {
			return s[:i] + "…"
		}
	}
	return s
}

// wrap breaks s between words into lines of at most n columns; what does not fit into most lines is cut.
func wrap(s string, n, most int) (lines []string) {
	for words := strings.Fields(s); len(words) > 0; {
		line := words[0]
		words = words[1:]
		for len(words) > 0 && (columns(line)+1+columns(words[0]) <= n || len(lines) == most-1) {
			line, words = line+" "+words[0], words[1:]
		}
		lines = append(lines, clip(line, n))
	}
	return lines
}

// cell is s in exactly n columns, to the left or, for numbers, to the right.
func cell(s string, n int, right bool) string {
	s = clip(s, n)
	pad := strings.Repeat(" ", max(0, n-columns(s)))
	if right {
		return pad + s
	}
	return s + pad
}

// fit joins parts by three spaces, the least important last, and leaves out what does not fit.
func fit(n int, parts ...string) string {
	var kept []string
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	for len(kept) > 1 && columns(strings.Join(kept, "   ")) > n {
		kept = kept[:len(kept)-1]
	}
	return clip(strings.Join(kept, "   "), n)
}

// Seconds prints a duration the way people say it.
func Seconds(s float64) string {
	switch {
	case s < 90:
		return fmt.Sprintf("%.0f s", max(s, 0))
	case s < 90*60:
		return fmt.Sprintf("%.0f min", s/60)
	case s < 48*3600:
		return fmt.Sprintf("%.1f h", s/3600)
	}
	return fmt.Sprintf("%.0f d", s/86400)
}

// secondsRange prints a range, or one value where both ends read the same.
func secondsRange(lo, hi float64) string {
	a, b := Seconds(lo), Seconds(hi)
	if a == b {
		return a
	}
	n, unit, _ := strings.Cut(a, " ")
	if strings.HasSuffix(b, " "+unit) {
		return n + "–" + b
	}
	return a + " – " + b
}

// Short prints a count with a unit: 412 M.
func Short(n int64) string {
	switch f := float64(n); {
	case n < 1_000_000:
		return Count64(n)
	case n < 10_000_000:
		return fmt.Sprintf("%.2f M", f/1e6)
	case n < 10_000_000_000:
		return fmt.Sprintf("%.0f M", f/1e6)
	}
	return fmt.Sprintf("%.1f G", float64(n)/1e9)
}
