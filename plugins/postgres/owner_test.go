package postgres

import (
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func owned(t *testing.T, url, owner string) *Sink {
	t.Helper()
	s := NewSink()
	if _, err := s.Open(t.Context(), &connectorv1.OpenRequest{Role: connectorv1.Role_ROLE_SINK, Url: url, Pipeline: testPipeline, Owner: owner}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func claim(t *testing.T, s *Sink, epoch uint64) (*connectorv1.RecoverResponse, error) {
	t.Helper()
	return s.Recover(t.Context(), &connectorv1.RecoverRequest{Pipeline: testPipeline, Epoch: epoch, Create: true, Take: true})
}

// The owner is asked by everything that is written. A newcomer is refused while a session of the owner lives; once it has
// taken over, with whatever epochs, every kind of write of the former owner is refused.
func TestOwner_NobodyElseWrites(t *testing.T) {
	url := dev.TargetDatabase(t)
	dev.MustExec(t, url, "CREATE TABLE t (a int)")
	first, second := owned(t, url, "first"), owned(t, url, "second")
	if _, err := claim(t, first, 5); err != nil {
		t.Fatal(err)
	}
	_, err := claim(t, second, 9)
	if !is(err, diag.AtWork) || !strings.Contains(err.Error(), "/owner)") {
		t.Fatalf("while the owner lives: %v", err)
	}
	if _, err := claim(t, owned(t, url, "first"), 6); err != nil { // another agent of the same owner
		t.Fatal(err)
	}
	dev.MustExec(t, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%/owner'")
	for is(err, diag.AtWork) && t.Context().Err() == nil { // until the server has ended them
		_, err = claim(t, second, 6)
	}
	if !is(err, diag.FencedOut) {
		t.Errorf("an epoch that the former owner may have: %v", err)
	}
	if r, err := claim(t, second, 7); err != nil || r.Owner != "second" {
		t.Fatalf("%v, %v", r, err)
	}
	table := &rowv1.Table{Target: &rowv1.TableRef{Schema: "public", Name: "t"}, Columns: []*rowv1.Column{{Name: "a", NativeType: "integer"}}}
	for what, err := range map[string]error{
		"chunk": refusal(first.WriteChunks(t.Context(), frames(writeOpenFrame(100, []*rowv1.Table{table}, &rowv1.Chunk{Id: 1, Keys: &rowv1.KeyRange{}})))),
		"reset": refusal(first.Reset(t.Context(), &connectorv1.ResetRequest{Pipeline: testPipeline, Epoch: 100, Tables: []*rowv1.Table{table}})),
		"step": first.ApplySchema(t.Context(), &connectorv1.ApplySchemaRequest{Pipeline: testPipeline, Epoch: 100, Steps: []*connectorv1.SchemaStep{
			{Id: 1, Kind: "table", Object: "u", Sql: []string{"CREATE TABLE u (a int)"}}}}, func(*connectorv1.ApplySchemaResponse) error { return nil }),
		"release": refusal(first.Release(t.Context(), &connectorv1.ReleaseRequest{Pipeline: testPipeline})),
	} {
		if !is(err, diag.TakenOver) {
			t.Errorf("%s of the former owner: %v", what, err)
		}
	}
	_, err = first.Recover(t.Context(), &connectorv1.RecoverRequest{Pipeline: testPipeline, Epoch: 200, Create: true})
	if !is(err, diag.TakenOver) {
		t.Errorf("the former owner comes back: %v", err)
	}
	if _, err := second.Release(t.Context(), &connectorv1.ReleaseRequest{Pipeline: testPipeline}); err != nil {
		t.Fatal(err)
	}
	if _, err = first.Reset(t.Context(), &connectorv1.ResetRequest{Pipeline: testPipeline, Epoch: 100, Tables: []*rowv1.Table{table}}); !is(err, diag.TakenOver) {
		t.Errorf("after the end: %v", err)
	}
	if n := strings.TrimSpace(dev.MustQuery(t, url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'drover'")); n != "0" {
		t.Error("whoever lost the pipeline has made the schema drover again")
	}
}

func refusal[A any](_ A, err error) error { return err }

func is(err error, code diag.Code) bool {
	d := diag.Find(err)
	return d != nil && d.Code.ID == code.ID
}
