package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// A server whose lock table is too small for all tables at once says so beforehand, and not that a connection was lost.
func TestLocks_AreTooFewForThousandsOfTables(t *testing.T) {
	const n = 2500
	s, err := dev.StartPostgres(t.Context(), dev.Options{NoFsync: true, Settings: map[string]string{
		"max_locks_per_transaction": "10", "max_connections": "20", "max_wal_senders": "2", "max_worker_processes": "2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	url := s.URL("postgres")
	dev.MustExec(t, url, fmt.Sprintf("DO $$ BEGIN FOR i IN 1..%d LOOP EXECUTE 'CREATE TABLE t' || i || ' ()'; IF i %% 100 = 0 THEN COMMIT; END IF; END LOOP; END $$", n))
	src := NewSource()
	t.Cleanup(func() { _ = src.Close() })
	if _, err := src.Open(t.Context(), &connectorv1.OpenRequest{Url: url, Role: connectorv1.Role_ROLE_SOURCE}); err != nil {
		t.Fatal(err)
	}
	found, err := src.Check(t.Context(), &connectorv1.CheckRequest{Pipeline: "p"})
	if err != nil || len(found.Problems) != 1 || found.Problems[0].Code != diag.ManyTables.ID || !found.Problems[0].Warning ||
		!strings.HasPrefix(found.Problems[0].Fix[0], "ALTER SYSTEM SET max_locks_per_transaction = 131;") {
		t.Errorf("%v, %v", found, err)
	}
	var all []*rowv1.Table
	for i := range n {
		all = append(all, &rowv1.Table{Source: &rowv1.TableRef{Schema: "public", Name: fmt.Sprint("t", i+1)}})
	}
	err = src.OpenSnapshot(t.Context(), &connectorv1.OpenSnapshotRequest{Tables: all}, func(*connectorv1.OpenSnapshotResponse) error { return nil })
	if d := diag.Find(err); d == nil || d.Code.ID != diag.LocksFull.ID {
		t.Errorf("%v", err)
	}
}
