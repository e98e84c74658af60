package command

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/droverdb/drover/ctl/up"
	"github.com/droverdb/drover/ctl/view"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// sides are the words that --sql takes.
var sides = []string{"source", "target"}

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
	offer(c, "sql", sides)
	c.Flags().StringSliceVar(&f.tables, "tables", nil, "only tables that match these globs")
	c.Flags().StringSliceVar(&f.exclude, "exclude", nil, "leave out tables that match these globs")
	return e.limited(c, func([]string) wait {
		return wait{"drover doctor", "the checks of both databases", "Nothing was changed; give it more time, or look at what the databases are busy with."}
	})
}

func (e *env) runDoctor(c *cobra.Command, args []string, f copyFlags, sql string) error {
	if sql != "" {
		if err := oneOf("--sql", sql, sides...); err != nil {
			return err
		}
	}
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
		return f.typed(e.remote(err))
	}
	f.typedProblems(r.Problems)
	if sql != "" {
		e.answered = true
		for _, line := range view.Script(r.Problems, sql) {
			fmt.Fprintln(e.data, line)
		}
	} else if err := e.show(view.Diagnosis(r, scripts(c, s, r))); err != nil {
		return err
	}
	for _, p := range r.Problems {
		if !p.Warning {
			return exitError{exitRefused}
		}
	}
	return nil
}

// scripts are the commands that print all fixes of a side.
func scripts(c *cobra.Command, s *controlv1.Spec, r *controlv1.DoctorResponse) (next []string) {
	flags, own := "", c.LocalNonPersistentFlags()
	c.Flags().Visit(func(f *pflag.Flag) {
		if own.Lookup(f.Name) == nil || f.Name == "timeout" {
			return
		}
		if v, ok := f.Value.(pflag.SliceValue); ok {
			flags += " --" + f.Name + " " + quoted(strings.Join(v.GetSlice(), ","))
		} else {
			flags += " --" + f.Name
		}
	})
	for _, side := range sides {
		if len(view.Script(r.Problems, side)) > 0 {
			next = append(next, fmt.Sprintf("drover doctor %s %s%s --sql %s > fix-%s.sql", quoted(s.Source.Url), quoted(s.Target.Url), flags, side, side))
		}
	}
	return next
}

// quoted is one word to a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
