package command

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/droverdb/drover/ctl/up"
	"github.com/droverdb/drover/ctl/view"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

func (e *env) doctorCmd() *cobra.Command {
	var noFollow bool
	var sql string
	var f copyFlags
	c := &cobra.Command{
		Use: "doctor SRC DST", Short: "Run every check of both databases; print the SQL that fixes what is wrong",
		Example: "  drover doctor postgres://me@old/shop postgres://me@new/shop\n  drover doctor SRC DST --sql source > fix.sql", Args: exactly,
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
	if sql != "" {
		if err := oneOf("--sql", sql, "source", "target"); err != nil {
			return err
		}
	}
	s, secrets, err := e.copySpec(args[0], args[1], f)
	if err != nil {
		return err
	}
	tree, err := up.Start(c.Context(), up.Options{Name: "doctor", Secrets: secrets, Verbose: e.verbose})
	if err != nil {
		return err
	}
	defer tree.Stop(5 * time.Second)
	r, err := tree.Control.Doctor(c.Context(), &controlv1.DoctorRequest{Source: s.Source, Target: s.Target, Follow: f.follow,
		Include: f.tables, Exclude: f.exclude})
	if err != nil {
		return e.remote(err)
	}
	if sql != "" {
		for _, p := range r.Problems {
			for _, fix := range p.Fix {
				if p.Side == sql {
					fmt.Fprintln(e.out, fix)
				}
			}
		}
	} else if err := e.show(view.Diagnosis(r, nil)); err != nil {
		return err
	}
	for _, p := range r.Problems {
		if !p.Warning {
			return exitError{exitRefused}
		}
	}
	return nil
}
