package command

import (
	"strings"
	"testing"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// The command that prints the fixes looks at the same tables, and holds no password.
func TestScripts_AskTheSameAgain(t *testing.T) {
	e := &env{}
	c, _, err := e.root().Find([]string{"doctor"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ParseFlags(strings.Fields("--no-follow --tables shop.*,it's.a -o wide --data /x")); err != nil {
		t.Fatal(err)
	}
	s := &controlv1.Spec{Source: &fleetv1.Endpoint{Url: "postgres://me@old/shop?sslmode=disable"}, Target: &fleetv1.Endpoint{Url: "postgres://me@new/shop"}}
	r := &controlv1.DoctorResponse{Problems: []*connectorv1.Problem{{Side: "target", Fix: []string{"TRUNCATE a;"}}, {Side: "source"}}}
	const want = `drover doctor 'postgres://me@old/shop?sslmode=disable' 'postgres://me@new/shop' --no-follow --tables 'shop.*,it'\''s.a' --sql target > fix-target.sql`
	if got := scripts(c, s, r); len(got) != 1 || got[0] != want {
		t.Errorf("%q, not %q", got, want)
	}
}
