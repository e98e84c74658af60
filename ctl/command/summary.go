package command

import (
	"time"

	"golang.org/x/term"

	"github.com/droverdb/drover/ctl/view"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// summary prints how a copy ended and returns its exit code as an error.
func (e *env) summary(s *controlv1.Status, run view.Run) error {
	if s == nil {
		return exitError{exitFailed}
	}
	run.Ended = time.Now()
	if width := e.width(); width > 0 {
		run.Width = width - 1 // a full line would break
	}
	if err := e.show(view.Summary(s, run)); err != nil {
		return err
	}
	for _, f := range s.Failures {
		v := view.FromFailure(f)
		view.WriteFailure(e.err, v, "")
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
