package postgres

import (
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// An index that 96 MB would merge twice is built in what the server allows, if that is more.
func TestSortMemory_IsTheServersForVeryLargeIndexes(t *testing.T) {
	step := func(weight int64) *connectorv1.SchemaStep { return &connectorv1.SchemaStep{Weight: weight} }
	const large = "SET LOCAL maintenance_work_mem = '2097152kB'; "
	for _, c := range []struct {
		server int64
		steps  []*connectorv1.SchemaStep
		want   string
	}{
		{2 << 30, []*connectorv1.SchemaStep{step(oneMerge + 1)}, large},
		{2 << 30, []*connectorv1.SchemaStep{step(1), step(100 << 30)}, large},
		{2 << 30, []*connectorv1.SchemaStep{step(oneMerge)}, ""},
		{2 << 30, nil, ""},
		{64 << 20, []*connectorv1.SchemaStep{step(100 << 30)}, ""},
		{ourMemory, []*connectorv1.SchemaStep{step(100 << 30)}, ""},
	} {
		if got := sortMemory(c.server, c.steps); got != c.want {
			t.Errorf("server %d, %d steps: %q, want %q", c.server, len(c.steps), got, c.want)
		}
	}
}

// The memory is that transaction's alone: the next one of the session has what all have.
func TestSchema_AVeryLargeIndexIsBuiltInTheServersMemory(t *testing.T) {
	s := dev.Postgres(t, "maintenance_work_mem=256MB")
	note := func(id uint32, weight int64) *connectorv1.SchemaStep {
		return &connectorv1.SchemaStep{Id: id, Phase: connectorv1.Phase_PHASE_TABLES, Kind: "table", Weight: weight, After: map[uint32][]uint32{2: {1}}[id],
			Sql: []string{"CREATE TABLE public.m" + string(rune('0'+id)) + " AS SELECT pg_catalog.current_setting('maintenance_work_mem') AS m"}}
	}
	if _, problems := applied(t, s.URL("postgres"), []*connectorv1.SchemaStep{note(1, oneMerge+1), note(2, 1)}, 1); len(problems) != 0 {
		t.Fatal(problems)
	}
	if got := dev.MustQuery(t, s.URL("postgres"), "SELECT (SELECT m FROM m1) || ' ' || (SELECT m FROM m2)"); got != "256MB 96MB" {
		t.Errorf("built in %s", got)
	}
}
