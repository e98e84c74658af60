// Package command holds the verbs of drover, one file each.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/droverdb/drover/ctl/view"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/telemetry"
)

// Exit codes, the same for every verb.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitRefused     = 4
	exitDiffers     = 5
	exitTimeout     = 6
	exitPartly      = 7
	exitInterrupted = 130
)

// exitError ends the program with a code; its text, if any, was printed already.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit %d", e.code) }

// env is what every verb needs: where to print, where the state lives.
type env struct {
	// out and err take text, in glyphs that the locale has; data takes JSON, byte for byte, to the same place as out.
	out, err, data io.Writer
	// outTerm and errTerm are the terminals behind out and err, nil when something else is there.
	outTerm, errTerm *os.File
	in               *os.File
	state            string
	coordinator      string
	output           string
	json             bool
	progress         string
	every            time.Duration
	quiet            bool
	verbose          bool
	tlsCert          string
	tlsKey           string
	tlsCA            string
	// waits is what the verb waits for, told when its --timeout passes.
	waits wait
}

// Main runs drover with the given arguments and returns its exit code.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the first Ctrl-C drains or detaches; the second one ends the program at once
	e := newEnv(os.Getenv)
	flush, err := telemetry.Setup(ctx, service(args))
	if err != nil {
		return e.exit(diag.Usage.New("environment", err, "telemetry is misconfigured"))
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if err := flush(ctx); err != nil {
			e.say("warning: telemetry was not sent: %v", err)
		}
	}()
	root := e.root()
	root.SetArgs(args)
	err = root.ExecuteContext(ctx)
	if ctx.Err() != nil && cutOff(err) {
		err = context.Canceled
	}
	return e.exit(err)
}

// cutOff reports whether an error only says that a call did not end, which after an interrupt is no news.
func cutOff(err error) bool {
	d := diag.Find(err)
	return d != nil && (d.Code.ID == diag.NoCoord.ID || d.Code.ID == diag.CallCancelled.ID)
}

// service names this process in traces and metrics by its role.
func service(args []string) string {
	if len(args) > 1 && args[1] == "run" {
		return "drover-" + args[0]
	}
	return "drover"
}

func newEnv(get func(string) string) *env {
	e := &env{out: os.Stdout, err: os.Stderr, data: os.Stdout, in: os.Stdin, outTerm: terminal(os.Stdout), errTerm: terminal(os.Stderr)}
	if !view.UTF8(get) {
		e.out, e.err = view.ASCII(e.out), view.ASCII(e.err)
	}
	return e
}

// terminal is f if a person looks at it and it can redraw, else nil.
func terminal(f *os.File) *os.File {
	if !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return f
}

func (e *env) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "drover",
		Short: "Move a live database into another one and keep the two equal",
		Long: `Drover copies a database that is in use into another one, in parallel chunks, follows its changes
without locks, gaps or doubles, and keeps the two equal until you switch over.`,
		Example: `  drover copy postgres://me@old/shop postgres://me@new/shop
  drover copy postgres://me@old/shop postgres://me@new/shop --follow
  drover doctor postgres://me@old/shop postgres://me@new/shop`,
		SilenceUsage: true, SilenceErrors: true, Version: Version,
	}
	f := root.PersistentFlags()
	f.StringVar(&e.state, "data", defaultData(), "directory of the local state")
	f.StringVar(&e.coordinator, "coordinator", os.Getenv("DROVER_COORDINATOR"), "address of a coordinator (host:port or unix:PATH; several separated by commas); default: the one under --data")
	f.StringVarP(&e.output, "output", "o", "table", strings.Join(view.Formats, " | "))
	f.BoolVar(&e.json, "json", false, "the same as -o json")
	f.StringVar(&e.progress, "progress", "auto", strings.Join(progressForms, " | "))
	f.DurationVar(&e.every, "every", 10*time.Second, "how often plain progress prints a line")
	f.BoolVarP(&e.quiet, "quiet", "q", false, "print results and errors only")
	f.BoolVarP(&e.verbose, "verbose", "v", false, "log what happens inside to stderr")
	f.StringVar(&e.tlsCert, "tls-cert", "", "certificate (PEM) for connections off loopback")
	f.StringVar(&e.tlsKey, "tls-key", "", "key (PEM) of --tls-cert")
	f.StringVar(&e.tlsCA, "tls-ca", "", "CA (PEM) that signs the other side")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return e.checkFlags() }
	root.SetFlagErrorFunc(badFlag)
	offer(root, "output", view.Formats)
	offer(root, "progress", progressForms)
	noun(root, e.copyCmd(), e.doctorCmd(), e.upCmd(), e.applyCmd(), e.listCmd(), e.statusCmd(), e.tablesCmd(), e.chunksCmd(),
		e.logsCmd(), e.deleteCmd(), e.explainCmd(), e.versionCmd(), e.coordinatorCmd(), e.agentCmd(), e.connectorCmd())
	for _, c := range append(e.desiredCmds(), e.reloadCmd()) {
		root.AddCommand(c)
	}
	own(root)
	return root
}

// own makes cobra's own commands answer wrong words as ours do.
func own(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "completion":
			noun(c)
		case "help":
			show := c.Run
			c.Run = nil
			c.RunE = func(c *cobra.Command, args []string) error {
				if about, rest, err := root.Find(args); err != nil || about == root && len(rest) > 0 {
					return root.Args(root, args)
				}
				show(c, args)
				return nil
			}
		}
	}
}

// progressForms are the words that --progress takes.
var progressForms = []string{"auto", "plain", "json", "none"}

func (e *env) checkFlags() error {
	if e.json {
		e.output = "json"
	}
	for _, a := range e.coordinators() {
		if _, _, err := net.SplitHostPort(a); err != nil && !strings.HasPrefix(a, "unix:") {
			return diag.Usage.New("--coordinator", nil, "%q is neither host:port nor unix:PATH", a)
		}
	}
	return errors.Join(oneOf("--output", e.output, view.Formats...), oneOf("--progress", e.progress, progressForms...))
}

// offer completes the words that a flag takes.
func offer(c *cobra.Command, flag string, words []string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}

// show prints an answer in the form that was asked for.
func (e *env) show(l view.Listing) error { return l.Write(e.out, e.data, e.output) }

// forPeople reports whether the answer is text that people read.
func (e *env) forPeople() bool { return e.output == "table" || e.output == "wide" }

// exit prints what went wrong and turns it into an exit code.
func (e *env) exit(err error) int {
	var x exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &x):
		return x.code
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	d := diag.Find(err)
	if d == nil {
		// cobra reports what it finds itself without a type.
		d = diag.Usage.New("drover", nil, "%s", err.Error())
		if !looksLikeUsage(err) {
			d = diag.Internal.New("drover", nil, "%s", err.Error())
		}
	}
	f := failureOf(d)
	f.Fix = e.placed(f.Fix)
	view.WriteFailure(e.err, f, d.Code.Title)
	return exitCode(d)
}

func looksLikeUsage(err error) bool {
	s := err.Error()
	for _, p := range []string{"unknown command", "arg(s)", "required flag", "invalid argument", "if any flags in the group"} {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}

func failureOf(d *diag.Error) view.Failure {
	why := d.Why
	if d.Cause != nil {
		why = strings.TrimPrefix(why+": "+d.Cause.Error(), ": ")
	}
	return view.Failure{Code: d.Code.ID, Where: d.Where, Why: why, Fix: d.Fix()}
}

// refused are the codes of checks: nothing was done, and a person has to mend something first.
var refused = map[string]bool{
	diag.WalLevel.ID: true, diag.NoReplication.ID: true, diag.NoSlotFree.ID: true, diag.NoWalsender.ID: true, diag.NoIdentity.ID: true,
	diag.RowSecurity.ID: true, diag.NoCreate.ID: true, diag.Standby.ID: true, diag.NoRight.ID: true, diag.MissingObject.ID: true,
	diag.NotEmpty.ID: true, diag.NameTaken.ID: true, diag.ReadOnly.ID: true, diag.TargetRights.ID: true, diag.ReplicaRole.ID: true, diag.TooOld.ID: true,
}

func exitCode(d *diag.Error) int {
	switch d.Code.ID {
	case diag.Unreachable.ID, diag.AuthFailed.ID, diag.NoDatabase.ID, diag.NoCoord.ID, diag.TLSRefused.ID, diag.TooMany.ID:
		return exitUnreachable
	case diag.Differs.ID:
		return exitDiffers
	case diag.TimedOut.ID:
		return exitTimeout
	}
	if refused[d.Code.ID] {
		return exitRefused
	}
	if d.Code.Class == diag.BadUsage {
		return exitUsage
	}
	return exitFailed
}

// asks reports whether a question can be asked: never off a terminal.
func (e *env) asks() bool { return e.errTerm != nil && term.IsTerminal(int(e.in.Fd())) }

// say prints a message to stderr unless --quiet.
func (e *env) say(format string, args ...any) {
	if !e.quiet {
		fmt.Fprintf(e.err, format+"\n", args...)
	}
}
