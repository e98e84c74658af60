package postgres

import (
	"regexp"
	"strings"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// filter decides which tables belong to a pipeline: patterns "schema.table" with * and ?, parts in double
// quotes are literal. A pattern without a dot names a table of any schema.
type filter struct {
	include, exclude []*pattern
}

type pattern struct {
	text    string
	re      *regexp.Regexp
	matched bool
}

func newFilter(include, exclude []string) (*filter, error) {
	f := &filter{}
	for list, texts := range map[*[]*pattern][]string{&f.include: include, &f.exclude: exclude} {
		for _, text := range texts {
			p, err := newPattern(text)
			if err != nil {
				return nil, err
			}
			*list = append(*list, p)
		}
	}
	return f, nil
}

func newPattern(text string) (*pattern, error) {
	var parts []string
	var b strings.Builder
	quoted := false
	for i, r := range text {
		switch {
		case r == '"' && quoted && strings.HasPrefix(text[i+1:], `"`) && !strings.HasSuffix(b.String(), "\x00"):
			b.WriteString("\x00") // first half of a doubled quote
		case r == '"' && quoted && strings.HasSuffix(b.String(), "\x00"):
			s := strings.TrimSuffix(b.String(), "\x00")
			b.Reset()
			b.WriteString(s + `"`)
		case r == '"':
			quoted = !quoted
		case quoted:
			b.WriteString(regexp.QuoteMeta(string(r)))
		case r == '.':
			parts = append(parts, b.String())
			b.Reset()
		case r == '*':
			b.WriteString(".*")
		case r == '?':
			b.WriteString(".")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	parts = append(parts, b.String())
	if quoted || len(parts) > 2 || text == "" {
		return nil, diag.SpecInvalid.New("tables › "+text, nil, "a pattern reads schema.table").
			WithFix(`shop.*, *.orders or "My Schema"."a.b"`)
	}
	if len(parts) == 1 {
		parts = []string{".*", parts[0]}
	}
	// The separator cannot occur in a name.
	re, err := regexp.Compile(`(?s)^` + parts[0] + "\x00" + parts[1] + `$`)
	if err != nil {
		return nil, diag.SpecInvalid.New("tables › "+text, err, "the pattern cannot be read")
	}
	return &pattern{text: text, re: re}, nil
}

// match marks every pattern that fits, so that a pattern hidden by another one is not called a mistake.
func (f *filter) match(schema, table string) bool {
	in, out := len(f.include) == 0, false
	for _, p := range f.include {
		if p.fits(schema, table) {
			in = true
		}
	}
	for _, p := range f.exclude {
		if p.fits(schema, table) {
			out = true
		}
	}
	return in && !out
}

func (p *pattern) fits(schema, table string) bool {
	if !p.re.MatchString(schema + "\x00" + table) {
		return false
	}
	p.matched = true
	return true
}

func (f *filter) unmatched() []*connectorv1.Problem {
	var out []*connectorv1.Problem
	for _, p := range append(append([]*pattern(nil), f.include...), f.exclude...) {
		if !p.matched {
			out = append(out, problem(diag.NothingToCopy, "source", "tables › "+p.text, "no table has a name like that"))
		}
	}
	return out
}

// problem makes a finding of a code; codes that start with W are warnings.
func problem(code diag.Code, side, object, reason string, fix ...string) *connectorv1.Problem {
	if len(fix) == 0 {
		fix = []string{code.Fix}
	}
	return &connectorv1.Problem{
		Code: code.ID, Warning: strings.HasPrefix(code.ID, "W"), Object: object, Reason: reason, Fix: fix, Side: side,
	}
}
