package command

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/droverdb/drover/ctl/up"
	"github.com/droverdb/drover/ctl/view"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

func (e *env) doctorCmd() *cobra.Command {
	var noFollow bool
	var sql string
	var f copyFlags
	c := &cobra.Command{
		Use: "doctor SRC DST", Short: "Run every check of both databases; print the SQL that fixes what is wrong",
		Example: "  drover doctor postgres://me@old/shop postgres://me@new/shop\n  drover doctor SRC DST --sql source > fix.sql", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			f.follow, f.verify, f.lane = !noFollow, "checksum", "native"
			return e.runDoctor(c, args, f, sql)
		},
	}
	c.Flags().BoolVar(&noFollow, "no-follow", false, "check for a copy without following changes")
	c.Flags().StringVar(&sql, "sql", "", "source | target: print only the SQL for that side")
	c.Flags().StringSliceVar(&f.tables, "tables", nil, "only tables that match these globs")
	c.Flags().StringSliceVar(&f.exclude, "exclude", nil, "leave out tables that match these globs")
	return c
}

func (e *env) runDoctor(c *cobra.Command, args []string, f copyFlags, sql string) error {
	s, secrets, err := e.copySpec(args[0], args[1], f)
	if err != nil {
		return err
	}
	tree, err := up.Start(c.Context(), up.Options{Name: "doctor", Secrets: secrets,
		Prewarm: []string{s.Source.Connector, s.Target.Connector}, Verbose: e.verbose})
	if err != nil {
		return err
	}
	defer tree.Stop(5 * time.Second)
	r, err := tree.Control.Doctor(c.Context(), &controlv1.DoctorRequest{Source: s.Source, Target: s.Target, Follow: f.follow,
		Include: f.tables, Exclude: f.exclude})
	if err != nil {
		return e.remote(err)
	}
	switch {
	case e.output == "json" || e.output == "jsonl":
		err = e.printJSON(map[string]any{"version": view.Version, "source": r.Source, "target": r.Target, "checks": r.Checks, "problems": problemViews(r.Problems)})
	case sql != "":
		for _, p := range r.Problems {
			for _, fix := range p.Fix {
				if p.Side == sql {
					fmt.Fprintln(e.out, fix)
				}
			}
		}
	default:
		fmt.Fprintf(e.out, "%s → %s     ", r.Source, r.Target)
		view.WriteProblems(e.out, r.Checks, r.Problems)
	}
	if err != nil {
		return err
	}
	for _, p := range r.Problems {
		if !p.Warning {
			return exitError{exitRefused}
		}
	}
	return nil
}

type problemView struct {
	Code    string   `json:"code"`
	Warning bool     `json:"warning"`
	Side    string   `json:"side"`
	Object  string   `json:"object"`
	Reason  string   `json:"reason"`
	Fix     []string `json:"fix"`
}

func problemViews(ps []*connectorv1.Problem) []problemView {
	out := []problemView{}
	for _, p := range ps {
		out = append(out, problemView{p.Code, p.Warning, p.Side, p.Object, p.Reason, p.Fix})
	}
	return out
}
