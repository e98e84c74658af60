package engine

import (
	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/pack"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// catalog is what was discovered. Tables and steps stay packed: there may be tens of thousands, and most of the time
// nobody looks at them. What status needs to know of steps is counted when they change.
type catalog struct {
	tables, steps [][]byte
	notCarried    []*connectorv1.NotCarried
	problems      []*connectorv1.Problem

	count stepCounts
	// cutover are the steps that act while changes are applied; they are few.
	cutover []*connectorv1.SchemaStep
}

// stepCounts are how many steps there are, by what status tells of them.
type stepCounts struct {
	all, values, fills int
	byPhase            map[connectorv1.Phase]int
	// Without what is named as not carried: sequences that get their value, those of columns included, indexes, foreign keys.
	sequences, indexes, foreignKeys int
}

// newCatalog takes an answer, plain or packed.
func newCatalog(d *connectorv1.DiscoverResponse) (*catalog, error) {
	c := &catalog{notCarried: d.NotCarried, problems: d.Problems}
	var tables, steps pack.Writer
	n := uint32(0) // the index of a table is its place
	take := func(d *connectorv1.DiscoverResponse) error {
		for _, t := range d.Tables {
			t.Index = n
			n++
			if err := tables.Table(t); err != nil {
				return err
			}
		}
		for _, s := range d.Steps {
			if err := steps.Step(s); err != nil {
				return err
			}
		}
		return nil
	}
	err := take(d)
	if err == nil {
		err = pack.Each(d.Packed, take)
	}
	if err == nil {
		c.tables, err = tables.Pages()
	}
	if err == nil {
		c.steps, err = steps.Pages()
	}
	if err != nil {
		return nil, err
	}
	return c, c.recount()
}

// wire is the catalog as it is stored, at the target too.
func (c *catalog) wire() *connectorv1.DiscoverResponse {
	return &connectorv1.DiscoverResponse{Packed: c.pages(), NotCarried: c.notCarried, Problems: c.problems}
}

// pages are all tables, then all steps.
func (c *catalog) pages() [][]byte { return append(append([][]byte(nil), c.tables...), c.steps...) }

func (c *catalog) put(pipeline string) []store.Change { return store.PutCatalog(pipeline, c.wire()) }

func (c *catalog) eachTable(f func(*rowv1.Table) error) error {
	return pack.Each(c.tables, func(d *connectorv1.DiscoverResponse) error {
		for _, t := range d.Tables {
			if err := f(t); err != nil {
				return err
			}
		}
		return nil
	})
}

// named are the tables of a catalog that have the names of these at the source.
func (c *catalog) named(tables []*table) (map[string]*rowv1.Table, error) {
	out := map[string]*rowv1.Table{}
	err := c.eachTable(func(row *rowv1.Table) error {
		for _, t := range tables {
			if proto.Equal(row.Source, t.row.Source) {
				out[t.name()] = row
			}
		}
		return nil
	})
	return out, err
}

// replace puts a new definition in the place of the old one.
func (c *catalog) replace(row *rowv1.Table) error {
	var w pack.Writer
	err := c.eachTable(func(t *rowv1.Table) error {
		if t.Index == row.Index {
			t = row
		}
		return w.Table(t)
	})
	if err != nil {
		return err
	}
	c.tables, err = w.Pages()
	return err
}

func (c *catalog) eachStep(f func(*connectorv1.SchemaStep)) error {
	return pack.Each(c.steps, func(d *connectorv1.DiscoverResponse) error {
		for _, s := range d.Steps {
			f(s)
		}
		return nil
	})
}

// some are the pages of the steps that match, and how many those are.
func (c *catalog) some(match func(*connectorv1.SchemaStep) bool) (pages [][]byte, n int, err error) {
	var w pack.Writer
	err = pack.Each(c.steps, func(d *connectorv1.DiscoverResponse) error {
		for _, s := range d.Steps {
			if !match(s) {
				continue
			}
			n++
			if err := w.Step(s); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		pages, err = w.Pages()
	}
	return pages, n, err
}

// change keeps the steps for which f is true; f may change them.
func (c *catalog) change(f func(*connectorv1.SchemaStep) bool) error {
	pages, _, err := c.some(f)
	if err != nil {
		return err
	}
	c.steps = pages
	return c.recount()
}

func (c *catalog) recount() error {
	c.count, c.cutover = stepCounts{byPhase: map[connectorv1.Phase]int{}}, nil
	named := map[string]bool{}
	for _, n := range c.notCarried {
		named[n.Kind+" "+n.Object] = true
	}
	return c.eachStep(func(s *connectorv1.SchemaStep) {
		built := 1
		if named[s.Kind+" "+s.Object] {
			built = 0
		}
		c.count.all++
		c.count.byPhase[s.Phase]++
		switch {
		case s.Kind == "foreign key":
			c.count.foreignKeys += built
		case s.Phase == connectorv1.Phase_PHASE_INDEXES || s.Phase == connectorv1.Phase_PHASE_KEYS:
			c.count.indexes += built
		case s.Kind == sequenceValue:
			c.count.values++
			c.count.sequences += built
		case s.Kind == viewRows:
			c.count.fills++
		}
		if s.Phase == connectorv1.Phase_PHASE_CUTOVER {
			c.cutover = append(c.cutover, s)
		}
	})
}

// outline is a table without its columns: what the coordinator decides by. Many tables have the same schema, lane and so on.
func outline(t *rowv1.Table, shared map[string]string) *rowv1.Table {
	share := func(s string) string {
		if shared[s] == "" {
			shared[s] = s
		}
		return shared[s]
	}
	ref := func(r *rowv1.TableRef) *rowv1.TableRef {
		return &rowv1.TableRef{Schema: share(r.GetSchema()), Name: r.GetName()}
	}
	o := &rowv1.Table{Index: t.Index, Source: ref(t.Source), Gate: t.Gate, Lane: share(t.Lane), EstimatedRows: t.EstimatedRows,
		EstimatedBytes: t.EstimatedBytes, GateReason: share(t.GateReason), PrimaryKey: t.PrimaryKey, NativeId: t.NativeId, NotLogged: t.NotLogged}
	if o.Target = o.Source; !proto.Equal(t.Source, t.Target) {
		o.Target = ref(t.Target)
	}
	return o
}
