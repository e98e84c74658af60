package view

import (
	"fmt"
	"io"
	"time"

	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// Event is one line of a pipeline's log.
type Event struct {
	Time     string `json:"time"`
	Pipeline string `json:"pipeline"`
	Level    string `json:"level"`
	Text     string `json:"text"`
}

// FromLog builds the view of a line.
func FromLog(pipeline string, l *controlv1.LogsResponse) Event {
	return Event{moment(l.Micros), pipeline, l.Level, l.Text}
}

// moment is a time to the microsecond, always of one length, so that times sort as text; empty: it is not known.
func moment(micros int64) string {
	if micros == 0 {
		return ""
	}
	return time.UnixMicro(micros).UTC().Format("2006-01-02T15:04:05.000000Z")
}

// LogList lists events. A log is read as lines, with and without headings.
func LogList(pipeline string, all []Event) Listing {
	l := Listing{Value: struct {
		Version  int     `json:"version"`
		Pipeline string  `json:"pipeline"`
		Events   []Event `json:"events"`
	}{Version, pipeline, append([]Event{}, all...)}}
	for _, e := range all {
		l.Items, l.Rows = append(l.Items, e), append(l.Rows, []string{e.Time})
	}
	l.Text = func(w io.Writer, wide bool) {
		for _, e := range all {
			fmt.Fprintln(w, e.line(wide))
		}
	}
	return l
}

// WriteEvent prints one event of a log that is followed.
func WriteEvent(out, data io.Writer, e Event, format string) error {
	switch format {
	case "json", "jsonl", "yaml":
		return WriteItem(data, e, format)
	}
	return LogList(e.Pipeline, []Event{e}).Write(out, data, format)
}

// line is the event for people: milliseconds, and -o wide says which pipeline and gives all digits.
func (e Event) line(wide bool) string {
	if wide {
		return fmt.Sprintf("%s %-5s %s %s", e.Time, e.Level, e.Pipeline, e.Text)
	}
	return fmt.Sprintf("%sZ %-5s %s", e.Time[:min(len(e.Time), len("2006-01-02T15:04:05.000"))], e.Level, e.Text)
}
