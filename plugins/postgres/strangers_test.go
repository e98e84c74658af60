package postgres

import (
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// strange is what a user may keep in a schema of our name, under names of ours too; what an extension brings goes with it.
const strange = `CREATE SCHEMA IF NOT EXISTS drover; CREATE TABLE drover.orders (id int GENERATED ALWAYS AS IDENTITY, s serial); CREATE TYPE drover.array_1 AS ENUM ('a'); CREATE VIEW drover.v AS SELECT 1;
	CREATE FUNCTION drover.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE DOMAIN drover.d AS int; CREATE EXTENSION hstore SCHEMA drover`

const listedStrange = "it holds table drover.orders, extension hstore, function drover.f(), type drover.array_1, type drover.d, 1 more, which Drover did not make"

// What is not ours in a schema drover of the source is refused by name, or listed when the patterns leave it out. What a pipeline
// left there that had this database as its target is passed over.
func TestStrangers_OfTheSourceAreNamed(t *testing.T) {
	src := dev.Database(t)
	dev.MustExec(t, src, bookkeepingDDL, "CREATE DOMAIN drover.array_1007 AS int[]; CREATE TABLE t (id int PRIMARY KEY)")
	all := found(t, src, nil)
	if len(all.Problems)+len(all.NotCarried) > 0 {
		t.Errorf("what Drover left is not passed over: %v", all)
	}
	dev.MustExec(t, src, strange)
	all = found(t, src, nil)
	if len(all.Problems) != 1 || all.Problems[0].Code != diag.SchemaTaken.ID || all.Problems[0].Reason != listedStrange+" and would not copy" {
		t.Errorf("problems: %v", all.Problems)
	}
	exclude := []string{"drover.*"}
	all = found(t, src, &connectorv1.DiscoverRequest{Exclude: exclude})
	if left := leftOver(all); len(all.Problems) > 0 || left["table drover.orders"] == "" || left["function drover.f()"] == "" || len(left) != 6 {
		t.Errorf("left out: %v, problems %v", left, all.Problems)
	}
	if got := checked(t, NewSource(), src, &connectorv1.CheckRequest{Exclude: exclude}); len(got) > 0 {
		t.Errorf("the pattern is called a mistake: %v", got)
	}
	dev.MustExec(t, src, "DROP SCHEMA drover CASCADE; CREATE SCHEMA drover; CREATE TABLE drover.step (n int)")
	if all = found(t, src, nil); len(all.Problems) != 1 {
		t.Errorf("a table with one of our names and other columns: %v", all.Problems)
	}
}

// A target with other things in a schema drover is refused before anything is written; what comes later is not taken away.
func TestStrangers_OfTheTargetAreRefusedAndStay(t *testing.T) {
	dst := dev.TargetDatabase(t)
	dev.MustExec(t, dst, strange)
	wants(t, checked(t, NewSink(), dst, &connectorv1.CheckRequest{}), map[string]string{diag.SchemaTaken.ID + " schema drover": "RENAME TO"})
	for _, theirs := range []bool{true, false} {
		if !theirs {
			dev.MustExec(t, dst, "DROP SCHEMA drover CASCADE")
		}
		applied(t, dst, nil, 1)
		if got := checked(t, NewSink(), dst, &connectorv1.CheckRequest{Resuming: true}); len(got) > 0 {
			t.Errorf("problems of a pipeline that goes on: %v", got)
		}
		s := NewSink()
		if _, err := s.Open(t.Context(), &connectorv1.OpenRequest{Url: dst, Pipeline: "p"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Release(t.Context(), &connectorv1.ReleaseRequest{Pipeline: "p"}); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		got := dev.MustQuery(t, dst, "SELECT to_regclass('drover.orders') IS NOT NULL, to_regproc('drover.f') IS NOT NULL, to_regclass('drover.step') IS NULL, to_regnamespace('drover') IS NOT NULL")
		if want := map[bool]string{true: "t\tt\tt\tt", false: "f\tf\tt\tf"}[theirs]; got != want {
			t.Errorf("after the release, with theirs %t: %s", theirs, got)
		}
	}
}
