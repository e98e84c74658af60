package command

import (
	"context"
	"errors"
	"strings"

	"github.com/droverdb/drover/ctl/view"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/telemetry"
)

// errInterrupted is told to programs; who pressed Ctrl-C knows it.
var errInterrupted = diag.CallCancelled.New("drover", nil, "it was interrupted")

// exit prints what went wrong and turns it into an exit code.
func (e *env) exit(err error) int {
	var x exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &x):
		if x.code == exitInterrupted {
			e.fail(errInterrupted)
		}
		return x.code
	case errors.Is(err, context.Canceled):
		e.fail(errInterrupted)
		return exitInterrupted
	}
	d := coded(err)
	f := e.failureOf(d)
	view.WriteFailure(e.err, f, d.Code.Title)
	e.fail(d)
	return exitCode(d)
}

// fail answers programs that read JSON or YAML: whoever asked for a document gets one, whatever happens.
func (e *env) fail(d *diag.Error) {
	if e.answered || e.output != "json" && e.output != "yaml" {
		return
	}
	errors := []view.Failure{e.failureOf(d)}
	for _, f := range e.found {
		if f.Code != errors[0].Code || f.Where != errors[0].Where {
			errors = append(errors, f)
		}
	}
	if err := e.show(view.Failed(errors, []string{"drover explain " + d.Code.ID})); err != nil {
		e.say("warning: the answer was not written: %v", err)
	}
}

// formOf is the form of the answer that a command line asks for, whatever else is wrong with it.
func formOf(args []string) (form string) {
	for i, a := range args {
		name, value, ok := strings.Cut(a, "=")
		switch {
		case a == "--":
			return form
		case a == "--json":
			form = "json"
		case (a == "-o" || a == "--output") && i+1 < len(args):
			form = args[i+1]
		case ok && (name == "-o" || name == "--output"):
			form = value
		case strings.HasPrefix(a, "-o"):
			form = a[len("-o"):]
		}
	}
	return form
}

// coded gives every error a code.
func coded(err error) *diag.Error {
	d := diag.Find(err)
	switch {
	case d != nil:
		return d
	case looksLikeUsage(err): // cobra reports what it finds itself without a type
		return diag.Usage.New("drover", nil, "%s", err.Error())
	}
	return diag.Internal.New("drover", nil, "%s", err.Error())
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

func (e *env) failureOf(d *diag.Error) view.Failure {
	why := d.Why
	if d.Cause != nil {
		why = strings.TrimPrefix(why+": "+d.Cause.Error(), ": ")
	}
	return view.Failure{Code: d.Code.ID, Where: telemetry.Redact(d.Where), Why: telemetry.Redact(why), Fix: e.placed(d.Fix())}
}

// refused are the codes of checks: nothing was done, and a person has to mend something first.
var refused = map[string]bool{
	diag.WalLevel.ID: true, diag.NoReplication.ID: true, diag.NoSlotFree.ID: true, diag.NoWalsender.ID: true, diag.NoIdentity.ID: true,
	diag.RowSecurity.ID: true, diag.NoCreate.ID: true, diag.Standby.ID: true, diag.NoRight.ID: true, diag.MissingObject.ID: true,
	diag.NotEmpty.ID: true, diag.NameTaken.ID: true, diag.ReadOnly.ID: true, diag.TargetRights.ID: true, diag.ReplicaRole.ID: true, diag.TooOld.ID: true,
	diag.SchemaTaken.ID: true, diag.AtWork.ID: true, diag.TakenOver.ID: true, diag.OtherDatabase.ID: true, diag.SharedTarget.ID: true,
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
