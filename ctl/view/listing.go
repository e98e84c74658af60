package view

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
)

// Formats are the words that -o takes. table is for people, wide the same with all that is known; json and yaml are one
// document, jsonl one for each item on a line of its own; name is the first column alone.
var Formats = []string{"table", "wide", "json", "yaml", "jsonl", "name"}

// Column of a listing.
type Column struct {
	Head string
	// Wide columns are shown by -o wide only; Right is for numbers.
	Wide, Right bool
}

// Listing is what a verb answers, in every form.
type Listing struct {
	// Value is what json and yaml hold; Items are its parts for jsonl.
	Value any
	Items []any
	// Errors are beside Value: why the exit code is not 0.
	Errors []Failure
	// Rows have a cell for each column; the first one names the row.
	Columns []Column
	Rows    [][]string
	// Text takes the place of the table where people expect other words; nil: the table.
	Text func(w io.Writer, wide bool)
}

// Write prints the listing. Text goes to out, whose glyphs may be replaced; what programs read goes to data as it is.
func (l Listing) Write(out, data io.Writer, format string) error {
	switch format {
	case "json":
		return writeJSON(data, document{l.Value, l.Errors}, "  ")
	case "yaml":
		return writeYAML(data, document{l.Value, l.Errors})
	case "jsonl":
		for _, x := range l.Items {
			if err := WriteItem(data, x, format); err != nil {
				return err
			}
		}
		return nil
	case "name":
		for _, r := range l.Rows {
			fmt.Fprintln(data, clean(r[0]))
		}
		return nil
	}
	if l.Text != nil {
		l.Text(out, format == "wide")
		return nil
	}
	l.table(out, format == "wide")
	return nil
}

// WriteItem prints one item of an answer that has no end: a document a line, or one after another in YAML.
func WriteItem(w io.Writer, item any, format string) error {
	if format == "yaml" {
		fmt.Fprintln(w, "---")
		return writeYAML(w, item)
	}
	return writeJSON(w, versioned{item}, "")
}

// document is an answer as one document: every one of them tells its errors, most often none.
type document struct {
	answer any
	errors []Failure
}

// MarshalJSON puts the errors last.
func (d document) MarshalJSON() ([]byte, error) {
	b, err := encode(d.answer, "")
	if err != nil {
		return nil, err
	}
	errors, err := encode(append([]Failure{}, d.errors...), "")
	return fmt.Appendf(nil, `%s,"errors":%s}`, bytes.TrimSuffix(bytes.TrimSpace(b), []byte("}")), errors), err
}

// Failed is the answer of a verb that has none but its errors.
func Failed(errors []Failure, next []string) Listing {
	type nothing struct {
		Version int      `json:"version"`
		Next    []string `json:"next_steps"`
	}
	return Listing{Value: nothing{Version, append([]string{}, next...)}, Errors: errors}
}

// versioned tells the version of the layout in an item that is read alone.
type versioned struct{ item any }

// MarshalJSON puts the version first, unless the item tells it itself.
func (v versioned) MarshalJSON() ([]byte, error) {
	b, err := encode(v.item, "")
	if err != nil || bytes.HasPrefix(b, []byte(`{"version":`)) {
		return b, err
	}
	return append(fmt.Appendf(nil, `{"version":%d,`, Version), b[1:]...), nil
}

// encode leaves < and > as people know them: nothing of this goes into a page.
func encode(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err := enc.Encode(v)
	return b.Bytes(), err
}

func writeJSON(w io.Writer, v any, indent string) error {
	b, err := encode(v, indent)
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}

// writeYAML goes by way of JSON, so that both have the same keys in the same order.
func writeYAML(w io.Writer, v any) error {
	b, err := encode(v, "")
	if err != nil {
		return err
	}
	var same any
	if err := yaml.UnmarshalWithOptions(b, &same, yaml.UseOrderedMap()); err != nil {
		return err
	}
	if b, err = yaml.MarshalWithOptions(same, yaml.CustomMarshaler[string](yamlString)); err == nil {
		_, err = w.Write(b)
	}
	return err
}

// yamlString writes text plain where every reader takes it for text, else as JSON does: a name such as 1e3 is no number.
func yamlString(s string) ([]byte, error) {
	odd := func(r rune) bool { return !unicode.IsPrint(r) } // tabs, line ends, spaces that only look like one
	first, _ := utf8.DecodeRuneInString(s)
	if plain, err := yaml.Marshal(s); err == nil && unicode.IsLetter(first) && !strings.ContainsFunc(s, odd) {
		return bytes.TrimSpace(plain), nil
	}
	b, err := encode(s, "")
	return bytes.TrimSpace(b), err
}

func (l Listing) table(w io.Writer, wide bool) {
	var shown []int
	for i, c := range l.Columns {
		if wide || !c.Wide {
			shown = append(shown, i)
		}
	}
	head := make([]string, len(l.Columns))
	widths := make([]int, len(l.Columns))
	for i, c := range l.Columns {
		head[i], widths[i] = c.Head, columns(c.Head)
	}
	for _, r := range l.Rows {
		for i, cell := range r {
			widths[i] = max(widths[i], columns(clean(cell)))
		}
	}
	for _, r := range append([][]string{head}, l.Rows...) {
		var b strings.Builder
		for _, i := range shown {
			b.WriteString(cell(clean(r[i]), widths[i], l.Columns[i].Right) + "  ")
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// Answer is a listing of one thing, with words of its own for people.
func Answer(name string, value any, text func(w io.Writer, wide bool)) Listing {
	return Listing{Value: versioned{value}, Items: []any{value}, Rows: [][]string{{name}}, Text: text}
}
