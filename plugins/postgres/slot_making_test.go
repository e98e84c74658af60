package postgres

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// A slot that waits for running transactions is listed, but has no position yet: nobody may start from it.
func TestPrepareWaitsForASlotThatIsStillBeingMade(t *testing.T) {
	r := newRig(t, sdk.LanePGValues, []*rowv1.Table{itemTable(0, "item")}, itemDDL)
	conn, err := pgx.Connect(t.Context(), r.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "BEGIN; SELECT pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	name := r.pipeline() + "_two"
	prepare := func() (*connectorv1.PrepareResponse, error) {
		return r.src.Prepare(t.Context(), &connectorv1.PrepareRequest{Pipeline: name, Tables: r.tables})
	}
	first := make(chan error, 1)
	go func() { _, err := prepare(); first <- err }()
	for end := time.Now().Add(10 * time.Second); dev.MustQuery(t, r.url, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = "+literal(slotName(name))) == "0"; {
		if time.Now().After(end) {
			t.Fatal("no slot is being made")
		}
		time.Sleep(10 * time.Millisecond)
	}
	got, err := prepare()
	if e := diag.Find(err); e == nil || e.Code.ID != diag.SlotBusy.ID {
		t.Errorf("while it is being made: %v, %v", got, err)
	}
	_, err = conn.Exec(t.Context(), "ROLLBACK")
	if err := errors.Join(err, <-first); err != nil {
		t.Fatal(err)
	}
	if got, err := prepare(); err != nil || !got.Existed {
		t.Errorf("once it is made: %v, %v", got, err)
	}
}
