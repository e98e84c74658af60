package engine

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// newOwner is under whom coordinators that share a store write: the target tells them from all others (Invariant 25).
func newOwner() string { return rand.Text() }

// sameDatabases refuses agents that reach others than those the pipeline has begun with: first the next attempt asks other
// agents. A server that was started again, or took over, is the same database.
func (p *Pipeline) sameDatabases(ctx context.Context, source, target *connectorv1.OpenResponse) error {
	if !p.state.Discovered {
		return nil
	}
	for _, x := range []struct {
		seat
		former, known, found, what string
	}{
		{seat{p.run.reader, connectorv1.Role_ROLE_SOURCE}, p.state.Reader, p.state.SourceID, source.GetIdentity(), "source"},
		{seat{p.run.writer, connectorv1.Role_ROLE_SINK}, p.state.Writer, p.state.TargetID, target.GetIdentity(), "target"},
	} {
		if x.known == x.found {
			continue
		}
		p.strays(x.seat)
		if p.lost.IsZero() {
			p.lost = time.Now()
		}
		if p.mayFind(x.former) {
			return diag.NoAgent.New("agent "+x.agent+" › "+x.what, nil, "under that address it reaches another database than the one this pipeline began with").
				WithFix("Let the address lead to that database again; to begin anew, drover delete " + p.name + ".")
		}
		return p.otherDatabase(ctx, x.what)
	}
	p.lost = time.Time{}
	return nil
}

// astrayPatience is how long others may take to come back, after a start of the coordinator or of a machine.
const astrayPatience = 10 * time.Second

// mayFind reports whether some agent may still reach the databases that the pipeline has begun with: one that has not shown
// that it too reaches something else, or that may be about to connect. A single command has no other.
func (p *Pipeline) mayFind(former string) bool {
	away := former != ""
	for _, a := range p.fleet.Agents() {
		away = away && (a.Hello.Agent != former || !a.Connected)
	}
	reader, writer := p.pickOf(p.fleet.Agents(), p.trusted)
	return away || reader != "" && writer != "" || !p.state.Anew && time.Since(p.lost) < astrayPatience
}

// otherDatabase begins anew what a single command asks for, if the target holds nothing that could be mixed up or lost.
// Everything else waits for a person.
func (p *Pipeline) otherDatabase(ctx context.Context, side string) error {
	was := map[string]string{"source": p.state.Source, "target": p.state.Target}[side]
	err := diag.OtherDatabase.New(side+" › "+was, nil, "pipeline %s began with another database of that address%s", p.name, p.leftBehind(side))
	again := "To begin anew: drover delete " + p.name + ", then drover apply again."
	if p.state.Anew {
		known, askErr := p.askSink(ctx, &connectorv1.RecoverRequest{Pipeline: p.name})
		if askErr != nil {
			return askErr
		}
		if !known.GetFound() {
			return p.beginAnew(ctx, "the "+side+" is another database than before", side)
		}
		again = "To begin anew: make the target database anew, or empty its tables and DROP SCHEMA drover CASCADE; then run the same command again."
	}
	return err.WithFix("Let the address lead to the former database again; the pipeline then goes on.", again)
}

// leftBehind names what is still there at a former source.
func (p *Pipeline) leftBehind(side string) string {
	if side != "source" || len(p.state.Start) == 0 {
		return ""
	}
	made := strings.Join(p.state.Made, " and ")
	if made == "" {
		made = "the slot of this pipeline"
	}
	return "; there " + made + " may still be there, and a slot keeps the log from being removed"
}

// beginAnew forgets all that is stored of the pipeline: the next attempt is the first one.
func (p *Pipeline) beginAnew(ctx context.Context, why, side string) error {
	p.note("warn", "begins anew: "+why)
	left := p.state.Left
	if behind := p.leftBehind(side); behind != "" {
		left = append(left, p.state.Source+behind)
		p.note("warn", diag.LeftBehind.ID+" source "+p.state.Source+behind)
	}
	old := p.state
	p.state = store.State{Desired: old.Desired, Phase: controlv1.Phase_PHASE_ASSESS, Epoch: old.Epoch, Created: old.Created,
		Owner: old.Owner, Anew: old.Anew, Left: left}
	p.catalog, p.tables, p.sorted, p.found = nil, nil, nil, nil
	if err := p.save(ctx, store.DropCatalog(p.name)...); err != nil {
		return err
	}
	return errInterrupted
}

// left are warnings of what former beginnings have left at other databases.
func (p *Pipeline) left() (out []*connectorv1.Problem) {
	for _, x := range p.state.Left {
		out = append(out, &connectorv1.Problem{Code: diag.LeftBehind.ID, Warning: true, Side: "source", Object: "former source", Reason: x,
			Fix: []string{diag.LeftBehind.Fix}})
	}
	return out
}

// lostToOther: the target says that the pipeline is not this coordinator's any more.
func lostToOther(err error) bool {
	d := diag.Find(err)
	return d != nil && d.Code.ID == diag.TakenOver.ID
}

// claim makes the pipeline ours at the target, before anything is written or a slot is made, and empties what a load has
// left there that cannot be gone on with. Who comes second is refused, or comes after a crash of the first. What the
// checks have seen may be over by then: another copy may have come and gone.
func (p *Pipeline) claim(ctx context.Context, old *connectorv1.RecoverResponse) error {
	if err := p.mint(ctx, max(old.GetMaxEpoch(), old.GetEpoch())); err != nil {
		return err
	}
	r, err := p.fence(ctx, &connectorv1.RecoverRequest{Take: true})
	switch {
	case err != nil:
		return err
	case len(r.Memo) > 0 && len(old.GetMemo()) == 0: // somebody began to follow, and died
		return errInterrupted
	case !p.spec.Schema || old.GetFound() && !r.Found:
		if err := p.check(ctx, connectorv1.Role_ROLE_SINK, r.Found); err != nil {
			return err
		}
	}
	if len(r.Written) > 0 || len(r.Position) > 0 || len(r.Aside) > 0 {
		if err := p.resetAt(ctx, p.rows()); err != nil {
			return err
		}
		r.Written, r.Aside = nil, nil
	}
	p.run.claimed = r
	return nil
}
