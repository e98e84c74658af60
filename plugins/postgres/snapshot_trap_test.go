package postgres

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func TestReadChunks_WaitsForWhatTheFloorHolds(t *testing.T) {
	server := dev.Postgres(t, "synchronous_standby_names=nobody", "synchronous_commit=local")
	url := server.URL("postgres")
	dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY)")
	s := openSource(t, url)
	table := describeTable(t, url, "t", rowv1.GateMode_GATE_MODE_KEYED, "id")
	writer, err := connect(t.Context(), Config{URL: url, Pipeline: "writer"}, "write", connectorv1.Role_ROLE_UNSPECIFIED)
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(writer)
	cells, err := script(t.Context(), writer, "SET synchronous_commit = on; BEGIN; INSERT INTO t VALUES (1); SELECT pg_current_xact_id()::text")
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.ParseUint(cells[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	committed := make(chan error, 1)
	go func() { _, err := script(context.WithoutCancel(t.Context()), writer, "COMMIT"); committed <- err }()
	for dev.MustQuery(t, url, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") != "1" {
		time.Sleep(5 * time.Millisecond)
	}
	floor := &rowv1.Floor{Pending: []uint64{id}}
	done := make(chan []*rowv1.ChunkResult, 1)
	go func() {
		_, results := readAll(t, s, &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{table}, Chunks: []*rowv1.Chunk{{Id: 1, Table: 3}}, Floor: floor})
		done <- results
	}()
	select {
	case r := <-done:
		t.Fatalf("read before the commit was visible: %v", r)
	case <-time.After(300 * time.Millisecond):
	}
	pos, err := s.Position(t.Context(), &connectorv1.PositionRequest{Pipeline: "test"})
	if err != nil || sdk.Sees(pos.Horizon, id) || len(pos.Position) != positionSize {
		t.Errorf("position %v, %v: the horizon must not include the held commit", pos, err)
	}
	dev.MustExec(t, url, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") // the commit stands, and ends
	r := <-done
	if r[0].Rows != 1 || !sdk.Sees(r[0].Coverage, id) {
		t.Errorf("read %v", r[0])
	}
	if err := <-committed; err != nil {
		t.Error(err)
	}
}

func TestReadChunks_GivesWayToDDL(t *testing.T) {
	url := dev.Database(t)
	s := openSource(t, url)
	dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 30000) g")
	table := describeTable(t, url, "t", rowv1.GateMode_GATE_MODE_KEYED, "id")
	truncated := make(chan error, 1)
	started := false
	err := s.ReadChunks(t.Context(), &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{table}, Chunks: []*rowv1.Chunk{{Id: 1, Table: 3}}}, func(f *sdk.Frame) error {
		f.Free()
		if !started {
			started = true
			go func() { truncated <- dev.Exec(context.WithoutCancel(t.Context()), url, "TRUNCATE t") }()
		}
		time.Sleep(300 * time.Millisecond)
		return nil
	})
	if e := diag.Find(err); e == nil || e.Code.ID != diag.LockWait.ID {
		t.Errorf("got %v", err)
	}
	select {
	case err := <-truncated:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("TRUNCATE still waits")
	}
	_, results := readAll(t, s, &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{table}, Chunks: []*rowv1.Chunk{{Id: 1, Table: 3}}})
	if results[0].Rows != 0 {
		t.Errorf("%d rows after TRUNCATE", results[0].Rows)
	}
}

func TestReadChunks_SeesWhatATruncateLeft(t *testing.T) {
	url := dev.Database(t)
	s := openSource(t, url)
	dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 100)")
	table := describeTable(t, url, "t", rowv1.GateMode_GATE_MODE_KEYED, "id")
	writer, err := connect(t.Context(), Config{URL: url, Pipeline: "writer"}, "write", connectorv1.Role_ROLE_UNSPECIFIED)
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(writer)
	if _, err := script(t.Context(), writer, "BEGIN; TRUNCATE t; INSERT INTO t VALUES (1), (2)"); err != nil {
		t.Fatal(err)
	}
	// A snapshot taken before the lock would see neither the old rows nor the new ones.
	done := make(chan []*rowv1.ChunkResult, 1)
	go func() {
		_, results := readAll(t, s, &connectorv1.ReadChunksRequest{Tables: []*rowv1.Table{table}, Chunks: []*rowv1.Chunk{{Id: 1, Table: 3}}})
		done <- results
	}()
	for dev.MustQuery(t, url, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'drover/test/read'") != "1" {
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := script(t.Context(), writer, "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r[0].Rows != 2 {
		t.Errorf("%d rows, want the two that came after TRUNCATE", r[0].Rows)
	}
}
