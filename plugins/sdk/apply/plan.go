package apply

import (
	"fmt"
	"sync"

	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Planner makes plans for the tables of one pipeline. Its methods are safe for concurrent use.
type Planner struct {
	rest Finder
	mu   sync.Mutex
	// tables are those that had changes.
	tables map[uint32]*rowv1.Table
	pool   sync.Pool
}

// Finder finds tables by their index; nil when there is none, and no error.
type Finder interface {
	Table(index uint32) (*rowv1.Table, error)
}

// NewPlanner makes a planner for these tables.
func NewPlanner(tables []*rowv1.Table) *Planner {
	p := NewPlannerOf(nil)
	for _, t := range tables {
		p.tables[t.Index] = t
	}
	return p
}

// NewPlannerOf makes a planner for tables that are found when they are first needed.
func NewPlannerOf(f Finder) *Planner {
	p := &Planner{rest: f, tables: map[uint32]*rowv1.Table{}}
	p.pool.New = func() any { return &Effect{byShape: map[string]int{}} }
	return p
}

// Table returns a table of the pipeline, or nil.
func (p *Planner) Table(index uint32) (*rowv1.Table, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.tables[index]; t != nil || p.rest == nil {
		return t, nil
	}
	t, err := p.rest.Table(index)
	if t != nil {
		p.tables[index] = t
	}
	return t, err
}

// Plan is what a round leaves behind. Effects run in order; a table has a second effect only when its
// schema version changed within the round.
type Plan struct {
	Round   *Round
	Effects []*Effect
	planner *Planner
}

// Plan computes the net effect of a round without touching a database. covers is only read here; rows it
// covers are dropped. The plan takes the round over: Release gives both back.
func (p *Planner) Plan(r *Round, covers *Covers) (*Plan, error) {
	plan := &Plan{Round: r, planner: p}
	current := map[uint32]*Effect{}
	for _, b := range r.Batches {
		e := current[b.Table]
		if e == nil || e.Version != b.Version {
			t, err := p.Table(b.Table)
			if err != nil {
				return nil, err
			}
			if t == nil {
				return nil, fmt.Errorf("round %d has rows of table %d, which is not part of the pipeline", r.Seq, b.Table)
			}
			e = p.pool.Get().(*Effect)
			e.Table, e.Version, e.round, e.covers = t, b.Version, r, covers
			e.Batches, e.rereads, e.large, e.stale = e.Batches[:0], e.rereads[:0], e.large[:0], false
			current[b.Table] = e
			plan.Effects = append(plan.Effects, e)
		}
		e.Batches = append(e.Batches, b)
	}
	for _, e := range plan.Effects {
		if err := e.compute(); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// Release gives the round's memory back; the plan must not be used any more.
func (p *Plan) Release() {
	for _, e := range p.Effects {
		for _, b := range e.Batches {
			if b.extra {
				b.Release()
			}
		}
		clear(e.Batches)
		e.round, e.covers, e.Table = nil, nil, nil
		p.planner.pool.Put(e)
	}
	p.Effects = nil
	p.Round.Release()
}
