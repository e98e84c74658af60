package engine

import (
	"testing"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// A physical copy that runs by itself is another database; a standby, which cannot be told from its primary, is not.
func TestApart_TellsADatabaseFromItsCopies(t *testing.T) {
	of := func(identity, instance string) *connectorv1.OpenResponse {
		return &connectorv1.OpenResponse{Identity: identity, Instance: instance}
	}
	for _, c := range []struct {
		source, target *connectorv1.OpenResponse
		same           bool
	}{
		{of("1/5", "a"), of("1/5", "a"), true},
		{of("1/5", ""), of("1/5", "a"), true},
		{of("1/5", "a"), of("1/5", ""), true},
		{of("1/5", "a"), of("1/5", "b"), false},
		{of("1/5", "a"), of("1/6", "a"), false},
		{of("", ""), of("", ""), false}, // a connector that does not know
		{nil, of("1/5", "a"), false},
	} {
		err := apart(c.source, c.target)
		if d := diag.Find(err); (d != nil && d.Code.ID == diag.SameDatabase.ID) != c.same {
			t.Errorf("%v and %v: %v", c.source, c.target, err)
		}
	}
}
