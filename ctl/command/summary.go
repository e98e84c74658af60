package command

import (
	"cmp"
	"time"

	"golang.org/x/term"

	"github.com/droverdb/drover/ctl/view"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// summary prints how a copy ended and returns its exit code as an error.
func (e *env) summary(s *controlv1.Status, run view.Run) error {
	if s == nil {
		return exitError{exitFailed}
	}
	if err := e.showSummary(s, run, s.Failures); err != nil {
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
func (e *env) failedSummary(s *controlv1.Status, run view.Run, err error) error {
	if !ended(s) || s.Phase <= controlv1.Phase_PHASE_ASSESS || len(s.Failures) == 0 {
		return err // nothing was done, or it is not known how it ended
	}
	return cmp.Or(e.showSummary(s, run, s.Failures[1:]), err)
}

func (e *env) showSummary(s *controlv1.Status, run view.Run, failures []*fleetv1.Failure) error {
	run.Ended = time.Now()
	if width := e.width(); width > 0 {
		run.Width = width - 1 // a full line would break
	}
	if err := e.show(view.Summary(s, run)); err != nil {
		return err
	}
	for _, f := range failures {
		view.WriteFailure(e.err, view.FromFailure(f), "")
	}
	return nil
}

// width is that of the terminal that answers go to, 0 without one.
func (e *env) width() int {
	if e.outTerm == nil {
		return 0
	}
	width, _, err := term.GetSize(int(e.outTerm.Fd()))
	if err != nil || width <= 0 {
		return 80
	}
	return width
}
