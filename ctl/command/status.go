package command

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/droverdb/drover/ctl/view"
	"github.com/droverdb/drover/internal/diag"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	"github.com/spf13/cobra"
)

func (e *env) statusCmd() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use: "status [PIPELINE]", Short: "Show where a pipeline is; -w keeps watching",
		Long:    "Shows where a pipeline is. Without a name: the one that there is, or the list of them.",
		Example: "  drover status shop -w\n  drover status shop -o json",
		Args:    exactly, ValidArgsFunction: e.completePipelines,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				all, err := e.pipelines(c.Context())
				switch {
				case err != nil:
					return err
				case len(all) != 1 && watch:
					return misused(c, "missing: PIPELINE"+thereAre(namesOf(all)))
				case len(all) != 1:
					return e.show(view.Pipelines(all))
				}
				args = namesOf(all)
			}
			return e.runStatus(c.Context(), args[0], watch)
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "redraw until Ctrl-C, which only detaches")
	return e.limited(c, func(args []string) wait {
		return wait{"drover status", "an answer", "It keeps running: drover status " + strings.Join(args, " ")}
	})
}

func (e *env) runStatus(ctx context.Context, pipeline string, watch bool) error {
	if watch && e.output == "name" {
		return diag.Usage.New("--output", nil, "a watch knows no form \"name\"; there are %s", strings.Join(view.Formats[:len(view.Formats)-1], ", "))
	}
	return e.with(ctx, pipeline, func(client controlv1.ControlServiceClient) error {
		if watch {
			return e.detachable(ctx, client, pipeline)
		}
		r, err := client.Get(ctx, &controlv1.GetRequest{Pipeline: pipeline})
		if err != nil {
			return e.remote(err)
		}
		return e.printStatus(r.Status)
	})
}

// detachable watches; the first Ctrl-C leaves the pipeline running.
func (e *env) detachable(ctx context.Context, client controlv1.ControlServiceClient, pipeline string) error {
	// Progress of a watch is its output: it belongs on stdout.
	show := e.shower(e.out, e.outTerm, "ctrl-c detaches, it keeps running")
	if !e.forPeople() {
		show = &lines{every: e.every, print: func(s view.Status) error { return view.WriteItem(e.data, s, e.output) }}
	}
	e.waits = wait{"pipeline " + pipeline, "its first status", "It keeps running: drover status " + pipeline + " -w"}
	_, err := e.watch(ctx, client, pipeline, show)
	if timedOut(ctx) {
		return errTimeout
	}
	if ctx.Err() != nil {
		e.say("detached: %s keeps running", pipeline)
		return nil
	}
	return err
}

func (e *env) printStatus(s *controlv1.Status) error {
	var screen *view.Style
	if e.outTerm != nil {
		screen = &view.Style{Width: e.width(), Color: os.Getenv("NO_COLOR") == ""}
	}
	if err := e.show(view.OneStatus(s, screen, time.Now())); err != nil || !e.forPeople() {
		return err
	}
	v := view.FromStatus(s)
	for _, f := range v.Failures {
		f.Fix = e.placed(f.Fix)
		view.WriteFailure(e.err, f, "")
	}
	for _, n := range v.Next {
		e.say("next: %s", n)
	}
	return nil
}

func (e *env) logsCmd() *cobra.Command {
	var follow bool
	c := &cobra.Command{
		Use: "logs PIPELINE", Short: "Show what happened in a pipeline", Example: "  drover logs shop -f", Args: exactly,
		ValidArgsFunction: e.completePipelines,
		RunE: func(c *cobra.Command, args []string) error {
			return e.with(c.Context(), args[0], func(client controlv1.ControlServiceClient) error {
				s, err := client.Logs(c.Context(), &controlv1.LogsRequest{Pipeline: args[0], Follow: follow})
				if err != nil {
					return e.remote(err)
				}
				return e.printLogs(c.Context(), args[0], follow, s)
			})
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until Ctrl-C")
	return c
}

// printLogs prints a log that ends as one document, one that is followed event by event.
func (e *env) printLogs(ctx context.Context, pipeline string, follow bool, s controlv1.ControlService_LogsClient) error {
	var all []view.Event
	for {
		l, err := s.Recv()
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			break
		}
		if err != nil {
			return e.remote(err)
		}
		event := view.FromLog(pipeline, l)
		if !follow {
			all = append(all, event)
		} else if err := view.WriteEvent(e.out, e.data, event, e.output); err != nil {
			return err
		}
	}
	if follow {
		return nil
	}
	return e.show(view.LogList(pipeline, all))
}
