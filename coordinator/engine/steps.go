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
		if err := p.resetAt(ctx, p.rows()); err != nil {
			return err
		}
	}
	p.state.Emptied = true // saved before anything is granted: a spec that is changed later empties nothing
	return p.steps(ctx, phases)
}

// steps runs schema steps of neighbouring phases in one call; the target knows their order, and which are done.
func (p *Pipeline) steps(ctx context.Context, phases []connectorv1.Phase) error {
	asked := func(s *connectorv1.SchemaStep) bool {
		return slices.Contains(phases, s.Phase) && p.wanted(s) && !p.ofFailed(s)
	}
	steps, n, err := p.catalog.some(asked)
	if err != nil || n == 0 {
		return err
	}
	p.more = nil
	h := stepsHeard{seen: map[uint32]bool{}, warnings: map[uint32]*connectorv1.Problem{}, rowsOnly: !p.spec.Schema}
	if p.spec.Schema {
		h.done = p.stepsBefore(phases[0])
	}
	hear := func(heard []*connectorv1.ApplySchemaResponse) {
		h.hear(heard)
		p.state.StepsDone = max(p.state.StepsDone, h.done)
	}
	r, err := p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Schema{Schema: &connectorv1.ApplySchemaRequest{
		Pipeline: p.name, Epoch: p.state.Epoch, Packed: steps, Parallel: max(p.spec.Parallel, 2)}}}), func(e *fleetv1.Event) {
		if s := e.GetSchemaStep(); s != nil {
			hear([]*connectorv1.ApplySchemaResponse{s})
		}
		hear(e.GetSchemaSteps().GetSteps())
	})
	if err != nil {
		return err
	}
	hear(r.GetSchema().GetSteps())
	waits, err := p.dangling(&h, asked)
	if err != nil {
		return err
	}
	changes, err := p.leave(h.warnings)
	if err != nil {
		return err
	}
	if err := p.save(ctx, append(waits, changes...)...); err != nil {
		return err
	}
	if slices.Contains(phases, connectorv1.Phase_PHASE_FINISH) {
		return p.stepsRefused(h.refusals)
	}
	return p.goOnWithout(ctx, h.refusals)
}

// wanted: the schema may be somebody else's, but what a sequence has come to, and what a materialised view holds, go with the rows.
func (p *Pipeline) wanted(s *connectorv1.SchemaStep) bool {
	return p.spec.Schema || s.Kind == sequenceValue || s.Kind == viewRows
}

// ofFailed: what is built waits for a table that has failed; the table itself, if it could not be made, until it is to be
// loaded again.
func (p *Pipeline) ofFailed(s *connectorv1.SchemaStep) bool {
	if s.Table == 0 || int(s.Table) > len(p.tables) || p.tables[s.Table-1].failure == nil {
		return false
	}
	return s.Phase > connectorv1.Phase_PHASE_TABLES || !p.tables[s.Table-1].Again
}

// dangling takes what was refused because some table has failed out of the refusals: foreign keys, whose rows refer to what
// is not there, and what needs a table that could not be made. They are listed, and tried again when the table is loaded.
func (p *Pipeline) dangling(h *stepsHeard, asked func(*connectorv1.SchemaStep) bool) ([]store.Change, error) {
	before := len(p.catalog.notCarried)
	changed := false
	need, err := p.needFailed()
	if err != nil {
		return nil, err
	}
	err = p.catalog.eachStep(func(s *connectorv1.SchemaStep) {
		if !asked(s) || !strings.HasPrefix(s.Kind, "foreign key") && !need[s.Id] { // the key, and the check of its rows
			return
		}
		p.catalog.notCarried = slices.DeleteFunc(p.catalog.notCarried, func(n *connectorv1.NotCarried) bool { return n.Kind == s.Kind && n.Object == s.Object })
		i := slices.IndexFunc(h.refusals, func(x refusal) bool { return x.step == s.Id && (need[s.Id] || x.Code == diag.StepFailed.ID) })
		if i < 0 || p.failed() == 0 {
			return
		}
		if slices.ContainsFunc(p.catalog.notCarried, func(n *connectorv1.NotCarried) bool { return n.Kind == "foreign key" && n.Object == s.Object }) {
			h.refusals, changed = slices.Delete(h.refusals, i, i+1), true // the check of the rows of a key that is listed
			return
		}
		p.catalog.notCarried = append(p.catalog.notCarried, &connectorv1.NotCarried{Kind: s.Kind, Object: s.Object,
			Reason: "it was refused while a table has failed: " + h.refusals[i].Reason, Todo: "drover reload " + p.name + "  # tries it again"})
		h.refusals, changed = slices.Delete(h.refusals, i, i+1), true
	})
	if err != nil || !changed && before == len(p.catalog.notCarried) {
		return nil, err
	}
	return p.catalog.put(p.name), p.catalog.recount()
}

// leave lists what a step could not carry over, though the rest went on, so that the summary names it.
func (p *Pipeline) leave(warnings map[uint32]*connectorv1.Problem) ([]store.Change, error) {
	if len(warnings) == 0 {
		return nil, nil
	}
	err := p.catalog.eachStep(func(s *connectorv1.SchemaStep) {
		is := func(n *connectorv1.NotCarried) bool { return n.Kind == s.Kind && n.Object == s.Object }
		if w := warnings[s.Id]; w != nil {
			p.catalog.notCarried = append(slices.DeleteFunc(p.catalog.notCarried, is),
				&connectorv1.NotCarried{Kind: s.Kind, Object: s.Object, Reason: w.Reason, Todo: p.todo(s, w)})
		}
	})
	if err == nil {
		err = p.dropDependents(warnings)
	}
	return p.catalog.put(p.name), err
}

// todo is what to do for a step that was not carried. Where the schema is somebody else's, only the statement itself helps.
func (p *Pipeline) todo(s *connectorv1.SchemaStep, w *connectorv1.Problem) string {
	if !p.spec.Schema {
		return strings.Join(s.Sql, ";\n") + ";"
	}
	return strings.Join(w.Fix, "\n")
}

// dropDependents gives up what would need a step that could not be carried, in later phases too: an index of an operator class.
// Owners and grants name many objects, and go on without some.
func (p *Pipeline) dropDependents(warnings map[uint32]*connectorv1.Problem) error {
	many := func(s *connectorv1.SchemaStep) bool { return s.Kind == "owner" || s.Kind == "grant" }
	missing := map[uint32]string{}
	return p.catalog.change(func(s *connectorv1.SchemaStep) bool {
		if many(s) {
			return true
		}
		if warnings[s.Id] != nil {
			missing[s.Id] = s.Kind + " " + s.Object
			return true
		}
		for _, a := range s.After {
			if what := missing[a]; what != "" {
				missing[s.Id] = s.Kind + " " + s.Object
				if what == "foreign key "+s.Object { // the check of its rows: the key is listed
					return false
				}
				p.catalog.notCarried = append(p.catalog.notCarried, &connectorv1.NotCarried{Kind: s.Kind, Object: s.Object,
					Reason: "it needs " + what + ", which is not carried", Todo: strings.Join(s.Sql, ";\n") + ";"})
				return false
			}
		}
		return true
	})
}

// atCutover are the steps that wait because changes are being applied.
func (p *Pipeline) atCutover() (steps []*connectorv1.SchemaStep) {
	if !p.follow() || !p.spec.Schema {
		return nil
	}
	return p.catalog.cutover
}

// stepsHeard counts each step once, however often it is told.
type stepsHeard struct {
	done     int
	seen     map[uint32]bool
	refusals []refusal
	warnings map[uint32]*connectorv1.Problem
	// rowsOnly: whoever made the schema may have left out what a step is for, or keep it from us. It is named.
	rowsOnly bool
}

func (h *stepsHeard) hear(steps []*connectorv1.ApplySchemaResponse) {
	for _, s := range steps {
		if h.seen[s.Step] {
			continue
		}
		h.seen[s.Step] = true
		switch {
		case s.Problem.GetWarning(), s.Problem != nil && h.rowsOnly:
			h.warnings[s.Step] = s.Problem
		case s.Problem != nil:
			h.refusals = append(h.refusals, refusal{s.Step, s.Problem})
			continue
		}
		h.done++
	}
}

func (p *Pipeline) stepsBefore(phase connectorv1.Phase) int {
	n := 0
	for before, many := range p.catalog.count.byPhase {
		if before < phase {
			n += many
		}
	}
	return n
}
