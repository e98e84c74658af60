package view

import (
	"fmt"
	"io"
	"strings"
	"time"

	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// Pipelines lists pipelines, each with its whole status in JSON.
func Pipelines(all []*controlv1.Status) Listing {
	l := Listing{Columns: []Column{{Head: "PIPELINE"}, {Head: "PHASE"}, {Head: "HEALTH"}, {Head: "MODE"}, {Head: "DATABASES"}, {Head: "DESIRED", Wide: true},
		{Head: "TABLES", Wide: true, Right: true}, {Head: "LOADED", Wide: true, Right: true}, {Head: "ROWS", Wide: true, Right: true},
		{Head: "BYTES", Wide: true, Right: true}, {Head: "LAG", Wide: true, Right: true}, {Head: "POSITION", Wide: true}, {Head: "CREATED", Wide: true},
		{Head: "WAITING", Wide: true}}}
	views := []Status{}
	for _, s := range all {
		v := FromStatus(s)
		lag, position := "–", "–"
		if v.Stream != nil {
			lag, position = v.Stream.LagText(" s"), v.Stream.Position
		}
		views, l.Items = append(views, v), append(l.Items, v)
		l.Rows = append(l.Rows, []string{v.Pipeline, v.Phase, standing(v), v.Mode, databases(v), v.Desired, fmt.Sprintf("%d/%d", v.Tables.Done, v.Tables.Total),
			fmt.Sprintf("%d %%", percent(v.Load.Progress)), Count64(v.Load.Rows), Bytes(v.Load.Bytes), lag, position, v.Created, v.Waiting})
	}
	l.Value = struct {
		Version   int      `json:"version"`
		Pipelines []Status `json:"pipelines"`
	}{Version, views}
	return l
}

// standing is the health of a pipeline that runs; of one that rests, that it does. A failure is told in any case.
func standing(v Status) string {
	rests := v.Desired == "paused" || v.Desired == "stopped"
	if rests && v.Phase != "done" && (v.Health == "ok" || v.Health == "waiting") {
		return v.Desired
	}
	return v.Health
}

// databases names both ends once they are known.
func databases(v Status) string {
	if v.Source == "" {
		return "–"
	}
	return v.Source + " → " + v.Target
}

// OneStatus is the answer about one pipeline. On a terminal (screen) it is the live display once, else a line.
func OneStatus(s *controlv1.Status, screen *Style, now time.Time) Listing {
	v := FromStatus(s)
	return Listing{Value: v, Items: []any{v}, Rows: [][]string{{v.Pipeline}}, Text: func(w io.Writer, wide bool) {
		if screen == nil {
			line := Line(v, now)
			if wide {
				line += moreKeys(v)
			}
			fmt.Fprintln(w, line)
			return
		}
		lines := Screen(s, *screen, nil)
		if wide {
			lines = append(lines, moreLines(v, screen.Width)...)
		}
		for _, l := range lines {
			fmt.Fprintln(w, l)
		}
	}}
}

// moreKeys is what -o wide adds to a line.
func moreKeys(v Status) string {
	b := &strings.Builder{}
	fmt.Fprintf(b, " mode=%s source=%q target=%q rows_estimate=%d bytes_estimate=%d created=%s", v.Mode, v.Source, v.Target, v.Load.RowsEstimate,
		v.Load.BytesEstimate, v.Created)
	if t := v.Stream; t != nil {
		fmt.Fprintf(b, " transactions=%d overlapping=%d read_lag_s=%.1f read_lag_b=%d transfer_lag_s=%.1f transfer_lag_b=%d apply_lag_s=%.1f apply_lag_b=%d",
			t.Transactions, t.Overlapping, t.Read.Seconds, t.Read.Bytes, t.Transfer.Seconds, t.Transfer.Bytes, t.Apply.Seconds, t.Apply.Bytes)
	}
	if v.TraceID != "" {
		fmt.Fprintf(b, " trace=%s", v.TraceID)
	}
	return b.String()
}

// moreLines is what -o wide adds to a screen.
func moreLines(v Status, width int) []string {
	var phases []string
	for _, p := range v.Phases {
		took := "now"
		if p.Seconds > 0 {
			took = fmt.Sprintf("%.1f s", p.Seconds)
		}
		phases = append(phases, p.Phase+" "+took)
	}
	out := []string{fit(width, append([]string{v.Mode, "since " + v.Created}, phases...)...)}
	if t := v.Stream; t != nil {
		out = append(out, fit(width, "lag: read "+t.Read.text(), "transfer "+t.Transfer.text(), "apply "+t.Apply.text(), Count64(t.Transactions)+" transactions"))
	}
	return append(out, clip(prefixed("trace ", v.TraceID), width))
}

func (l Lag) text() string { return fmt.Sprintf("%.1f s, %s", l.Seconds, Bytes(l.Bytes)) }
