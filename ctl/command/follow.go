package command

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/droverdb/drover/ctl/view"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// remote turns a control error back into a coded one.
func (e *env) remote(err error) error {
	return wire.Call(context.Background(), err, "coordinator", diag.NoCoord)
}

// follow applies a spec, starts it and shows it until it ends. The last status is returned, and run told what was done before.
func (e *env) follow(ctx context.Context, c controlv1.ControlServiceClient, s *controlv1.Spec, run *view.Run) (*controlv1.Status, error) {
	r, err := c.Apply(ctx, &controlv1.ApplyRequest{Spec: s, Start: true, Retry: true, Anew: true})
	if err != nil {
		return nil, e.remote(err)
	}
	if r.Status.GetCreatedMicros() < run.Began.UnixMicro() {
		run.RowsBefore = r.Status.GetRowsLoaded()
	}
	return e.watch(ctx, c, s.Name, e.shower(e.err, e.errTerm, "ctrl-c stops, the same command goes on"))
}

// watch shows a pipeline until it ends or ctx does. A coordinator that steps down ends its watches, and the next
// one goes on with the pipeline: so do we.
func (e *env) watch(ctx context.Context, c controlv1.ControlServiceClient, pipeline string, show shower) (*controlv1.Status, error) {
	defer show.end()
	var last *controlv1.Status
	var lost time.Time
	for {
		err := e.watchOnce(ctx, c, pipeline, func(s *controlv1.Status) { last, lost = s, time.Time{}; e.waitsFor(s); show.status(s); e.tellLeft(s) })
		d := diag.Find(err)
		switch {
		case ctx.Err() != nil:
			return last, err
		case ended(last):
			show.end()
			if err != nil {
				e.showProblems(last)
			}
			return last, err
		case last != nil && d != nil && d.Code.ID == diag.NoPipeline.ID:
			return last, diag.NoPipeline.New(pipeline, nil, "it was deleted meanwhile; rows at the target stay")
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
			return err
		}
	}
}

// tellLeft names, once, what a copy that began anew has left at a former source: its summary may be long in coming.
func (e *env) tellLeft(s *controlv1.Status) {
	for _, p := range s.Problems {
		if p.Code == diag.LeftBehind.ID && !e.left[p.Reason] {
			if e.left == nil {
				e.left = map[string]bool{}
			}
			e.left[p.Reason] = true
			e.say("warning  %s %s: %s. %s", p.Code, p.Object, p.Reason, strings.Join(p.Fix, " "))
		}
	}
}

// showProblems prints what the checks found beside the first problem, so that all can be mended at once.
func (e *env) showProblems(s *controlv1.Status) {
	if e.copies != nil {
		e.copies.typedProblems(s.Problems)
	}
	for _, p := range s.Problems {
		if !p.Warning {
			e.found = append(e.found, view.FromProblem(p))
		}
	}
	if len(e.found) > 1 {
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
