package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, dir string) *Server {
	t.Helper()
	began := time.Now()
	s, err := Start(t.Context(), Embed{DataDir: dir, Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ready in %v", time.Since(began))
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore_RestartKeepsEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	srv := start(t, dir)
	s := New(srv.Client, Fence{})
	big := &connectorv1.DiscoverResponse{}
	for i := range 20_000 {
		big.Tables = append(big.Tables, &rowv1.Table{Index: uint32(i), Source: &rowv1.TableRef{Schema: "a schema with a name", Name: "a table with a long name, so that parts are needed"}})
	}
	changes := PutCatalog("p", big)
	if len(changes) < 3 {
		t.Fatalf("%d parts", len(changes))
	}
	changes = append(changes, PutSpec(&controlv1.Spec{Name: "p"}), PutState("p", State{Epoch: 7}), PutState("q", State{Epoch: 8}))
	for i := range 300 {
		changes = append(changes, PutChunk("p", uint64(i), Chunk{Epoch: uint64(i)}), PutTable("p", Table{Index: uint32(i)}))
	}
	if err := s.Save(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	s = New(start(t, dir).Client, Fence{})
	got, err := s.Catalog(t.Context(), "p")
	if err != nil || !proto.Equal(got, big) {
		t.Fatalf("catalog differs (%v)", err)
	}
	chunks, _ := s.Chunks(t.Context(), "p")
	tables, _ := s.Tables(t.Context(), "p")
	st, ok, err := s.State(t.Context(), "p")
	if len(chunks) != 300 || len(tables) != 300 || !ok || st.Epoch != 7 || err != nil {
		t.Fatal(len(chunks), len(tables), st, err)
	}
	if err := s.Save(t.Context(), DropPipeline("p")...); err != nil {
		t.Fatal(err)
	}
	if all, _ := s.Specs(t.Context()); len(all) != 0 {
		t.Fatal("spec is still there")
	}
	if _, ok, _ := s.State(t.Context(), "q"); !ok {
		t.Fatal("another pipeline was deleted")
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Fatal(info.Mode())
	}
}

func TestStore_AFormerLeaderWritesNothing(t *testing.T) {
	srv := start(t, t.TempDir())
	err := New(srv.Client, Fence{Key: ElectionKey + "/x", Rev: 12}).Save(t.Context(), PutState("p", State{}))
	if !errors.Is(err, ErrFenced) {
		t.Fatal(err)
	}
}

func TestStart_SecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	start(t, dir)
	_, err := Start(t.Context(), Embed{DataDir: dir, Fast: true})
	if d := diag.Find(err); d == nil || d.Code.ID != diag.StateUnusable.ID {
		t.Fatal(err)
	}
}
