package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/droverdb/drover/ctl/spec"
	"github.com/droverdb/drover/ctl/up"
	"github.com/droverdb/drover/ctl/view"
	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

type copyFlags struct {
	follow, truncate, noSchema bool
	name, verify, lane         string
	tables, exclude            []string
	parallel                   int32
}

// The words that flags of copy take.
var (
	verifyWords = []string{"checksum", "none"}
	laneWords   = []string{"native", "arrow"}
)

func (e *env) copyCmd() *cobra.Command {
	var f copyFlags
	c := &cobra.Command{
		Use:   "copy SRC DST",
		Short: "Copy a database: schema, load, indexes and constraints, compare",
		Long: `Copies everything from SRC to an empty DST: schema, rows in parallel chunks, then indexes, constraints and
views, and compares the result. With --follow it goes on applying changes until it is stopped; the same command
resumes where it was. Passwords: DROVER_SOURCE_PASSWORD, DROVER_TARGET_PASSWORD, PGPASSWORD, .pgpass, service files or a prompt.`,
		Example: `  drover copy postgres://me@old/shop postgres://me@new/shop
  drover copy postgres://me@old/shop postgres://me@new/shop --follow --tables 'shop.*' --exclude shop.tmp_*`,
		Args: exactly,
		RunE: func(c *cobra.Command, args []string) error { return e.runCopy(c.Context(), args[0], args[1], f) },
	}
	e.limited(c, func([]string) wait {
		return wait{"drover copy", "its start", "The same command goes on where it stopped."}
	})
	fl := c.Flags()
	fl.BoolVar(&f.follow, "follow", false, "stay in sync until stopped; a second call resumes")
	fl.StringVar(&f.name, "name", "", "name of the pipeline (default: made from the pair)")
	fl.StringSliceVar(&f.tables, "tables", nil, "only tables that match these globs")
	fl.StringSliceVar(&f.exclude, "exclude", nil, "leave out tables that match these globs")
	fl.StringVar(&f.verify, "verify", "checksum", "checksum | none: how the result is compared after a copy")
	fl.StringVar(&f.lane, "lane", "native", "native | arrow: how rows are encoded on the way")
	offer(c, "verify", verifyWords)
	offer(c, "lane", laneWords)
	fl.Int32Var(&f.parallel, "parallel", 0, "loads at the same time, each of some chunks (0: from the cores)")
	fl.BoolVar(&f.truncate, "truncate", false, "empty target tables that have rows instead of refusing")
	fl.BoolVar(&f.noSchema, "no-schema", false, "copy rows, values of sequences and rows of materialised views: they exist at the target")
	return c
}

func (e *env) runCopy(ctx context.Context, src, dst string, f copyFlags) error {
	s, secrets, err := e.copySpec(src, dst, f)
	if err != nil {
		return err
	}
	e.waits.where, e.copies = "pipeline "+s.Name, &f
	return e.withPasswords(secrets, func() (*controlv1.Spec, error) {
		e.found = nil
		return s, f.typed(e.copyOnce(ctx, s, secrets))
	})
}

// withPasswords does something with databases, and again when a password was refused and somebody types another one.
func (e *env) withPasswords(secrets map[string]string, once func() (*controlv1.Spec, error)) error {
	for tries := 0; ; tries++ {
		s, err := once()
		d := diag.Find(err)
		if d == nil || d.Code.ID != diag.AuthFailed.ID || s == nil || tries >= 2 || !e.asks() {
			return err
		}
		if err := e.prompt(d, s, secrets); err != nil {
			return err
		}
	}
}

// ownSecrets are the passwords that the environment holds; without them PGPASSWORD, .pgpass and service files decide.
func ownSecrets() map[string]string {
	return map[string]string{"source": os.Getenv("DROVER_SOURCE_PASSWORD"), "target": os.Getenv("DROVER_TARGET_PASSWORD")}
}

// copySpec builds the pipeline of a pair. Secrets never enter the spec: it holds references into this process.
func (e *env) copySpec(src, dst string, f copyFlags) (*controlv1.Spec, map[string]string, error) {
	// The agent of a copy is in this process: the environment is that of whoever typed the command.
	source, sp, err := spec.EndpointHere(src, "source", connectorv1.Role_ROLE_SOURCE, os.Getenv)
	if err != nil {
		return nil, nil, usageUnlessCoded("SRC", err)
	}
	target, tp, err := spec.EndpointHere(dst, "target", connectorv1.Role_ROLE_SINK, os.Getenv)
	if err != nil {
		return nil, nil, usageUnlessCoded("DST", err)
	}
	if sp != "" || tp != "" {
		e.say("warning: a password in a URL is visible to other users of this machine; prefer DROVER_SOURCE_PASSWORD, .pgpass or a prompt")
	}
	name := f.name
	if name == "" {
		name = copyName(source.Url, target.Url)
	}
	mode := controlv1.Mode_MODE_FULL_LOAD
	if f.follow {
		mode = controlv1.Mode_MODE_FULL_LOAD_AND_CDC
	}
	if err := errors.Join(oneOf("--verify", f.verify, verifyWords...), oneOf("--lane", f.lane, laneWords...), spec.CheckName("--name", name), f.checkParallel()); err != nil {
		return nil, nil, err
	}
	s := &controlv1.Spec{Version: 1, Name: name, Mode: mode, Source: source, Target: target, Include: f.tables, Exclude: f.exclude,
		WhenNotEmpty: "fail", ChunkBytes: spec.DefaultChunkBytes, Parallel: f.parallel, Verify: f.verify, Apply: "transactional", Lane: f.lane,
		Schema: !f.noSchema, HeartbeatSeconds: 10}
	if f.truncate {
		s.WhenNotEmpty = "truncate"
	}
	secrets := ownSecrets()
	secrets["source"], secrets["target"] = firstOf(sp, secrets["source"]), firstOf(tp, secrets["target"])
	for _, ep := range []*fleetv1.Endpoint{source, target} {
		ep.Pipeline, ep.Secret = name, "local:"+ep.Name
	}
	return s, secrets, nil
}

// prompt asks for the password that was refused.
func (e *env) prompt(d *diag.Error, s *controlv1.Spec, secrets map[string]string) error {
	side, ep := "source", s.Source
	if strings.HasPrefix(d.Where, "target") {
		side, ep = "target", s.Target
	}
	fmt.Fprintf(e.err, "password for the %s %s (or set DROVER_%s_PASSWORD): ", side, ep.Url, strings.ToUpper(side))
	b, err := term.ReadPassword(int(e.in.Fd()))
	fmt.Fprintln(e.err)
	if err != nil {
		return diag.AuthFailed.New(side, err, "no password was typed")
	}
	secrets[side] = string(b)
	return nil
}

func (e *env) copyOnce(ctx context.Context, s *controlv1.Spec, secrets map[string]string) error {
	run := view.Run{Began: time.Now()}
	tree, err := up.Start(ctx, up.Options{Data: copyData(e.state, s.Name), Name: "local", Secrets: secrets,
		Prewarm: []string{s.Source.Connector, s.Target.Connector}, Verbose: e.verbose})
	if err != nil {
		return e.runsAlready(ctx, s.Name, err)
	}
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		return tree.Stop(stopGrace)
	}
	defer stop()
	last, err := e.follow(ctx, tree.Control, s, &run)
	if ctx.Err() != nil {
		e.say("stopping: rounds in flight are finished first; run the same command again to go on")
		if err := stop(); err != nil {
			return err
		}
		if timedOut(ctx) {
			return errTimeout
		}
		return exitError{exitInterrupted}
	}
	if d := diag.Find(err); d != nil && d.Code.ID == diag.NoPipeline.ID && last != nil {
		return e.wasDeleted(s.Name, last, stop)
	}
	if err != nil {
		return e.failedSummary(last, run, err)
	}
	if err := e.summary(last, run); err != nil {
		return err
	}
	// A finished one-off copy leaves nothing behind, neither at the target nor here.
	if last.Phase == controlv1.Phase_PHASE_DONE && last.Health == controlv1.Health_HEALTH_OK {
		if _, err := tree.Control.Delete(ctx, &controlv1.DeleteRequest{Pipeline: s.Name}); err != nil {
			return e.remote(err)
		}
		return e.leaves(s.Name, stop)
	}
	return nil
}

// leaves ends a copy's tree and removes its state.
func (e *env) leaves(pipeline string, stop func() error) error {
	if err := stop(); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Clean(copyData(e.state, pipeline)))
}

// wasDeleted ends a copy that somebody deleted while it ran. One that was in sync has done what it was for.
func (e *env) wasDeleted(pipeline string, last *controlv1.Status, stop func() error) error {
	e.say("%s was deleted while it ran: slot, publication and tokens are removed, rows at the target stay", pipeline)
	err := e.leaves(pipeline, stop)
	if err == nil && last.Phase != controlv1.Phase_PHASE_STREAMING {
		err = exitError{exitFailed}
	}
	return err
}

func usageUnlessCoded(where string, err error) error {
	if diag.Find(err) != nil {
		return err
	}
	return diag.Usage.New(where, errors.New(err.Error()), "malformed URL").
		WithFix(spec.Encoding+".", "Or leave the password out: set DROVER_SOURCE_PASSWORD or DROVER_TARGET_PASSWORD, or wait to be asked for it.")
}

func firstOf(s ...string) string {
	for _, x := range s {
		if x != "" {
			return x
		}
	}
	return ""
}
