package postgres

import (
	"context"
	"testing"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// found is everything Discover emits, in one.
func found(t testing.TB, url string, req *connectorv1.DiscoverRequest) *connectorv1.DiscoverResponse {
	t.Helper()
	s := NewSource()
	if _, err := s.Open(t.Context(), &connectorv1.OpenRequest{Url: url, Pipeline: "p"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if req == nil {
		req = &connectorv1.DiscoverRequest{}
	}
	all := &connectorv1.DiscoverResponse{}
	err := s.Discover(t.Context(), req, func(r *connectorv1.DiscoverResponse) error {
		all.Tables = append(all.Tables, r.Tables...)
		all.Steps = append(all.Steps, r.Steps...)
		all.NotCarried = append(all.NotCarried, r.NotCarried...)
		all.Problems = append(all.Problems, r.Problems...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// applied runs steps at a target and returns what was skipped and what failed.
func applied(t testing.TB, url string, steps []*connectorv1.SchemaStep, parallel int32) (skipped int, problems []*connectorv1.Problem) {
	t.Helper()
	s := NewSink()
	if _, err := s.Open(context.Background(), &connectorv1.OpenRequest{Url: url, Pipeline: "p"}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	answers := 0
	err := s.ApplySchema(t.Context(), &connectorv1.ApplySchemaRequest{Pipeline: "p", Epoch: 1, Steps: steps, Parallel: parallel},
		func(r *connectorv1.ApplySchemaResponse) error {
			answers++
			if r.Skipped {
				skipped++
			}
			if r.Problem != nil {
				problems = append(problems, r.Problem)
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	if answers != len(steps) {
		t.Errorf("%d answers for %d steps", answers, len(steps))
	}
	return skipped, problems
}
