package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// refusal is a schema step that the target has refused.
type refusal struct {
	step uint32
	*connectorv1.Problem
}

// mostNamed is how many refused steps are named in one line; all of them are in the status.
const mostNamed = 20

// stepsRefused is the error of all steps that the target has refused: each is named, in the error and in the status.
func (p *Pipeline) stepsRefused(refusals []refusal) error {
	if len(refusals) == 0 {
		return nil
	}
	first := problemOf(refusals[0].Problem)
	var names []string
	for _, r := range refusals[1:] {
		p.more = append(p.more, wire.Failure(problemOf(r.Problem)))
		names = append(names, r.Object)
	}
	if n := len(names); n > 0 {
		what := strings.Join(names[:min(n, mostNamed)], ", ")
		if n > mostNamed {
			what += fmt.Sprintf(" and %d more", n-mostNamed)
		}
		first.Why += "; refused too: " + what
	}
	return first
}

// problemOf is a problem as an error. Nothing that was refused is tried again by itself.
func problemOf(x *connectorv1.Problem) *diag.Error {
	code, ok := diag.Lookup(x.Code)
	if !ok || code.Class == diag.Retry {
		code = diag.StepFailed
	}
	where := x.Object
	if x.Side != "" {
		where = x.Side + " › " + where
	}
	return &diag.Error{Code: code, Where: where, Why: x.Reason, Fixes: x.Fix}
}

// goOnWithout lets rows be loaded although the target has refused steps that come before them. A table that could not be
// made, or in a stream not its key, is set aside. All other steps are tried again after the load, and end it if they are
// refused again: no row needs them.
func (p *Pipeline) goOnWithout(ctx context.Context, refusals []refusal) error {
	passes := func(r refusal) bool { c, ok := diag.Lookup(r.Code); return ok && c.Class == diag.Retry }
	if len(refusals) == 0 || slices.ContainsFunc(refusals, passes) {
		return p.stepsRefused(refusals)
	}
	failed, theirs, err := p.withoutTheir(refusals)
	if err != nil {
		return err
	}
	sound := func(t *table) bool { return t.failure == nil && failed[t.Index] == nil }
	if len(p.tables) > 0 && !slices.ContainsFunc(p.tables, sound) {
		return p.stepsRefused(refusals)
	}
	var aside []*connectorv1.Aside
	var changes []store.Change
	for _, t := range p.tables {
		if f := failed[t.Index]; f != nil {
			p.failTable(t, f)
			aside = append(aside, t.asAside())
			changes = append(changes, p.emptied(t)...)
		}
	}
	if len(aside) > 0 {
		if err := p.recordAside(ctx, aside); err != nil {
			return err
		}
	}
	for _, r := range refusals {
		if !theirs[r.step] {
			p.state.Late = true
			p.note("error", "refused, and tried again after the load: "+problemOf(r.Problem).Error())
		}
	}
	return p.save(ctx, changes...)
}

// makesTable: without the step the rows of its table have no place, or no key that changes find them by.
func (p *Pipeline) makesTable(s *connectorv1.SchemaStep) bool {
	return s.Table > 0 && int(s.Table) <= len(p.tables) && (strings.HasSuffix(s.Kind, "table") || p.follow() && s.Phase == connectorv1.Phase_PHASE_KEYS)
}

// withoutTheir are the failures of tables whose steps were refused, and those steps.
func (p *Pipeline) withoutTheir(refusals []refusal) (failed map[uint32]*fleetv1.Failure, theirs map[uint32]bool, err error) {
	by := map[uint32]*connectorv1.Problem{}
	for _, r := range refusals {
		by[r.step] = r.Problem
	}
	failed, theirs = map[uint32]*fleetv1.Failure{}, map[uint32]bool{}
	err = p.catalog.eachStep(func(s *connectorv1.SchemaStep) {
		x := by[s.Id]
		if x == nil || !p.makesTable(s) {
			return
		}
		theirs[s.Id] = true
		if failed[s.Table-1] == nil {
			failed[s.Table-1] = wire.Failure(problemOf(x))
		}
	})
	return failed, theirs, err
}

// needFailed are the steps that need a table that has failed, directly or not.
func (p *Pipeline) needFailed() (map[uint32]bool, error) {
	need := map[uint32]bool{}
	if p.failed() == 0 {
		return need, nil
	}
	return need, p.catalog.eachStep(func(s *connectorv1.SchemaStep) {
		if s.Kind == "owner" || s.Kind == "grant" { // they name many objects
			return
		}
		need[s.Id] = s.Table > 0 && int(s.Table) <= len(p.tables) && p.tables[s.Table-1].failure != nil ||
			slices.ContainsFunc(s.After, func(a uint32) bool { return need[a] })
	})
}
