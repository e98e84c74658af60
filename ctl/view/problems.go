package view

import (
	"fmt"
	"io"
	"strings"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// Problem is a finding of a check.
type Problem struct {
	Code    string   `json:"code"`
	Warning bool     `json:"warning"`
	Side    string   `json:"side"`
	Object  string   `json:"object"`
	Reason  string   `json:"reason"`
	Fix     []string `json:"fix"`
}

func fromProblem(p *connectorv1.Problem) Problem {
	return Problem{p.Code, p.Warning, p.Side, p.Object, p.Reason, append([]string{}, p.Fix...)}
}

// Diagnosis is what the doctor found.
func Diagnosis(r *controlv1.DoctorResponse, next []string) Listing {
	views := []Problem{}
	l := Listing{Text: func(w io.Writer, wide bool) {
		fmt.Fprintf(w, "%s → %s     ", r.Source, r.Target)
		writeProblems(w, r.Checks, r.Problems, wide)
		for _, n := range next {
			fmt.Fprintln(w, "all fixes as a script: "+n)
		}
	}}
	for _, p := range r.Problems {
		v := fromProblem(p)
		if !p.Warning {
			l.Errors = append(l.Errors, FromProblem(p))
		}
		views, l.Items, l.Rows = append(views, v), append(l.Items, v), append(l.Rows, []string{p.Code})
	}
	l.Value = struct {
		Version  int       `json:"version"`
		Source   string    `json:"source"`
		Target   string    `json:"target"`
		Checks   int32     `json:"checks"`
		Problems []Problem `json:"problems"`
		Next     []string  `json:"next_steps"`
	}{Version, r.Source, r.Target, r.Checks, views, append([]string{}, next...)}
	return l
}

// FromProblem is a finding in the four parts of an error.
func FromProblem(p *connectorv1.Problem) Failure {
	where := p.Object
	if p.Side != "" && !strings.HasPrefix(where, "--") { // a flag is of neither
		where = p.Side + " › " + where
	}
	return Failure{Code: p.Code, Where: where, Why: p.Reason, Fix: append([]string{}, p.Fix...)}
}

// WriteProblems prints what a check found, worst first, each with its fix.
func WriteProblems(w io.Writer, checks int32, problems []*connectorv1.Problem) {
	writeProblems(w, checks, problems, false)
}

func writeProblems(w io.Writer, checks int32, problems []*connectorv1.Problem, wide bool) {
	failed, warned := 0, 0
	for _, p := range problems {
		if p.Warning {
			warned++
		} else {
			failed++
		}
	}
	fmt.Fprintf(w, "%d checks: %d ok · %d warnings · %d failed\n", checks, max(0, int(checks)-failed-warned), warned, failed)
	seen := map[string]bool{}
	for _, warning := range []bool{false, true} {
		for _, p := range problems {
			if p.Warning == warning {
				writeProblem(w, p, wide, seen)
			}
		}
	}
}

// writeProblem prints one finding; wide says also why it matters. A remark that several findings share is said once.
func writeProblem(w io.Writer, p *connectorv1.Problem, wide bool, seen map[string]bool) {
	mark := "✗"
	if p.Warning {
		mark = "!"
	}
	fmt.Fprintf(w, "%s %s %s: %s\n", mark, p.Code, clean(p.Object), clean(p.Reason))
	if c, ok := diag.Lookup(p.Code); ok && wide {
		fmt.Fprintf(w, "    %s. %s\n", c.Title, c.Explain)
	}
	writeFixes(w, p, seen)
}

func writeFixes(w io.Writer, p *connectorv1.Problem, seen map[string]bool) {
	for _, f := range p.Fix {
		if strings.HasPrefix(f, "--") && said(seen, p.Side+f) {
			continue
		}
		fmt.Fprintf(w, "    %s> %s\n", p.Side, f)
	}
}

// said reports whether something was said before, and remembers it.
func said(seen map[string]bool, what string) bool {
	before := seen[what]
	seen[what] = true
	return before
}

// writeOwnFixes leaves general advice to `drover explain`.
func writeOwnFixes(w io.Writer, p *connectorv1.Problem, seen map[string]bool) {
	if c, ok := diag.Lookup(p.Code); !ok || len(p.Fix) != 1 || p.Fix[0] != c.Fix {
		writeFixes(w, p, seen)
	}
}

// Script is what mends one side, as SQL: what a person has to do otherwise, or complete first, is a comment in it.
func Script(problems []*connectorv1.Problem, side string) (lines []string) {
	seen := map[string]bool{}
	for _, p := range problems {
		for _, fix := range p.Fix {
			switch {
			case p.Side != side, said(seen, fix):
			case isSQL(fix):
				lines = append(lines, fix)
			default:
				lines = append(lines, "-- "+p.Object+": "+strings.ReplaceAll(strings.TrimPrefix(fix, "-- "), "\n", "\n-- "))
			}
		}
	}
	return lines
}

// isSQL tells a statement that can be run from advice: it begins with a command, ends somewhere, and nothing is left out.
func isSQL(fix string) bool {
	verb, _, _ := strings.Cut(fix, " ")
	return verb == strings.ToUpper(verb) && !strings.HasPrefix(fix, "--") && strings.Contains(fix, ";") && !strings.Contains(fix, "…")
}
