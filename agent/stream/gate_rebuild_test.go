package stream

import (
	"slices"
	"testing"

	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// A slot's agent that was killed after the overlap of a unit had passed, and before anybody was told, has to tell it
// in its next life: the coordinator waits for it.
func TestGate_TellsWhatPassedWhileNobodyWasThere(t *testing.T) {
	unit := &fleetv1.GateChunk{Chunk: unitTable << 32, Keys: &rowv1.KeyRange{}, Floor: &rowv1.Floor{Position: pos(3)}, Written: true, Coverage: sees(5, 50)}
	g := newGate(t, 9, &fleetv1.GateTable{Table: unitTable, Chunks: []*fleetv1.GateChunk{unit}}, &fleetv1.GateTable{Table: keyedTable, Done: true})
	if !g.Done(unitTable) || !slices.Equal(g.Passed(), []uint32{unitTable}) {
		t.Fatalf("done %v, passed %v: the unit has passed, the table that was known to be done is no news", g.Done(unitTable), g.Passed())
	}
}
