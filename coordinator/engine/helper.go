package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/schedule"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

const (
	// inviteAgain is when an agent that could not help is asked once more.
	inviteAgain = 30 * time.Second
	// restMost bounds how long a pair of agents rests after loads of theirs have failed.
	restMost = 10 * time.Second
)

// helper is an agent besides the attempt's reader or writer, at one side of loads. Slot, splits, snapshots and schema are
// never its business, so it may come and go at any time (Invariant 21).
type helper struct {
	hello  *fleetv1.Hello // of the session in which it was invited
	asking bool
	fits   bool
	why    string // it does not fit
	again  time.Time
}

// seat is one side of loads and who works there.
type seat struct {
	agent string
	role  connectorv1.Role
}

// rest keeps two agents apart until something has changed, one hopes.
type rest struct {
	until time.Time
	times int
}

// invite asks whoever has come to open the database. An agent elsewhere may not reach it, or may find another one under
// the same name: only who has shown that it reaches the very one is given chunks.
func (p *Pipeline) invite() {
	for _, a := range p.fleet.Agents() {
		if p.reads(a) && a.Hello.Agent != p.run.reader {
			p.inviteTo(seat{a.Hello.Agent, connectorv1.Role_ROLE_SOURCE}, a.Hello)
		}
		if p.writes(a) && a.Hello.Agent != p.run.writer {
			p.inviteTo(seat{a.Hello.Agent, connectorv1.Role_ROLE_SINK}, a.Hello)
		}
	}
}

func (p *Pipeline) inviteTo(s seat, hello *fleetv1.Hello) {
	h := p.run.helpers[s]
	if h == nil || h.hello != hello {
		h = &helper{hello: hello}
		p.run.helpers[s] = h
	}
	if h.asking || h.fits || time.Now().Before(h.again) {
		return
	}
	h.asking = p.look(s, func(reached *connectorv1.OpenResponse, err error) { p.opened(s, h, reached, err) })
}

// look asks an agent which database it reaches; false: it has left again.
func (p *Pipeline) look(s seat, then func(*connectorv1.OpenResponse, error)) bool {
	t := &fleetv1.Task{Epoch: p.state.Epoch, Work: &fleetv1.Task_Open{Open: &fleetv1.OpenTask{}}}
	if s.role == connectorv1.Role_ROLE_SOURCE {
		p.onSource(t)
	} else {
		p.onSink(t)
	}
	id, err := p.assign(s.agent, t, func(m fleet.Message) {
		if m.Result != nil {
			delete(p.run.tasks, m.Task)
			then(m.Result.GetOpen().GetOpen(), fleetError(m))
		}
	})
	if err == nil {
		p.run.tasks[id] = true
	}
	return err == nil
}

// opened hears what a helper reaches. A server that was started again in mid-attempt looks like another one: the attempt's
// own agent is asked once more before anybody is turned away for that.
func (p *Pipeline) opened(s seat, h *helper, reached *connectorv1.OpenResponse, err error) {
	own, identity, instance := p.reaches(s.role)
	if err != nil || reached.GetIdentity() != identity || reached.GetInstance() == *instance {
		p.seat(s, h, reached, err)
		return
	}
	asked := p.look(own, func(now *connectorv1.OpenResponse, failed error) {
		if failed == nil && now.GetIdentity() == identity && now.GetInstance() != *instance {
			*instance = now.GetInstance()
			p.keep(nil)
		}
		p.seat(s, h, reached, err)
	})
	if !asked {
		p.seat(s, h, reached, err)
	}
}

// seat lets a helper work, or tells once why not.
func (p *Pipeline) seat(s seat, h *helper, reached *connectorv1.OpenResponse, err error) {
	does := "read the source"
	if s.role == connectorv1.Role_ROLE_SINK {
		does = "write the target"
	}
	delete(p.astray, s)
	why := ""
	if err != nil {
		why = err.Error()
	} else if why = p.elsewhere(s.role, reached); why != "" {
		p.astray[s] = h.hello
	}
	h.asking, h.fits, h.again = false, why == "", time.Now().Add(inviteAgain)
	switch {
	case h.fits:
		p.note("info", fmt.Sprintf("agent %s helps to %s", s.agent, does))
	case why != h.why:
		p.note("warn", fmt.Sprintf("agent %s does not help to %s: %s", s.agent, does, why))
	}
	h.why = why
}

// reaches is the attempt's own agent of a role, and what it has found: the database, and the server as it was started last.
func (p *Pipeline) reaches(role connectorv1.Role) (own seat, identity string, instance *string) {
	if role == connectorv1.Role_ROLE_SINK {
		return seat{p.run.writer, role}, p.state.TargetID, &p.state.TargetInstance
	}
	return seat{p.run.reader, role}, p.state.SourceID, &p.state.SourceInstance
}

// elsewhere tells what is wrong with the database that somebody reaches; "" if it is the one that the attempt's own agents
// have found.
func (p *Pipeline) elsewhere(role connectorv1.Role, reached *connectorv1.OpenResponse) string {
	_, identity, instance := p.reaches(role)
	switch {
	case reached.GetIdentity() != identity:
		return "under that address it reaches another database"
	case reached.GetInstance() != *instance:
		return "under that address it reaches another server with a physical copy of the database"
	}
	return ""
}

func (p *Pipeline) seated(s seat, hello *fleetv1.Hello) bool {
	h := p.run.helpers[s]
	return h != nil && h.fits && h.hello == hello
}

// loaders are the agents that may run loads now, with their credits. Without the attempt's reader there are none: floors
// are had at its gate.
func (p *Pipeline) loaders() []schedule.Agent {
	if !p.present(map[string]bool{p.run.reader: true}) {
		return nil
	}
	var out []schedule.Agent
	for _, a := range p.fleet.Agents() {
		name := a.Hello.Agent
		one := schedule.Agent{Name: name, Reached: a.Hello.TransferAddress != ""}
		if p.reads(a) && (name == p.run.reader || p.seated(seat{name, connectorv1.Role_ROLE_SOURCE}, a.Hello)) {
			one.Read = int(a.Hello.ReadCredits)
		}
		if p.writes(a) && (name == p.run.writer || p.seated(seat{name, connectorv1.Role_ROLE_SINK}, a.Hello)) {
			one.Write = int(a.Hello.WriteCredits)
		}
		out = append(out, one)
	}
	return out
}

// theirs are failures that say something of the agents and nothing of the chunks.
var theirs = []diag.Code{diag.NoAgent, diag.CallCancelled, diag.ConnectorDied, diag.NoConnector, diag.NotGranted, diag.TLSRefused, diag.TLSRequired,
	diag.SecretAbsent, diag.Unreachable, diag.AuthFailed, diag.TooMany}

// helped reports whether a load has failed only because of a helper: then others can do it.
func (p *Pipeline) helped(l *load, f *fleetv1.Failure) bool {
	return l.Pair != p.run.own() && slices.ContainsFunc(theirs, func(c diag.Code) bool { return c.ID == f.Code })
}

// passOn leaves the chunks of such a load to others, and lets the two agents rest. The chunks keep their first floor
// (Invariant 3): who is only thought to be gone may have committed, and is refused from the next epoch on (Invariant 11).
func (p *Pipeline) passOn(l *load, f *fleetv1.Failure) {
	who := "agent " + l.Reader
	if l.Writer != l.Reader {
		who = "agents " + l.Reader + " and " + l.Writer
	}
	p.note("warn", fmt.Sprintf("chunks of %s go to others (%d): %s", who, len(l.chunks), wire.Error(f)))
	r := p.run.rests[l.Pair]
	if now := time.Now(); now.After(r.until) { // its other loads fail with it
		r.times++
		r.until = now.Add(min(time.Second<<min(r.times, 8), restMost))
	}
	p.run.rests[l.Pair] = r
}

// apart are the pairs that rest.
func (p *Pipeline) apart() map[schedule.Pair]bool {
	out := map[schedule.Pair]bool{}
	for pair, r := range p.run.rests {
		if time.Now().Before(r.until) {
			out[pair] = true
		}
	}
	return out
}
