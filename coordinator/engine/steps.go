package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// schema makes tables; with changes to come, their keys too.
func (p *Pipeline) schema(ctx context.Context) error {
	if p.state.Finished || p.state.Loaded && p.state.StepsDone > 0 {
		return nil
	}
	if err := p.enter(ctx, controlv1.Phase_PHASE_SCHEMA); err != nil {
		return err
	}
	phases := []connectorv1.Phase{connectorv1.Phase_PHASE_TABLES}
	if p.follow() {
		phases = append(phases, connectorv1.Phase_PHASE_KEYS)
	}
	// Before the steps: a table that exists is taken over only when it is empty.
	if p.spec.WhenNotEmpty == "truncate" && !p.state.Emptied {
		if err := p.resetAt(ctx, p.catalog.Tables); err != nil {
			return err
		}
	}
	p.state.Emptied = true // saved before anything is granted: a spec that is changed later empties nothing
	return p.steps(ctx, phases)
}

// steps runs schema steps of neighbouring phases in one call; the target knows their order, and which are done.
func (p *Pipeline) steps(ctx context.Context, phases []connectorv1.Phase) error {
	if !p.spec.Schema {
		return nil
	}
	var steps []*connectorv1.SchemaStep
	for _, s := range p.catalog.Steps {
		if slices.Contains(phases, s.Phase) && !p.ofFailed(s) {
			steps = append(steps, s)
		}
	}
	if len(steps) == 0 {
		return nil
	}
	h := stepsHeard{done: p.stepsBefore(phases[0]), seen: map[uint32]bool{}, warnings: map[uint32]*connectorv1.Problem{}}
	hear := func(heard []*connectorv1.ApplySchemaResponse) {
		h.hear(heard)
		p.state.StepsDone = max(p.state.StepsDone, h.done)
	}
	r, err := p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Schema{Schema: &connectorv1.ApplySchemaRequest{
		Pipeline: p.name, Epoch: p.state.Epoch, Steps: steps, Parallel: max(p.spec.Parallel, 2)}}}), func(e *fleetv1.Event) {
		if s := e.GetSchemaStep(); s != nil {
			hear([]*connectorv1.ApplySchemaResponse{s})
		}
		hear(e.GetSchemaSteps().GetSteps())
	})
	if err != nil {
		return err
	}
	hear(r.GetSchema().GetSteps())
	waits := p.dangling(steps, &h)
	if err := problemError(h.problems); err != nil {
		return err
	}
	return p.save(ctx, append(waits, p.leave(steps, h.warnings)...)...)
}

// ofFailed: what is built after the load waits for a table that has failed.
func (p *Pipeline) ofFailed(s *connectorv1.SchemaStep) bool {
	return s.Phase > connectorv1.Phase_PHASE_TABLES && s.Table > 0 && int(s.Table) <= len(p.tables) && p.tables[s.Table-1].failure != nil
}

// dangling takes foreign keys that were refused, while some table has failed, out of the problems: their rows refer to what
// is not there. They are listed, and tried again when the table is loaded.
func (p *Pipeline) dangling(steps []*connectorv1.SchemaStep, h *stepsHeard) []store.Change {
	before := len(p.catalog.NotCarried)
	changed := false
	for _, s := range steps {
		if !strings.HasPrefix(s.Kind, "foreign key") { // the key, and the check of its rows
			continue
		}
		p.catalog.NotCarried = slices.DeleteFunc(p.catalog.NotCarried, func(n *connectorv1.NotCarried) bool { return n.Kind == s.Kind && n.Object == s.Object })
		i := slices.IndexFunc(h.problems, func(x *connectorv1.Problem) bool {
			return x.Code == diag.StepFailed.ID && x.Object == s.Kind+" "+s.Object
		})
		if i < 0 || p.failed() == 0 {
			continue
		}
		p.catalog.NotCarried = append(p.catalog.NotCarried, &connectorv1.NotCarried{Kind: s.Kind, Object: s.Object,
			Reason: "it was refused while a table has failed: " + h.problems[i].Reason, Todo: "drover reload " + p.name + "  # tries it again"})
		h.problems, changed = slices.Delete(h.problems, i, i+1), true
	}
	if !changed && before == len(p.catalog.NotCarried) {
		return nil
	}
	return store.PutCatalog(p.name, p.catalog)
}

// leave lists what a step could not carry over, though the rest went on, so that the summary names it.
func (p *Pipeline) leave(steps []*connectorv1.SchemaStep, warnings map[uint32]*connectorv1.Problem) []store.Change {
	for _, s := range steps {
		is := func(n *connectorv1.NotCarried) bool { return n.Kind == s.Kind && n.Object == s.Object }
		if w := warnings[s.Id]; w != nil {
			p.catalog.NotCarried = append(slices.DeleteFunc(p.catalog.NotCarried, is),
				&connectorv1.NotCarried{Kind: s.Kind, Object: s.Object, Reason: w.Reason, Todo: strings.Join(w.Fix, " ")})
		}
	}
	if len(warnings) == 0 {
		return nil
	}
	p.dropDependents(warnings)
	return store.PutCatalog(p.name, p.catalog)
}

// dropDependents gives up what would need a step that could not be carried, in later phases too: an index of an operator class.
// Owners and grants name many objects, and go on without some.
func (p *Pipeline) dropDependents(warnings map[uint32]*connectorv1.Problem) {
	many := func(s *connectorv1.SchemaStep) bool { return s.Kind == "owner" || s.Kind == "grant" }
	missing := map[uint32]string{}
	p.catalog.Steps = slices.DeleteFunc(p.catalog.Steps, func(s *connectorv1.SchemaStep) bool {
		if many(s) {
			return false
		}
		if warnings[s.Id] != nil {
			missing[s.Id] = s.Kind + " " + s.Object
			return false
		}
		for _, a := range s.After {
			if what := missing[a]; what != "" {
				missing[s.Id] = s.Kind + " " + s.Object
				p.catalog.NotCarried = append(p.catalog.NotCarried, &connectorv1.NotCarried{Kind: s.Kind, Object: s.Object,
					Reason: "it needs " + what + ", which is not carried", Todo: strings.Join(s.Sql, ";\n") + ";"})
				return true
			}
		}
		return false
	})
}

// atCutover are the steps that wait because changes are being applied.
func (p *Pipeline) atCutover() (steps []*connectorv1.SchemaStep) {
	if !p.follow() || !p.spec.Schema {
		return nil
	}
	for _, s := range p.catalog.Steps {
		if s.Phase == connectorv1.Phase_PHASE_CUTOVER {
			steps = append(steps, s)
		}
	}
	return steps
}

// stepsHeard counts each step once, however often it is told.
type stepsHeard struct {
	done     int
	seen     map[uint32]bool
	problems []*connectorv1.Problem
	warnings map[uint32]*connectorv1.Problem
}

func (h *stepsHeard) hear(steps []*connectorv1.ApplySchemaResponse) {
	for _, s := range steps {
		if h.seen[s.Step] {
			continue
		}
		h.seen[s.Step] = true
		switch {
		case s.Problem.GetWarning():
			h.warnings[s.Step] = s.Problem
		case s.Problem != nil:
			h.problems = append(h.problems, s.Problem)
			continue
		}
		h.done++
	}
}

func (p *Pipeline) stepsBefore(phase connectorv1.Phase) int {
	n := 0
	for _, s := range p.catalog.Steps {
		if s.Phase < phase {
			n++
		}
	}
	return n
}
