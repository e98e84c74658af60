package command

import (
	"slices"
	"strings"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// typed turns what an error says of a pipeline file, which copy and doctor have none of, into words about the flag.
func (f copyFlags) typed(err error) error {
	d := diag.Find(err)
	if d == nil {
		return err
	}
	of := *d
	of.Where = f.flagOf(d.Where)
	if d.Code.ID == diag.SpecInvalid.ID {
		of.Code = diag.Usage
	}
	if of.Where == d.Where && of.Code == d.Code {
		return err
	}
	return &of
}

// typedProblems does the same for findings of checks.
func (f copyFlags) typedProblems(problems []*connectorv1.Problem) {
	for _, p := range problems {
		p.Object = f.flagOf(p.Object)
		if p.Code == diag.SpecInvalid.ID {
			p.Code = diag.Usage.ID
		}
	}
}

// flagOf names the flag that a pattern was given with, in place of the key in a file.
func (f copyFlags) flagOf(where string) string {
	_, pattern, ok := strings.Cut(where, "tables › ")
	switch {
	case !ok:
		return where
	case slices.Contains(f.exclude, pattern) && !slices.Contains(f.tables, pattern):
		return "--exclude " + pattern
	}
	return "--tables " + pattern
}

// mostParallel is how many loads may be asked for, as in a pipeline file.
const mostParallel = 256

func (f copyFlags) checkParallel() error {
	if f.parallel < 0 || f.parallel > mostParallel {
		return diag.Usage.New("--parallel", nil, "%d is not 0 to %d", f.parallel, mostParallel)
	}
	return nil
}
