package command

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/droverdb/drover/ctl/view"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// summary prints how a copy ended and returns its exit code as an error.
func (e *env) summary(s *controlv1.Status) error {
	if s == nil {
		return exitError{exitFailed}
	}
	if err := e.showSummary(s, s.Failures); err != nil {
		return err
	}
	switch {
	case s.TablesCompared > s.TablesEqual:
		return exitError{exitDiffers}
	case s.TablesFailed > 0 || len(s.Failures) > 0 && s.Phase == controlv1.Phase_PHASE_DONE:
		return exitError{exitPartly}
	case s.Phase != controlv1.Phase_PHASE_DONE:
		return exitError{exitFailed}
	}
	return nil
}

// failedSummary prints what a copy has done that failed, and all its failures but the first: that is the error.
func (e *env) failedSummary(s *controlv1.Status, err error) error {
	if !ended(s) || s.Phase <= controlv1.Phase_PHASE_ASSESS || len(s.Failures) == 0 {
		return err // nothing was done, or it is not known how it ended
	}
	return cmp.Or(e.showSummary(s, s.Failures[1:]), err)
}

func (e *env) showSummary(s *controlv1.Status, failures []*fleetv1.Failure) error {
	l := view.OneStatus(s, nil, time.Now())
	l.Text = func(w io.Writer, wide bool) { writeSummary(w, s, wide) }
	if err := e.show(l); err != nil {
		return err
	}
	for _, f := range failures {
		view.WriteFailure(e.err, view.FromFailure(f), "")
	}
	return nil
}

func writeSummary(w io.Writer, s *controlv1.Status, wide bool) {
	took := map[controlv1.Phase]float64{}
	total := 0.0
	for _, p := range s.Phases {
		took[p.Phase] += view.PhaseSeconds(p)
		total += view.PhaseSeconds(p)
	}
	row := func(name, text string, p controlv1.Phase) {
		fmt.Fprintf(w, "%-8s %-64s %6.1f s\n", name, text, took[p])
	}
	row("assess", fmt.Sprintf("%d tables · ~%s rows · %s", s.TablesTotal, view.Count64(s.RowsTotalEstimate), view.Bytes(s.BytesTotalEstimate)), controlv1.Phase_PHASE_ASSESS)
	row("schema", fmt.Sprintf("%d tables", s.TablesTotal), controlv1.Phase_PHASE_SCHEMA)
	row("load", fmt.Sprintf("%d/%d tables  %d chunks  %s rows  %s", s.TablesDone, s.TablesTotal, s.ChunksDone, view.Count64(s.RowsLoaded), view.Bytes(s.BytesLoaded)), controlv1.Phase_PHASE_LOAD)
	row("build", fmt.Sprintf("%d indexes, %d foreign keys, %d sequences", s.Indexes, s.ForeignKeys, s.Sequences), controlv1.Phase_PHASE_CATCH_UP)
	if s.TablesCompared > 0 {
		row("verify", fmt.Sprintf("%d/%d tables match (count + checksum)", s.TablesEqual, s.TablesCompared), controlv1.Phase_PHASE_VERIFY)
	}
	if n := len(s.NotCarried); n > 0 {
		fmt.Fprintf(w, "not carried over (%d):\n", n)
		for _, x := range s.NotCarried {
			fmt.Fprintf(w, "  %s %s: %s. %s\n", x.Kind, x.Object, strings.TrimSuffix(x.Reason, "."), x.Todo)
		}
	}
	for _, x := range s.Problems {
		if x.Warning {
			fmt.Fprintf(w, "warning  %s %s: %s\n", x.Code, x.Object, x.Reason)
		}
	}
	word := "done"
	if s.Phase != controlv1.Phase_PHASE_DONE || len(s.Failures) > 0 || s.TablesCompared > s.TablesEqual {
		word = "ended with errors"
	}
	fmt.Fprintf(w, "%s in %.1f s.\n", word, total)
	if wide {
		fmt.Fprintf(w, "pipeline %s: %s → %s", s.Pipeline, s.Source, s.Target)
		if s.TraceId != "" {
			fmt.Fprintf(w, "   trace %s", s.TraceId)
		}
		fmt.Fprintln(w)
	}
}
