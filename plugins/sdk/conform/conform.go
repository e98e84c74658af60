// Package conform is the acceptance kit for connectors: it tests any pair of source and sink against the
// contract of plugins/sdk, in process or through a subprocess, on real databases.
//
// A connector's test calls Run with functions that open fresh sides on fresh databases. Each subtest
// names the clause of the contract that it holds the connector to.
package conform

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Kit is what the test of a connector provides.
type Kit struct {
	// Source and Sink make sides that are not open yet. The kit closes them.
	Source func(testing.TB) sdk.Source
	Sink   func(testing.TB) sdk.Sink
	// Databases makes a fresh pair: the source holds at least two keyed tables with at least 1,000 rows in all.
	Databases func(testing.TB) Databases
}

// Databases is a fresh pair.
type Databases struct {
	Source, Target *connectorv1.OpenRequest
	// Rows is how many rows the source holds.
	Rows int64
	// Change commits one transaction at the source that inserts Inserted rows into keyed tables.
	Change   func(testing.TB)
	Inserted int
	// CountTarget counts all rows at the target.
	CountTarget func(testing.TB) int64
}

const pipeline = "conform"

// Run holds the connector to every clause.
func Run(t *testing.T, k Kit) {
	t.Run("describe needs no database", k.describe)
	t.Run("open may be repeated", k.open)
	t.Run("whoever can tell what it waits for names nobody when it does not", k.blockers)
	t.Run("discover numbers tables and steps uniquely", k.discover)
	t.Run("schema steps are skipped when done", k.schema)
	t.Run("chunks are read once, written once, and the sums agree", k.load)
	t.Run("an older epoch is fenced", k.fence)
	t.Run("changes arrive, are acknowledged after commit and not again", k.stream)
	t.Run("release removes everything and may be repeated", k.release)
}

// pair is an open source and sink with the catalog.
type pair struct {
	Databases
	src    sdk.Source
	dst    sdk.Sink
	tables []*rowv1.Table
	steps  []*connectorv1.SchemaStep
}

func (k Kit) pair(t *testing.T) (*pair, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	p := &pair{Databases: k.Databases(t), src: k.Source(t), dst: k.Sink(t)}
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(p.src.Close(), p.dst.Close()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	must(t, second(p.src.Open(ctx, p.Source)))
	must(t, second(p.dst.Open(ctx, p.Target)))
	must(t, p.src.Discover(ctx, &connectorv1.DiscoverRequest{}, func(r *connectorv1.DiscoverResponse) error {
		p.tables = append(p.tables, r.Tables...)
		p.steps = append(p.steps, r.Steps...)
		return nil
	}))
	return p, ctx
}

// prepared is a pair whose target has the tables and the bookkeeping.
func (k Kit) prepared(t *testing.T) (*pair, context.Context) {
	t.Helper()
	p, ctx := k.pair(t)
	must(t, second(p.dst.Recover(ctx, &connectorv1.RecoverRequest{Pipeline: pipeline, Epoch: 1, Create: true})))
	p.apply(ctx, t)
	return p, ctx
}

// apply runs tables and keys, and returns how many steps were skipped.
func (p *pair) apply(ctx context.Context, t *testing.T) (skipped int) {
	t.Helper()
	for _, phase := range []connectorv1.Phase{connectorv1.Phase_PHASE_TABLES, connectorv1.Phase_PHASE_KEYS} {
		req := &connectorv1.ApplySchemaRequest{Pipeline: pipeline, Epoch: 1, Parallel: 2}
		for _, s := range p.steps {
			if s.Phase == phase {
				req.Steps = append(req.Steps, s)
			}
		}
		must(t, p.dst.ApplySchema(ctx, req, func(r *connectorv1.ApplySchemaResponse) error {
			if r.Problem != nil {
				t.Errorf("step %d: %s %s", r.Step, r.Problem.Object, r.Problem.Reason)
			}
			if r.Skipped {
				skipped++
			}
			return nil
		}))
	}
	return skipped
}

func (k Kit) describe(t *testing.T) {
	for _, c := range []sdk.Connector{k.Source(t), k.Sink(t)} {
		d, err := c.Describe(t.Context())
		must(t, err)
		if d.Name == "" || d.Dialect == "" || len(d.Roles) == 0 || len(d.Abilities) == 0 || d.ConfigSchema == "" || d.PositionFormat == "" {
			t.Errorf("describe is incomplete: %v", d)
		}
		must(t, c.Close())
	}
}

func (k Kit) open(t *testing.T) {
	p, ctx := k.pair(t)
	for _, o := range []struct {
		c   sdk.Connector
		req *connectorv1.OpenRequest
	}{{p.src, p.Source}, {p.dst, p.Target}} {
		a, err := o.c.Open(ctx, o.req)
		must(t, err)
		if a.Display == "" || a.Identity == "" || a.ServerVersion == "" {
			t.Errorf("open is incomplete: %v", a)
		}
	}
}

func (k Kit) blockers(t *testing.T) {
	p, ctx := k.pair(t)
	for _, c := range []sdk.Connector{p.src, p.dst} {
		d, err := c.Describe(ctx)
		must(t, err)
		w, ok := c.(sdk.Waiter)
		if !slices.Contains(d.Abilities, sdk.AbilityBlockers) {
			continue
		}
		if !ok {
			t.Fatalf("%T advertises %s and is no Waiter", c, sdk.AbilityBlockers)
		}
		a, err := w.Blockers(ctx, &connectorv1.BlockersRequest{Pending: []uint64{1}})
		must(t, err)
		if len(a.Blockers) > 0 {
			t.Errorf("nothing waits, and it names %v", a.Blockers)
		}
	}
}

func (k Kit) discover(t *testing.T) {
	p, _ := k.pair(t)
	seen := map[uint32]bool{}
	for _, x := range p.tables {
		if seen[x.Index] || len(x.Columns) == 0 || x.Gate == rowv1.GateMode_GATE_MODE_UNSPECIFIED {
			t.Errorf("table %v: index taken, no columns or no gate", x.Source)
		}
		seen[x.Index] = true
	}
	ids := map[uint32]bool{}
	for _, s := range p.steps {
		if ids[s.Id] || s.Kind == "" || s.Object == "" {
			t.Errorf("step %d (%s %s): id taken or unnamed", s.Id, s.Kind, s.Object)
		}
		ids[s.Id] = true
	}
	if len(p.tables) < 2 {
		t.Fatalf("the kit's database has %d tables", len(p.tables))
	}
}

func (k Kit) schema(t *testing.T) {
	p, ctx := k.prepared(t)
	if n := p.apply(ctx, t); n == 0 {
		t.Error("applying the same steps again skips none")
	}
}

func (k Kit) release(t *testing.T) {
	p, ctx := k.prepared(t)
	must(t, second(p.src.Prepare(ctx, &connectorv1.PrepareRequest{Pipeline: pipeline, Tables: p.tables})))
	for range 2 {
		must(t, second(p.src.Release(ctx, &connectorv1.ReleaseRequest{Pipeline: pipeline, Role: connectorv1.Role_ROLE_SOURCE})))
		must(t, second(p.dst.Release(ctx, &connectorv1.ReleaseRequest{Pipeline: pipeline, Role: connectorv1.Role_ROLE_SINK})))
	}
}

func second[T any](_ T, err error) error { return err }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// feed makes a next function from frames.
func feed(frames []*sdk.Frame) func() (*sdk.Frame, error) {
	return func() (*sdk.Frame, error) {
		if len(frames) == 0 {
			return nil, io.EOF
		}
		f := frames[0]
		frames = frames[1:]
		return f, nil
	}
}
