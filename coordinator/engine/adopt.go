package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/schedule"
	"github.com/droverdb/drover/coordinator/store"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// adopt takes over what agents still run for a former leader: its stream with the gate, the shared snapshot, loads. It
// waits for the agents concerned, but not longer than one TTL: then who is not here is lost (Invariant 20). False: there
// is nothing to take over, or not all that is needed; the attempt then starts from the target's tokens.
func (p *Pipeline) adopt(ctx context.Context) (bool, error) {
	r := p.state.Running
	if p.adopted || r == nil || p.catalog == nil {
		return false, nil
	}
	p.adopted = true
	if slices.ContainsFunc(p.tables, func(t *table) bool { return t.Again }) {
		return false, nil // they are emptied behind a new fence
	}
	p.waiting = "the agents that were at work under the former coordinator"
	at := p.atWork(r)
	err := p.pump(ctx, 0, func() bool { return time.Now().After(p.fleet.Settles()) || p.present(at) })
	p.waiting = ""
	if lostStore(err) || ctx.Err() != nil {
		return false, err
	}
	inherited := p.fleet.Inherited(p.name)
	ok := err == nil && p.takeOver(r, inherited)
	for _, x := range inherited {
		if !p.run.tasks[x.Task.Task] {
			p.fleet.Abandon(x.Task.Task, "another coordinator leads now")
		}
	}
	if !ok {
		return false, err
	}
	p.note("info", fmt.Sprintf("took over from a former coordinator: %d loads are in flight", len(p.run.loads)))
	return true, p.catchUp(ctx)
}

// atWork are the agents that may still run something of the attempt.
func (p *Pipeline) atWork(r *store.Running) map[string]bool {
	at := map[string]bool{r.Reader: true, r.Writer: true}
	for _, t := range p.tables {
		for _, c := range t.chunks {
			if c.Granted && !c.Written && c.Agent != "" {
				at[c.Agent], at[cmp.Or(c.Writer, r.Writer)] = true, true
			}
		}
	}
	return at
}

func (p *Pipeline) present(agents map[string]bool) bool {
	here := 0
	for _, a := range p.fleet.Agents() {
		if a.Connected && agents[a.Hello.Agent] {
			here++
		}
	}
	return here == len(agents)
}

// takeOver adopts the tasks. Without its stream, or without the snapshot that units under way share, an attempt cannot
// go on.
func (p *Pipeline) takeOver(r *store.Running, inherited []fleet.Inherited) bool {
	var stream, snapshot *fleetv1.RunningTask
	for _, x := range inherited {
		switch {
		case x.Task.GetStream() != nil && x.Task.Task == r.Stream && x.Agent == r.Reader:
			stream = x.Task
		case x.Task.GetSnapshot() != nil && (snapshot == nil || x.Task.Task > snapshot.Task):
			snapshot = x.Task
		}
	}
	if p.follow() && stream == nil || snapshot == nil && p.sharesSnapshot() {
		return false
	}
	p.run.reader, p.run.writer = r.Reader, r.Writer
	for _, a := range p.fleet.Agents() {
		if grant := p.fleet.InheritGrant(a.Hello.Agent, p.name); grant != nil {
			p.run.grants[a.Hello.Agent] = grant
		}
	}
	if stream != nil {
		if !p.take(stream, p.hearStream) {
			return false
		}
		p.run.stream, p.run.streaming = stream.Task, true
	}
	if snapshot != nil {
		if !p.take(snapshot, p.hearSnapshot) {
			return false
		}
		s := snapshot.GetSnapshot()
		p.run.snapshotTask, p.run.snapshot, p.run.coverage, p.run.group = snapshot.Task, s.Opened.GetSnapshot(), s.Opened.GetCoverage(), s.Tables
	}
	p.takeLoads(r, inherited)
	return true
}

// takeLoads adopts the loads that are the newest of their chunks, also those of helpers.
func (p *Pipeline) takeLoads(r *store.Running, inherited []fleet.Inherited) {
	for _, x := range inherited {
		if !p.granted(x.Task) {
			continue
		}
		chunks := x.Task.GetLoad().Chunks
		l := &load{Pair: schedule.Pair{Reader: x.Agent, Writer: cmp.Or(p.chunk(chunks[0]).Writer, r.Writer)}, chunks: chunks}
		if p.take(x.Task, p.hearLoad(l, nil)) {
			p.fly(l)
		}
	}
}

func (p *Pipeline) take(t *fleetv1.RunningTask, on func(fleet.Message)) bool {
	p.handlers[t.Task] = on
	if err := p.fleet.Adopt(t.Task, p.listen); err != nil {
		delete(p.handlers, t.Task)
		return false
	}
	p.run.tasks[t.Task] = true
	return true
}

// sharesSnapshot: something is half loaded under a snapshot that must not be lost.
func (p *Pipeline) sharesSnapshot() bool {
	for _, t := range p.tables {
		if !t.Loaded && t.failure == nil && p.needsSnapshot(t) && (t.begun() || !p.follow()) {
			return true
		}
	}
	return false
}

// granted reports whether a task is a load, and the newest attempt of all its chunks.
func (p *Pipeline) granted(t *fleetv1.RunningTask) bool {
	for _, id := range t.GetLoad().GetChunks() {
		if c := p.chunk(id); c == nil || !c.Granted || c.Written || c.Epoch != t.Epoch {
			return false
		}
	}
	return len(t.GetLoad().GetChunks()) > 0
}

// catchUp hears from the target what was written while nobody led, and tells the gate all that the former leader may
// not have told it: telling it twice is harmless.
func (p *Pipeline) catchUp(ctx context.Context) error {
	known, err := p.askSink(ctx, &connectorv1.RecoverRequest{Pipeline: p.name})
	if err != nil {
		return err
	}
	var changes []store.Change
	aside := p.hearAside(known.Aside)
	for index := range aside {
		changes = append(changes, p.emptied(p.tables[index])...)
	}
	for _, r := range known.Written {
		if c := p.chunk(r.Chunk); c != nil && !c.Written && !c.inFlight {
			c.Written, c.result, c.Result = true, r, store.Wire(r)
			changes = append(changes, store.PutChunk(p.name, r.Chunk, c.Chunk))
		}
	}
	if err := p.save(ctx, changes...); err != nil || !p.follow() {
		return err
	}
	written := &fleetv1.Written{}
	var loaded []uint32
	for _, t := range p.tables {
		if aside[t.Index] {
			p.tell(dropAll(t.Index))
		}
		if t.Passed || t.failure != nil {
			continue
		}
		if t.Loaded {
			loaded = append(loaded, t.Index)
		}
		if !plan.Unit(t.row) {
			written.Chunks = append(written.Chunks, p.writtenChunks(t)...)
		} else if t.Loaded {
			p.tell(&fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Written{Written: &fleetv1.Written{Units: []uint32{t.Index}, UnitCoverage: store.ReadCoverage(t.Coverage)}}})
		}
	}
	if len(written.Chunks) > 0 {
		p.tell(&fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Written{Written: written}})
	}
	if len(loaded) > 0 {
		p.tell(&fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Loaded{Loaded: &fleetv1.TablesLoaded{Tables: loaded}}})
	}
	return nil
}

func (p *Pipeline) writtenChunks(t *table) []*fleetv1.GateChunk {
	var out []*fleetv1.GateChunk
	for _, c := range t.chunks {
		if c.Written {
			out = append(out, &fleetv1.GateChunk{Chunk: c.row.Id, Keys: c.row.Keys, Written: true, Coverage: c.result.GetCoverage()})
		}
	}
	return out
}
