package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/droverdb/drover/ctl/up"
	"github.com/droverdb/drover/ctl/view"
	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// roles are what a side is to a connector.
var roles = map[string]connectorv1.Role{"source": connectorv1.Role_ROLE_SOURCE, "target": connectorv1.Role_ROLE_SINK}

func (e *env) deleteCmd() *cobra.Command {
	var yes bool
	var confirm string
	var forget []string
	c := &cobra.Command{
		Use: "delete PIPELINE", Short: "Remove a pipeline with its slot, publication and tokens; rows at the target stay",
		Long: `Removes what Drover has made for a pipeline: slot and publication at the source, tokens at the target, its state. Rows stay.
A copy that does not run is opened for it, with the addresses that it was begun with. Passwords: as for drover copy.
A side that cannot be reached any more is left out with --forget; what stays there is told, with the SQL that removes it.`,
		Example: "  drover delete shop\n  drover delete shop --yes --confirm shop\n  drover delete shop --forget source", Args: exactly, ValidArgsFunction: e.completePipelines,
		RunE: func(c *cobra.Command, args []string) error {
			req := &controlv1.DeleteRequest{Pipeline: args[0]}
			for _, word := range forget {
				if err := oneOf("--forget", word, sides...); err != nil {
					return err
				}
				req.Forget = append(req.Forget, roles[word])
			}
			if err := e.confirm(args[0], "this removes slot, publication and tokens of "+args[0], yes, confirm); err != nil {
				return err
			}
			return e.runDelete(c.Context(), req)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask (with --confirm)")
	c.Flags().StringVar(&confirm, "confirm", "", "the pipeline's name, typed out")
	c.Flags().StringSliceVar(&forget, "forget", nil, "source | target: a side that is gone for good; what it holds is told instead of removed")
	offer(c, "forget", sides)
	return e.limited(c, func(args []string) wait {
		return wait{"pipeline " + args[0], "slot, publication and tokens to be removed",
			"The coordinator goes on removing it; drover delete " + args[0] + " again says how it ended, repeating is harmless."}
	})
}

// runDelete asks the coordinator that knows the pipeline; a copy that does not run is opened for it.
func (e *env) runDelete(ctx context.Context, req *controlv1.DeleteRequest) error {
	if e.rests(ctx, req.Pipeline) {
		secrets := ownSecrets()
		return e.withPasswords(secrets, func() (*controlv1.Spec, error) { return e.deleteResting(ctx, req, secrets) })
	}
	return e.with(ctx, req.Pipeline, func(client controlv1.ControlServiceClient) error { return e.deleteAt(ctx, client, req) })
}

func (e *env) deleteAt(ctx context.Context, client controlv1.ControlServiceClient, req *controlv1.DeleteRequest) error {
	r, err := client.Delete(ctx, req)
	if err != nil {
		return e.remote(err)
	}
	return e.show(deleted(req.Pipeline, r))
}

// deleteResting opens the state of a copy that does not run, as the copy itself would, and removes it with the pipeline.
func (e *env) deleteResting(ctx context.Context, req *controlv1.DeleteRequest, secrets map[string]string) (*controlv1.Spec, error) {
	data := copyData(e.state, req.Pipeline)
	e.waits.fix = "drover delete " + req.Pipeline + " again, with more time."
	tree, err := up.Start(ctx, up.Options{Data: data, Name: "local", Secrets: secrets, Verbose: e.verbose})
	if err != nil {
		return nil, e.runsAlready(ctx, req.Pipeline, err)
	}
	defer tree.Stop(stopGrace) // again, after an error
	known, err := tree.Control.Get(ctx, &controlv1.GetRequest{Pipeline: req.Pipeline})
	if d := diag.Find(e.remote(err)); d != nil && d.Code.ID == diag.NoPipeline.ID { // it ended before it began
		if err := tree.Stop(stopGrace); err != nil {
			return nil, err
		}
		return nil, os.RemoveAll(data)
	}
	if err != nil {
		return nil, e.remote(err)
	}
	if err := e.deleteAt(ctx, tree.Control, req); err != nil {
		return known.Spec, err
	}
	if err := tree.Stop(stopGrace); err != nil {
		return nil, err
	}
	return nil, os.RemoveAll(data)
}

// stopGrace is how long a process tree of our own may take to end its work.
const stopGrace = 15 * time.Second

func deleted(pipeline string, r *controlv1.DeleteResponse) view.Listing {
	type left struct {
		Side     string   `json:"side"`
		Database string   `json:"database"`
		SQL      []string `json:"sql"`
	}
	type answer struct {
		Pipeline string   `json:"pipeline"`
		Removed  []string `json:"removed"`
		Left     []left   `json:"left"`
	}
	a := answer{pipeline, append([]string{}, r.Removed...), []left{}}
	for _, l := range r.Left {
		a.Left = append(a.Left, left{l.Side, l.Database, append([]string{}, l.Sql...)})
	}
	return view.Answer(pipeline, a, func(w io.Writer, _ bool) {
		for _, x := range a.Removed {
			fmt.Fprintln(w, "removed", x)
		}
		for _, l := range a.Left {
			fmt.Fprintf(w, "left at the %s %s; to remove it, run there:\n", l.Side, l.Database)
			for _, sql := range l.SQL {
				fmt.Fprintln(w, "  "+sql)
			}
		}
	})
}
