package postgres

import (
	"testing"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// twoIndexes are keys and indexes of tables 1 to n, in the order Discover gives them: all keys first.
func twoIndexes(n int) []*connectorv1.SchemaStep {
	var steps []*connectorv1.SchemaStep
	for _, phase := range []connectorv1.Phase{inKeys, inIndexes} {
		for t := range n {
			steps = append(steps, &connectorv1.SchemaStep{Id: uint32(len(steps) + 1), Phase: phase, Table: uint32(t + 1), Sql: []string{"x"}})
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

func TestGroup_KeepsATableInOneGroup(t *testing.T) {
	steps := phases(twoIndexes(500))[0]
	steps = append(steps, &connectorv1.SchemaStep{Id: 2000, Phase: inKeys, Table: 7, Weight: heavy, Sql: []string{"x"}},
		&connectorv1.SchemaStep{Id: 2001, Phase: inKeys, Table: 8, Weight: 2 * heavy, Sql: []string{"x"}})
	groups := group(steps)
	if len(groups[0]) != 1 || groups[0][0].Id != 2001 || len(groups[1]) != 1 || groups[1][0].Id != 2000 {
		t.Fatal("heavy steps are not alone, biggest first")
	}
	in, count := map[uint32]int{}, 0
	for i, g := range groups[2:] {
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
	if count != 1000 || len(groups)-2 != 8 {
		t.Errorf("%d steps in %d groups", count, len(groups)-2)
	}
}
