package command

//go:generate go run ../reference ../../docs/reference

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/droverdb/drover/internal/diag"
)

// Variable is an environment variable that Drover reads.
type Variable struct{ Name, Text string }

// Variables lists the environment variables that people may set; a test demands that none is missing.
func Variables() []Variable {
	return []Variable{
		{"DROVER_DATA", "directory of the local state; default $XDG_STATE_HOME/drover, or ~/.local/state/drover"},
		{"DROVER_COORDINATOR", "address of a coordinator, the default of --coordinator"},
		{"DROVER_SOURCE_PASSWORD, DROVER_TARGET_PASSWORD", "passwords of the two databases of copy and doctor"},
		{"PGPASSWORD, PGPASSFILE, PGSERVICEFILE, PGSSL…", "as for any PostgreSQL client: .pgpass, service files and certificates"},
		{"PGHOST, PGPORT, PGUSER, PGDATABASE, PGSERVICE, PGSSLMODE, PGOPTIONS, PGCONNECT_TIMEOUT, PGTARGETSESSIONATTRS, PGCHANNELBINDING, PGREQUIREAUTH",
			"copy and doctor: what a URL leaves out; with a service, nothing but its name. A pipeline file is not filled, since its agents may be elsewhere"},
		{"DROVER_LOG", "plain (default) or json: form of the log on stderr"},
		{"DROVER_LOG_LEVEL", "debug, info, warn or error"},
		{"DROVER_PROFILE", "folder for profiles of every process: CPU, allocations, and the heap when it was largest; unset: nothing is measured"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT and other OTEL_…", "where traces, metrics and logs go; unset: nowhere"},
		{"NO_COLOR", "not empty: no colours"},
		{"LC_ALL, LC_CTYPE, LANG", "without UTF-8 in them, bars and signs are drawn in ASCII"},
		{"TERM", "dumb: no redrawn display"},
		{"DROVER_FAULT", "for tests: arms fault points, e.g. apply.before-commit=kill@3"},
		{"DROVER_FAULT_ONCE", "for tests: directory of marks, so that a point fires once in all processes"},
	}
}

// ExitCodes says what the exit codes mean.
func ExitCodes() map[int]string {
	return map[int]string{
		exitOK: "done", exitFailed: "failed", exitUsage: "bad usage or pipeline file", exitUnreachable: "a coordinator or database cannot be reached",
		exitRefused: "a check or guard refused", exitDiffers: "differences were found", exitTimeout: "--timeout has passed", exitPartly: "done, but some tables failed", exitInterrupted: "interrupted",
	}
}

// ExitCode is the exit code of an error code.
func ExitCode(c diag.Code) int { return exitCode(&diag.Error{Code: c}) }

// Tree is the tree of commands as every machine sees it: no default is taken from this one.
func Tree() *cobra.Command {
	e := &env{out: os.Stdout, err: os.Stderr, data: os.Stdout, in: os.Stdin}
	root := e.root()
	root.PersistentFlags().Lookup("data").DefValue = "$XDG_STATE_HOME/drover"
	root.PersistentFlags().Lookup("coordinator").DefValue = ""
	for _, c := range root.Commands() {
		for _, sub := range append(c.Commands(), c) {
			if f := sub.Flags().Lookup("name"); f != nil && c.Name() == "agent" {
				f.DefValue = "the host's name"
			}
		}
	}
	return root
}
