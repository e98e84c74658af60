package command

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/droverdb/drover/ctl/view"
	"github.com/droverdb/drover/internal/diag"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// desiredCmds are the four verbs that change what a pipeline should be doing.
func (e *env) desiredCmds() []*cobra.Command {
	type call func(context.Context, controlv1.ControlServiceClient, string) error
	type done struct {
		Pipeline string   `json:"pipeline"`
		Verb     string   `json:"verb"`
		Next     []string `json:"next_steps"`
	}
	mk := func(verb, short string, f call) *cobra.Command {
		return e.limited(&cobra.Command{
			Use: verb + " PIPELINE", Short: short, Example: "  drover " + verb + " shop", Args: exactly,
			ValidArgsFunction: e.completePipelines,
			RunE: func(c *cobra.Command, args []string) error {
				return e.with(c.Context(), args[0], func(client controlv1.ControlServiceClient) error {
					if err := f(c.Context(), client, args[0]); err != nil {
						return e.remote(err)
					}
					return e.show(view.Answer(args[0], done{args[0], verb, []string{"drover status " + args[0]}}, func(io.Writer, bool) {
						e.say("%s: %s is on its way (drover status %s)", args[0], verb, args[0])
					}))
				})
			},
		}, ordered)
	}
	return []*cobra.Command{
		mk("start", "Start a pipeline", func(ctx context.Context, c controlv1.ControlServiceClient, p string) error {
			_, err := c.Start(ctx, &controlv1.StartRequest{Pipeline: p})
			return err
		}),
		mk("pause", "Pause a pipeline: its slot keeps the log, its position stays", func(ctx context.Context, c controlv1.ControlServiceClient, p string) error {
			_, err := c.Pause(ctx, &controlv1.PauseRequest{Pipeline: p})
			return err
		}),
		mk("resume", "Go on with a paused, stopped or failed pipeline", func(ctx context.Context, c controlv1.ControlServiceClient, p string) error {
			_, err := c.Resume(ctx, &controlv1.ResumeRequest{Pipeline: p})
			return err
		}),
		mk("stop", "Stop a pipeline and free its agents; its position stays", func(ctx context.Context, c controlv1.ControlServiceClient, p string) error {
			_, err := c.Stop(ctx, &controlv1.StopRequest{Pipeline: p})
			return err
		}),
	}
}

func (e *env) reloadCmd() *cobra.Command {
	var yes bool
	var confirm string
	c := &cobra.Command{
		Use: "reload PIPELINE [TABLE...]", Short: "Load tables again while the rest goes on; without TABLE, all that have failed",
		Long: `Empties tables at the target and loads them again, in step with the change stream, while all others go on. A TABLE is
schema.name as at the source. Without one: every table that has failed. A table that has not failed is emptied only
after the pipeline's name was typed, or with --yes --confirm NAME.`,
		Example: "  drover reload shop\n  drover reload shop public.orders", Args: exactly, ValidArgsFunction: e.completePipelines,
		RunE: func(c *cobra.Command, args []string) error {
			return e.with(c.Context(), args[0], func(client controlv1.ControlServiceClient) error {
				return e.runReload(c.Context(), client, &controlv1.ReloadRequest{Pipeline: args[0], Tables: args[1:], Force: yes && confirm == args[0]})
			})
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask (with --confirm)")
	c.Flags().StringVar(&confirm, "confirm", "", "the pipeline's name, typed out")
	return c
}

func (e *env) runReload(ctx context.Context, client controlv1.ControlServiceClient, req *controlv1.ReloadRequest) error {
	r, err := client.Reload(ctx, req)
	if d := diag.Find(e.remote(err)); d != nil && d.Code.ID == diag.Confirm.ID && e.asks() {
		if err := e.confirm(req.Pipeline, "this empties tables that have not failed, and loads them again", false, ""); err != nil {
			return err
		}
		req.Force = true
		r, err = client.Reload(ctx, req)
	}
	if err != nil {
		return e.remote(err)
	}
	type answer struct {
		Pipeline string   `json:"pipeline"`
		Verb     string   `json:"verb"`
		Tables   []string `json:"tables"`
		Next     []string `json:"next_steps"`
	}
	next := "drover tables " + req.Pipeline
	return e.show(view.Answer(req.Pipeline, answer{req.Pipeline, "reload", append([]string{}, r.Tables...), []string{next}}, func(w io.Writer, _ bool) {
		if len(r.Tables) == 0 {
			e.say("%s: no table has failed; name the tables that are to be loaded again", req.Pipeline)
			return
		}
		for _, t := range r.Tables {
			fmt.Fprintln(w, "loading again", t)
		}
		e.say("next: %s", next)
	}))
}

// confirm asks for the pipeline's name; off a terminal it must come as flags.
func (e *env) confirm(pipeline, what string, yes bool, typed string) error {
	if yes && typed == pipeline {
		return nil
	}
	if yes || !e.asks() {
		return diag.Confirm.New("pipeline "+pipeline, nil, "--yes --confirm %s is missing", pipeline)
	}
	fmt.Fprintf(e.err, "%s. type the pipeline name: ", what)
	var got string
	fmt.Fscanln(e.in, &got)
	if got != pipeline {
		return diag.Confirm.New("pipeline "+pipeline, nil, "%q was typed", got)
	}
	return nil
}

func (e *env) listCmd() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List pipelines", Example: "  drover list -o wide\n  drover list -o json", Args: exactly,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := e.pipelines(c.Context())
			if err != nil {
				return err
			}
			if len(all) == 0 && e.forPeople() {
				e.say("no pipelines; make one with drover apply -f FILE")
			}
			if resting := e.resting(namesOf(all)); len(resting) > 0 && e.coordinator == "" {
				e.say("not running: %s; the same drover copy again goes on, drover delete NAME%s ends it for good", strings.Join(resting, ", "), e.here())
			}
			return e.show(view.Pipelines(all))
		}}
}

func (e *env) tablesCmd() *cobra.Command {
	return &cobra.Command{Use: "tables PIPELINE", Short: "List the tables of a pipeline, biggest first", Example: "  drover tables shop\n  drover tables shop -o wide", Args: exactly,
		ValidArgsFunction: e.completePipelines,
		RunE: func(c *cobra.Command, args []string) error {
			return e.with(c.Context(), args[0], func(client controlv1.ControlServiceClient) error {
				r, err := client.Tables(c.Context(), &controlv1.TablesRequest{Pipeline: args[0]})
				if err != nil {
					return e.remote(err)
				}
				return e.show(view.TableList(args[0], r.Tables))
			})
		}}
}

func (e *env) chunksCmd() *cobra.Command {
	return &cobra.Command{Use: "chunks PIPELINE", Short: "List the chunks of a pipeline, until their table is loaded and the change stream has passed them",
		Example: "  drover chunks shop\n  drover chunks shop -o wide", Args: exactly, ValidArgsFunction: e.completePipelines,
		RunE: func(c *cobra.Command, args []string) error {
			return e.with(c.Context(), args[0], func(client controlv1.ControlServiceClient) error {
				r, err := client.Chunks(c.Context(), &controlv1.ChunksRequest{Pipeline: args[0]})
				if err != nil {
					return e.remote(err)
				}
				return e.show(view.ChunkList(args[0], r.Chunks))
			})
		}}
}

// completePipelines offers the names of pipelines that exist.
func (e *env) completePipelines(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return e.names(c.Context()), cobra.ShellCompDirectiveNoFileComp
}
