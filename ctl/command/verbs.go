package command

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/droverdb/drover/ctl/view"
	"github.com/droverdb/drover/internal/diag"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// desiredCmds are the four verbs that change what a pipeline should be doing.
func (e *env) desiredCmds() []*cobra.Command {
	type call func(context.Context, controlv1.ControlServiceClient, string) error
	mk := func(verb, short string, f call) *cobra.Command {
		return &cobra.Command{
			Use: verb + " PIPELINE", Short: short, Example: "  drover " + verb + " shop", Args: cobra.ExactArgs(1),
			ValidArgsFunction: e.completePipelines,
			RunE: func(c *cobra.Command, args []string) error {
				return e.with(c.Context(), args[0], func(client controlv1.ControlServiceClient) error {
					if err := f(c.Context(), client, args[0]); err != nil {
						return e.remote(err)
					}
					e.say("%s: %s is on its way (drover status %s)", args[0], verb, args[0])
					return nil
				})
			},
		}
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

func (e *env) deleteCmd() *cobra.Command {
	var yes bool
	var confirm string
	c := &cobra.Command{
		Use: "delete PIPELINE", Short: "Remove a pipeline with its slot, publication and tokens; rows at the target stay",
		Example: "  drover delete shop\n  drover delete shop --yes --confirm shop", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completePipelines,
		RunE: func(c *cobra.Command, args []string) error {
			if err := e.confirm(args[0], yes, confirm); err != nil {
				return err
			}
			return e.with(c.Context(), args[0], func(client controlv1.ControlServiceClient) error {
				r, err := client.Delete(c.Context(), &controlv1.DeleteRequest{Pipeline: args[0]})
				if err != nil {
					return e.remote(err)
				}
				for _, x := range r.Removed {
					fmt.Fprintln(e.out, "removed", x)
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask (with --confirm)")
	c.Flags().StringVar(&confirm, "confirm", "", "the pipeline's name, typed out")
	return c
}

// confirm asks for the pipeline's name; off a terminal it must come as flags.
func (e *env) confirm(pipeline string, yes bool, typed string) error {
	if yes && typed == pipeline {
		return nil
	}
	if yes || !e.asks() {
		return diag.Confirm.New("pipeline "+pipeline, nil, "--yes --confirm %s is missing", pipeline)
	}
	fmt.Fprintf(e.err, "this removes slot, publication and tokens of %s. type the pipeline name: ", pipeline)
	var got string
	fmt.Fscanln(e.in, &got)
	if got != pipeline {
		return diag.Confirm.New("pipeline "+pipeline, nil, "%q was typed", got)
	}
	return nil
}

func (e *env) listCmd() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List pipelines", Example: "  drover list -o json", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return e.with(c.Context(), "", func(client controlv1.ControlServiceClient) error {
				r, err := client.List(c.Context(), &controlv1.ListRequest{})
				if err != nil {
					return e.remote(err)
				}
				var rows [][]string
				views := []view.Status{}
				for _, s := range r.Pipelines {
					v := view.FromStatus(s)
					views = append(views, v)
					rows = append(rows, []string{v.Pipeline, v.Phase, v.Health, v.Mode, v.Source + " → " + v.Target})
				}
				return e.print(views, []string{"PIPELINE", "PHASE", "HEALTH", "MODE", "DATABASES"}, rows)
			})
		}}
}

func (e *env) tablesCmd() *cobra.Command {
	return &cobra.Command{Use: "tables PIPELINE", Short: "List the tables of a pipeline", Example: "  drover tables shop", Args: cobra.ExactArgs(1),
		ValidArgsFunction: e.completePipelines,
		RunE: func(c *cobra.Command, args []string) error {
			return e.with(c.Context(), args[0], func(client controlv1.ControlServiceClient) error {
				r, err := client.Tables(c.Context(), &controlv1.TablesRequest{Pipeline: args[0]})
				if err != nil {
					return e.remote(err)
				}
				type row struct {
					Table, State, Gate, Reason, Lane, Compared string
					Rows, Bytes, Chunks, ChunksDone            int64
				}
				out, cells := []row{}, [][]string{}
				for _, t := range r.Tables {
					t.Gate = strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(t.Gate, "GATE_MODE_"), "_", " "))
					out = append(out, row{t.Source, t.State, t.Gate, t.GateReason, t.Lane, t.Compared, t.Rows, t.Bytes, t.ChunksTotal, t.ChunksDone})
					cells = append(cells, []string{t.Source, t.State, fmt.Sprintf("%d/%d", t.ChunksDone, t.ChunksTotal), view.Count64(t.Rows),
						view.Bytes(t.Bytes), t.Gate, t.Compared})
				}
				return e.print(out, []string{"TABLE", "STATE", "CHUNKS", "ROWS", "BYTES", "GATE", "COMPARED"}, cells)
			})
		}}
}

func (e *env) chunksCmd() *cobra.Command {
	return &cobra.Command{Use: "chunks PIPELINE", Short: "List chunks that are not yet finished", Example: "  drover chunks shop", Args: cobra.ExactArgs(1),
		ValidArgsFunction: e.completePipelines,
		RunE: func(c *cobra.Command, args []string) error {
			return e.with(c.Context(), args[0], func(client controlv1.ControlServiceClient) error {
				r, err := client.Chunks(c.Context(), &controlv1.ChunksRequest{Pipeline: args[0]})
				if err != nil {
					return e.remote(err)
				}
				cells := [][]string{}
				for _, k := range r.Chunks {
					cells = append(cells, []string{fmt.Sprintf("%d/%d", k.Id>>32, uint32(k.Id)), k.Table, k.State, k.Agent, fmt.Sprint(k.Epoch),
						fmt.Sprint(k.Attempts), view.Count64(k.Rows), k.Floor})
				}
				return e.print(r.Chunks, []string{"CHUNK", "TABLE", "STATE", "AGENT", "EPOCH", "ATTEMPTS", "ROWS", "FLOOR"}, cells)
			})
		}}
}

// print writes v as JSON or cells as a table.
func (e *env) print(v any, head []string, cells [][]string) error {
	if e.output == "json" || e.output == "jsonl" {
		return e.printJSON(v)
	}
	width := make([]int, len(head))
	for _, r := range append([][]string{head}, cells...) {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for _, r := range append([][]string{head}, cells...) {
		var b strings.Builder
		for i, c := range r {
			b.WriteString(c)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-len([]rune(c))+2))
			}
		}
		fmt.Fprintln(e.out, b.String())
	}
	return nil
}

// completePipelines offers the names of pipelines that exist.
func (e *env) completePipelines(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	client, done, err := e.dial(c.Context(), "")
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer done()
	r, err := client.List(c.Context(), &controlv1.ListRequest{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, s := range r.Pipelines {
		names = append(names, s.Pipeline)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
