package engine

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// load reads what a former coordinator knew.
func (p *Pipeline) load(ctx context.Context) error {
	stored, err := p.store.Catalog(ctx, p.name)
	if err != nil {
		return err
	}
	if stored == nil {
		p.catalog, p.state.Discovered = nil, false
		return nil
	}
	if p.catalog, err = newCatalog(stored); err != nil {
		return err
	}
	tables, err := p.store.Tables(ctx, p.name)
	if err != nil {
		return err
	}
	if err := p.makeTables(tables); err != nil {
		return err
	}
	chunks, err := p.store.Chunks(ctx, p.name)
	if err != nil {
		return err
	}
	for _, c := range chunks {
		row := store.ReadChunk(c.Chunk)
		if row == nil || int(row.Table) >= len(p.tables) {
			return diag.StateUnusable.New(p.name, nil, "the ledger names a chunk that cannot be read")
		}
		if t := p.tables[row.Table]; t.Passed || t.Loaded && !p.follow() {
			continue // its sum is stored; a crash kept this record from being dropped
		}
		p.tables[row.Table].keep(&chunk{Chunk: c, row: row, result: store.ReadResult(c.Result)})
	}
	for _, t := range p.tables {
		if t.Split && !t.Loaded && len(t.chunks) != t.Chunks { // a crash before its chunks were stored, so before any grant
			t.Split, t.Chunks, t.chunks = false, 0, nil
		}
		// A crash between the last chunk's record and its table's.
		if !t.Loaded && t.failure == nil && t.begun() && t.complete() && !plan.Unit(t.row) {
			t.Loaded = true
			if !p.follow() {
				p.coalesce(t)
			}
		}
	}
	return nil
}

// makeTables builds the tables of the catalog; the index of a table is its place.
func (p *Pipeline) makeTables(known []store.Table) error {
	p.tables = nil
	shared := map[string]string{}
	err := p.catalog.eachTable(func(row *rowv1.Table) error {
		p.tables = append(p.tables, &table{Table: store.Table{Index: row.Index}, row: outline(row, shared), full: store.Wire(row)})
		return nil
	})
	if err != nil {
		return err
	}
	p.sort()
	for _, t := range known {
		if int(t.Index) < len(p.tables) {
			p.tables[t.Index].Table, p.tables[t.Index].failure = t, readFailure(t.Failure)
		}
	}
	return nil
}

// sort lists the tables by size, once: it does not change.
func (p *Pipeline) sort() {
	p.sorted = slices.Clone(p.tables)
	slices.SortStableFunc(p.sorted, biggerFirst)
}

func biggerFirst(a, b *table) int { return cmp.Compare(b.row.EstimatedBytes, a.row.EstimatedBytes) }

// rows are all tables without their columns: for whoever only has to name them.
func (p *Pipeline) rows() []*rowv1.Table { return rowsOf(p.tables) }

func rowsOf(tables []*table) []*rowv1.Table {
	out := make([]*rowv1.Table, len(tables))
	for i, t := range tables {
		out[i] = t.row
	}
	return out
}

// whole is the table with its columns.
func (t *table) whole() *rowv1.Table { return store.ReadTable(t.full) }

func whole(tables []*table) []*rowv1.Table {
	out := make([]*rowv1.Table, len(tables))
	for i, t := range tables {
		out[i] = t.whole()
	}
	return out
}

// keep enters a chunk into the ledger.
func (t *table) keep(c *chunk) {
	if t.chunks == nil {
		t.chunks = map[uint64]*chunk{}
	}
	t.chunks[c.row.Id] = c
}

func (p *Pipeline) chunk(id uint64) *chunk {
	if t := plan.TableOf(id); int(t) < len(p.tables) {
		return p.tables[t].chunks[id]
	}
	return nil
}

func (t *table) name() string { return t.row.Source.Schema + "." + t.row.Source.Name }

// begun: an attempt to load something of the table may have committed.
func (t *table) begun() bool {
	for _, c := range t.chunks {
		if c.Granted {
			return true
		}
	}
	return false
}

func (t *table) complete() bool {
	if !t.Split || len(t.chunks) != t.Chunks {
		return false
	}
	for _, c := range t.chunks {
		if !c.Written {
			return false
		}
	}
	return true
}

// problemError is what checks have found; nil when there are only warnings.
func problemError(problems []*connectorv1.Problem) error {
	var first *diag.Error
	more := 0
	for _, x := range problems {
		if x.Warning {
			continue
		}
		if first != nil {
			more++
			continue
		}
		first = problemOf(x)
	}
	if first == nil {
		return nil
	}
	if more > 0 {
		first.Why += " (there are more problems: `drover doctor` lists all)"
	}
	return first
}

func has(list []string, s string) bool      { return slices.Contains(list, s) }
func contains(list []uint32, n uint32) bool { return slices.Contains(list, n) }
func readFailure(b []byte) *fleetv1.Failure {
	f := &fleetv1.Failure{}
	if len(b) == 0 || proto.Unmarshal(b, f) != nil {
		return nil
	}
	return f
}
