package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/droverdb/drover/ctl/view"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/plural"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// errTimeout is why the context of a verb ends when its --timeout has passed.
var errTimeout = errors.New("the time of --timeout has passed")

// wait is what a verb waits for, and what becomes of it when the verb ends without it.
type wait struct{ where, what, fix string }

// limited gives a verb --timeout. Verbs may say meanwhile what they wait for; the first word is given here.
func (e *env) limited(c *cobra.Command, about func(args []string) wait) *cobra.Command {
	var limit time.Duration
	c.Flags().DurationVar(&limit, "timeout", 0, "end with exit code 6 when this has passed, such as 30s or 2h (0: never); work under way is not undone")
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case limit < 0:
			return diag.Usage.New("--timeout", nil, "%v is less than nothing", limit)
		case limit == 0:
			return run(c, args)
		}
		ctx, cancel := context.WithTimeoutCause(c.Context(), limit, errTimeout)
		defer cancel()
		c.SetContext(ctx)
		e.waits = about(args)
		err := run(c, args)
		if end, _ := ctx.Deadline(); errors.Is(err, context.DeadlineExceeded) && time.Until(end) < time.Second {
			<-ctx.Done() // the other end's clock was ahead
		}
		if !timedOut(ctx) || !unfinished(err) {
			return err
		}
		return diag.TimedOut.New(e.waits.where, nil, "%v were not enough; it waited for %s", limit, e.waits.what).WithFix(e.waits.fix)
	}
	return c
}

func timedOut(ctx context.Context) bool { return errors.Is(context.Cause(ctx), errTimeout) }

// unfinished reports whether an error only says that there was no time left: what went wrong otherwise is told as it is.
func unfinished(err error) bool {
	return errors.Is(err, errTimeout) || errors.Is(err, context.DeadlineExceeded) || cutOff(err)
}

// waitsFor keeps what a pipeline that is watched waits for.
func (e *env) waitsFor(s *controlv1.Status) {
	v := view.FromStatus(s)
	what := "the end of phase " + v.Phase
	if s.Phase == controlv1.Phase_PHASE_STREAMING {
		what = "an end: it streams, in sync"
	}
	if n := v.Tables.Total; n > 0 {
		what += fmt.Sprintf(", %d of %s loaded", v.Tables.Done, plural.Of(n, "table"))
	}
	if v.Waiting != "" {
		what += "; waiting for " + strings.TrimPrefix(v.Waiting, "waiting for ")
	}
	e.waits.what = what
}

// ordered is of a verb that gives a coordinator an order.
func ordered(args []string) wait {
	return wait{"pipeline " + args[0], "the coordinator to take the order", "It may have been taken, and the pipeline keeps running: drover status " + args[0]}
}
