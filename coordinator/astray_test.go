package coordinator

import (
	"sync/atomic"
	"testing"
	"time"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// An agent whose address leads to another database by the next attempt is given no work of it, though it did the work
// before: who still reaches the right one goes on.
func TestAttempt_GoesOnWhereTheDatabaseIs(t *testing.T) {
	w := newWorld()
	var astray atomic.Bool
	var wrong, right atomic.Int64
	conn, _ := serveWith(t, t.TempDir(), w, player{hello: hello("a", 2), answer: func(task *fleetv1.Task, event func(*fleetv1.Event)) *fleetv1.Result {
		switch {
		case astray.Load() && task.GetOpen() != nil && task.Source != nil:
			return &fleetv1.Result{Task: task.Id, Epoch: task.Epoch, Pipeline: task.Pipeline,
				Outcome: &fleetv1.Result_Open{Open: &fleetv1.OpenResult{Open: &connectorv1.OpenResponse{Identity: "another"}}}}
		case astray.Load() && task.GetOpen() == nil:
			wrong.Add(1)
		}
		return w.answer(task, event)
	}})
	c := &crew{world: w, t: t, conn: conn, control: controlv1.NewControlServiceClient(conn)}
	apply(t, c.control, controlv1.Mode_MODE_FULL_LOAD_AND_CDC)
	await(t, c.control, controlv1.Phase_PHASE_STREAMING)
	if _, err := c.control.Pause(t.Context(), &controlv1.PauseRequest{Pipeline: "p"}); err != nil {
		t.Fatal(err)
	}
	astray.Store(true)
	c.play(player{hello: hello("b", 2), answer: func(task *fleetv1.Task, event func(*fleetv1.Event)) *fleetv1.Result {
		if task.GetStream() != nil {
			right.Add(1)
		}
		return c.answer(task, event)
	}})
	if _, err := c.control.Resume(t.Context(), &controlv1.ResumeRequest{Pipeline: "p"}); err != nil {
		t.Fatal(err)
	}
	c.logged("E6003: no agent can do this work (agent a › source): under that address it reaches another database than the one this pipeline began with")
	for end := time.Now().Add(10 * time.Second); right.Load() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("agent b does not stream")
		}
	}
	if n := wrong.Load(); n != 0 {
		t.Errorf("agent a was given %d tasks at another database", n)
	}
}
