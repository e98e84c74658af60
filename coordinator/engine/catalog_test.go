package engine

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/store"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// shop is a catalog of n tables with six columns, a key and an index each.
func shop(n int) *connectorv1.DiscoverResponse {
	d := &connectorv1.DiscoverResponse{}
	step := func(phase connectorv1.Phase, kind, object string, table int, sql string) {
		d.Steps = append(d.Steps, &connectorv1.SchemaStep{Id: uint32(len(d.Steps) + 1), Phase: phase, Kind: kind, Object: object, Table: uint32(table + 1),
			Dialect: "postgres", Sql: []string{sql}, Weight: 8192})
	}
	for i := range n {
		name := fmt.Sprintf("orders_%05d", i)
		ref := &rowv1.TableRef{Schema: "public", Name: name}
		t := &rowv1.Table{Source: ref, Target: ref, Key: []uint32{0}, Gate: rowv1.GateMode_GATE_MODE_KEYED, Lane: "pgcopy-binary",
			EstimatedRows: int64(i), EstimatedBytes: int64(8192 + i%7), PrimaryKey: true}
		for c := range 6 {
			t.Columns = append(t.Columns, &rowv1.Column{Name: fmt.Sprint("column_", c), NativeType: "timestamp with time zone", LogicalType: "timestamptz", NativeId: 1184})
		}
		d.Tables = append(d.Tables, t)
		step(connectorv1.Phase_PHASE_TABLES, "table", "public."+name, i, "CREATE TABLE public."+name+" (column_0 timestamptz NOT NULL, column_1 timestamptz, column_2 timestamptz, column_3 timestamptz)")
		step(connectorv1.Phase_PHASE_KEYS, "primary key", "public."+name+"."+name+"_pkey", i, "ALTER TABLE ONLY public."+name+" ADD CONSTRAINT "+name+"_pkey PRIMARY KEY (column_0)")
		step(connectorv1.Phase_PHASE_INDEXES, "index", "public."+name+"_at", i, "CREATE INDEX "+name+"_at ON public."+name+" USING btree (column_1)")
	}
	return d
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func discovered(t testing.TB, d *connectorv1.DiscoverResponse) *Pipeline {
	t.Helper()
	agents := fleet.New("c", nil, time.Minute)
	t.Cleanup(agents.Close)
	p := newPipeline(&controlv1.Spec{Name: "p"}, store.State{Phase: controlv1.Phase_PHASE_LOAD, Desired: controlv1.Desired_DESIRED_RUNNING}, nil, agents)
	p.run = newAttempt()
	p.run.snapshot = "s"
	var err error
	if p.catalog, err = newCatalog(d); err == nil {
		err = p.makeTables(nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.listLeft()
	return p
}

// What the coordinator holds for a table bounds how many there can be.
func TestCatalog_ATableTakesLittle(t *testing.T) {
	const n, most = 5000, 1200
	discovered(t, shop(2)) // coders and the like
	before := heap()
	p := discovered(t, shop(n))
	held := (heap() - before) / n
	p.publish()
	shown := (heap() - before) / n
	v := p.view()
	planned := (heap() - before) / n
	t.Logf("bytes of a table: %d known, %d with a status, %d with a plan", held, shown, planned)
	if held > most || shown > held+50 || planned > held+200 {
		t.Errorf("a table takes %d bytes, %d with a status, %d with a plan; at most %d", held, shown, planned, most)
	}
	if planned := len(v.Pending) + len(p.run.left.far); planned != n {
		t.Errorf("%d of %d tables are planned", planned, n)
	}
	runtime.KeepAlive(p)
}

func TestCatalog_GivesBackWhatWasFound(t *testing.T) {
	d := shop(3000)
	want := proto.CloneOf(d)
	for i, x := range want.Tables {
		x.Index = uint32(i)
	}
	p := discovered(t, d)
	stored := p.catalog.wire()
	if len(stored.Tables)+len(stored.Steps) > 0 {
		t.Error("it is stored unpacked")
	}
	for name, p := range map[string]*Pipeline{"plain": p, "packed": discovered(t, proto.CloneOf(stored))} {
		var steps []*connectorv1.SchemaStep
		if err := p.catalog.eachStep(func(s *connectorv1.SchemaStep) { steps = append(steps, s) }); err != nil {
			t.Fatal(err)
		}
		tables := whole(p.tables)
		if !slices.EqualFunc(steps, want.Steps, func(a, b *connectorv1.SchemaStep) bool { return proto.Equal(a, b) }) ||
			!slices.EqualFunc(tables, want.Tables, func(a, b *rowv1.Table) bool { return proto.Equal(a, b) }) {
			t.Errorf("%s: %d tables, %d steps, or they differ", name, len(tables), len(steps))
		}
		if n := p.catalog.count; n.all != 9000 || n.indexes != 6000 || p.stepsBefore(connectorv1.Phase_PHASE_INDEXES) != 6000 {
			t.Errorf("%s: counted %+v", name, n)
		}
	}
}

func TestCatalog_ChangesKeepAllOtherSteps(t *testing.T) {
	p := discovered(t, shop(1000))
	err := p.catalog.change(func(s *connectorv1.SchemaStep) bool {
		if s.Id == 1 {
			s.Sql = []string{"SELECT 1"}
		}
		return s.Id%3 != 0
	})
	if err != nil {
		t.Fatal(err)
	}
	pages, n, err := p.catalog.some(func(s *connectorv1.SchemaStep) bool { return s.Id == 1 && s.Sql[0] == "SELECT 1" })
	if err != nil || n != 1 || len(pages) != 1 || p.catalog.count.all != 2000 || p.catalog.count.byPhase[connectorv1.Phase_PHASE_INDEXES] != 0 {
		t.Errorf("%d steps changed, %+v, %v", n, p.catalog.count, err)
	}
}

// A small table is one chunk, and no record before it is granted: thousands wait, few are in flight.
func TestView_SmallTablesHaveNoRecordBeforeTheyAreGranted(t *testing.T) {
	p := discovered(t, shop(10))
	for len(p.run.left.far) > 0 {
		p.run.left.approach()
	}
	for range 2 {
		v := p.view()
		if len(v.Pending) != 10 {
			t.Fatalf("%d of 10 are pending", len(v.Pending))
		}
		for i, x := range p.tables {
			if x.Split || x.chunks != nil {
				t.Errorf("table %d has a record", i)
			}
		}
	}
	p.enterWhole(p.tables[3])
	c := p.chunk(plan.ChunkID(3, 0))
	if c == nil || !p.tables[3].Split || p.tables[3].Chunks != 1 || c.row.EstimatedBytes != p.tables[3].row.EstimatedBytes {
		t.Errorf("the record is %+v", c)
	}
	c.inFlight = true
	if v := p.view(); len(v.Pending) != 9 {
		t.Errorf("%d of 9 are pending", len(v.Pending))
	}
	s := p.counted()
	if s.ChunksTotal != 10 {
		t.Errorf("%d chunks are told", s.ChunksTotal)
	}
}
