package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/droverdb/drover/ctl/view"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// remote turns a control error back into a coded one.
func (e *env) remote(err error) error {
	return wire.Call(context.Background(), err, "coordinator", diag.NoCoord)
}

// follow applies a spec, starts it and shows it until it ends. The last status is returned.
func (e *env) follow(ctx context.Context, c controlv1.ControlServiceClient, s *controlv1.Spec) (*controlv1.Status, error) {
	if _, err := c.Apply(ctx, &controlv1.ApplyRequest{Spec: s, Start: true}); err != nil {
		return nil, e.remote(err)
	}
	return e.watch(ctx, c, s.Name)
}

// watch shows a pipeline until it ends or ctx does. A coordinator that steps down ends its watches, and the next
// one goes on with the pipeline: so do we.
func (e *env) watch(ctx context.Context, c controlv1.ControlServiceClient, pipeline string) (*controlv1.Status, error) {
	show := e.shower()
	defer show.end()
	var last *controlv1.Status
	var lost time.Time
	for {
		err := e.watchOnce(ctx, c, pipeline, func(s *controlv1.Status) { last, lost = s, time.Time{}; show.status(s) })
		d := diag.Find(err)
		switch {
		case ctx.Err() != nil || ended(last):
			return last, err
		case err != nil && (last == nil || d == nil || d.Code.ID != diag.NoCoord.ID):
			return last, err
		case lost.IsZero():
			lost = time.Now()
		case time.Since(lost) > watchPatience:
			return last, diag.NoCoord.New("coordinator", err, "no coordinator has led for %v", watchPatience)
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchAgain):
		}
	}
}

const (
	watchAgain    = 200 * time.Millisecond
	watchPatience = time.Minute
)

// ended reports whether nothing more will happen by itself.
func ended(s *controlv1.Status) bool {
	return s != nil && (s.Phase == controlv1.Phase_PHASE_DONE || s.Health == controlv1.Health_HEALTH_FAILED)
}

// watchOnce ends with the stream of one coordinator.
func (e *env) watchOnce(ctx context.Context, c controlv1.ControlServiceClient, pipeline string, seen func(*controlv1.Status)) error {
	w, err := c.Watch(ctx, &controlv1.WatchRequest{Pipeline: pipeline})
	if err != nil {
		return e.remote(err)
	}
	for {
		r, err := w.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return e.remote(err)
		}
		seen(r.Status)
		if err := fatal(r.Status); err != nil {
			e.showProblems(r.Status)
			return err
		}
	}
}

// showProblems prints what the checks found beside the first problem, so that all can be mended at once.
func (e *env) showProblems(s *controlv1.Status) {
	found := 0
	for _, p := range s.Problems {
		if !p.Warning {
			found++
		}
	}
	if found > 1 {
		view.WriteProblems(e.err, int32(len(s.Problems)), s.Problems)
	}
}

// fatal is the error of a pipeline that waits for a person.
func fatal(s *controlv1.Status) error {
	if s.Health != controlv1.Health_HEALTH_FAILED {
		return nil
	}
	if len(s.Failures) == 0 {
		return diag.Internal.New("pipeline "+s.Pipeline, nil, "it failed without a reason")
	}
	return wire.Error(s.Failures[0])
}

// shower prints progress in the form that fits where it goes.
type shower interface {
	status(*controlv1.Status)
	end()
}

func (e *env) shower() shower {
	switch {
	case e.progress == "none" || e.quiet:
		return silent{}
	case e.progress == "json":
		return &lines{w: e.err, every: e.every, form: jsonLine}
	case e.progress == "auto" && tty(e.err):
		return &live{w: e.err.(*os.File)}
	}
	return &lines{w: e.err, every: e.every, form: func(s view.Status) string { return view.Line(s, time.Now()) }}
}

type silent struct{}

func (silent) status(*controlv1.Status) {}
func (silent) end()                     {}

func jsonLine(s view.Status) string {
	b, err := json.Marshal(s)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// lines prints one line per interval, and at every change of phase.
type lines struct {
	w     io.Writer
	every time.Duration
	form  func(view.Status) string
	phase string
	at    time.Time
}

func (l *lines) status(s *controlv1.Status) {
	v := view.FromStatus(s)
	if v.Phase == l.phase && time.Since(l.at) < l.every {
		return
	}
	l.phase, l.at = v.Phase, time.Now()
	fmt.Fprintln(l.w, l.form(v))
}

func (*lines) end() {}

// live redraws a few lines in place.
type live struct {
	w     *os.File
	drawn int
}

func (l *live) status(s *controlv1.Status) {
	width, _, err := term.GetSize(int(l.w.Fd()))
	if err != nil {
		width = 80
	}
	out := view.Screen(s, width-1)
	b := &strings.Builder{}
	if l.drawn > 0 {
		fmt.Fprintf(b, "\x1b[%dA", l.drawn)
	}
	for _, line := range out {
		fmt.Fprintf(b, "\r\x1b[2K%s\n", line)
	}
	b.WriteString("\x1b[J")
	l.drawn = len(out)
	io.WriteString(l.w, b.String())
}

func (l *live) end() { l.drawn = 0 }
