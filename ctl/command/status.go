package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/droverdb/drover/ctl/view"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

func (e *env) statusCmd() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use: "status PIPELINE", Short: "Show where a pipeline is; -w keeps watching", Example: "  drover status shop -w\n  drover status shop -o json",
		Args: cobra.ExactArgs(1), ValidArgsFunction: e.completePipelines,
		RunE: func(c *cobra.Command, args []string) error {
			return e.with(c.Context(), args[0], func(client controlv1.ControlServiceClient) error {
				if watch {
					return e.detachable(c.Context(), client, args[0])
				}
				r, err := client.Get(c.Context(), &controlv1.GetRequest{Pipeline: args[0]})
				if err != nil {
					return e.remote(err)
				}
				return e.printStatus(r.Status)
			})
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "redraw until Ctrl-C, which only detaches")
	return c
}

// detachable watches; the first Ctrl-C leaves the pipeline running.
func (e *env) detachable(ctx context.Context, client controlv1.ControlServiceClient, pipeline string) error {
	// Progress of a watch is its output: it belongs on stdout.
	show := e.shower(e.out, e.outTerm, "ctrl-c detaches, it keeps running")
	if e.output == "json" || e.output == "jsonl" {
		show = &lines{w: e.data, every: e.every, form: jsonLine}
	}
	_, err := e.watch(ctx, client, pipeline, show)
	if ctx.Err() != nil {
		e.say("detached: %s keeps running", pipeline)
		return nil
	}
	return err
}

func (e *env) printStatus(s *controlv1.Status) error {
	v := view.FromStatus(s)
	switch {
	case e.output == "json" || e.output == "jsonl":
		return e.printJSON(v)
	case e.outTerm == nil:
		fmt.Fprintln(e.out, view.Line(v, time.Now()))
	default:
		width, _, err := term.GetSize(int(e.outTerm.Fd()))
		if err != nil {
			width = 80
		}
		for _, l := range view.Screen(s, view.Style{Width: width, Color: os.Getenv("NO_COLOR") == ""}, nil) {
			fmt.Fprintln(e.out, l)
		}
	}
	for _, f := range v.Failures {
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
		Use: "logs PIPELINE", Short: "Show what happened in a pipeline", Example: "  drover logs shop -f", Args: cobra.ExactArgs(1),
		ValidArgsFunction: e.completePipelines,
		RunE: func(c *cobra.Command, args []string) error {
			return e.with(c.Context(), args[0], func(client controlv1.ControlServiceClient) error {
				s, err := client.Logs(c.Context(), &controlv1.LogsRequest{Pipeline: args[0], Follow: follow})
				if err != nil {
					return e.remote(err)
				}
				return e.printLogs(c.Context(), s)
			})
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until Ctrl-C")
	return c
}

func (e *env) printLogs(ctx context.Context, s controlv1.ControlService_LogsClient) error {
	for {
		l, err := s.Recv()
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return e.remote(err)
		}
		if e.output == "json" || e.output == "jsonl" {
			if err := e.printJSON(map[string]any{"time": time.UnixMicro(l.Micros).UTC().Format(time.RFC3339Nano), "level": l.Level, "text": l.Text}); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(e.out, "%s %-5s %s\n", time.UnixMicro(l.Micros).UTC().Format("2006-01-02T15:04:05.000Z"), l.Level, l.Text)
	}
}
