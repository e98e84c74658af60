package postgres

import (
	"fmt"
	"strings"
	"testing"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// twoIndexes are keys and indexes of tables 1 to n, in the order Discover gives them: all keys first.
func twoIndexes(n int) []*connectorv1.SchemaStep {
	var steps []*connectorv1.SchemaStep
	for _, phase := range []connectorv1.Phase{inKeys, inIndexes} {
		for t := range n {
			steps = append(steps, &connectorv1.SchemaStep{Id: uint32(len(steps) + 1), Phase: phase, Kind: "index", Table: uint32(t + 1), Sql: []string{"x"}})
		}
	}
	return steps
}

func TestPhases_LightIndexesJoinTheKeysOfTheirTables(t *testing.T) {
	steps := twoIndexes(300)
	steps[400].Weight = heavy
	steps[401].After = []uint32{steps[400].Id}
	steps[402].Table = 0
	all := phases(steps)
	if len(all) != 2 || len(all[0]) != 597 || len(all[1]) != 3 {
		t.Fatalf("%d phases, the first of %d steps", len(all), len(all[0]))
	}
	for _, st := range all[1] {
		if st != steps[400] && st != steps[401] && st != steps[402] {
			t.Errorf("step %d waits for the keys", st.Id)
		}
	}
	if only := phases(steps[300:]); len(only) != 1 || len(only[0]) != 300 {
		t.Error("without keys, indexes are a phase of their own")
	}
}

func TestJobs_KeepATableInOneGroup(t *testing.T) {
	steps := phases(twoIndexes(500))[0]
	steps = append(steps, &connectorv1.SchemaStep{Id: 2000, Phase: inKeys, Kind: "index", Table: 7, Weight: heavy, Sql: []string{"x"}},
		&connectorv1.SchemaStep{Id: 2001, Phase: inKeys, Kind: "index", Table: 8, Weight: 2 * heavy, Sql: []string{"x"}})
	all := jobs(steps, false)
	if len(all[0].groups) != 1 || all[0].groups[0][0].Id != 2001 || len(all[1].groups) != 1 || all[1].groups[0][0].Id != 2000 {
		t.Fatal("heavy steps are not alone, biggest first")
	}
	in, count := map[uint32]int{}, 0
	for i, j := range all[2:] {
		g := j.groups[0]
		if len(g) > schemaGroup+1 {
			t.Errorf("a group of %d", len(g))
		}
		for _, st := range g {
			if was, ok := in[st.Table]; ok && was != i {
				t.Errorf("table %d is in groups %d and %d", st.Table, was, i)
			}
			in[st.Table] = i
			count++
		}
	}
	if count != 1000 || len(all)-2 != 8 {
		t.Errorf("%d steps in %d groups", count, len(all)-2)
	}
}

func TestJobs_StepsThatLockEachOtherOutFollowEachOther(t *testing.T) {
	step := func(id, table uint32, kind string, weight int64) *connectorv1.SchemaStep {
		return &connectorv1.SchemaStep{Id: id, Phase: inIndexes, Table: table, Kind: kind, Weight: weight, Sql: []string{"x"}}
	}
	steps := []*connectorv1.SchemaStep{
		step(1, 1, "index", heavy), step(2, 1, "unique constraint", 3*heavy), step(3, 1, "statistics", 0), // one job
		step(4, 2, "index", 2*heavy), step(5, 2, "index", heavy), // side by side
		step(6, 3, "index", 1), step(7, 3, "unique constraint", 1), step(8, 0, "view", 0), // light: together
	}
	told := func(all []job) (out []string) {
		for _, j := range all {
			var ids []string
			for _, g := range j.groups {
				part := ""
				for _, st := range g {
					part += fmt.Sprint(st.Id)
				}
				ids = append(ids, part)
			}
			out = append(out, strings.Join(ids, ","))
		}
		return out
	}
	if got := strings.Join(told(jobs(steps, false)), " "); got != "1,2,3 4 5 867" {
		t.Errorf("jobs: %s", got)
	}
	if got := strings.Join(told(jobs(steps, true)), " "); got != "1,2,3 4 5 6,7 8" {
		t.Errorf("beside the stream: %s", got)
	}
}
