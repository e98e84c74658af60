package agent

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/droverdb/drover/agent/host"
	"github.com/droverdb/drover/agent/stream"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

const (
	// stuckAfter is how long nothing of a task may move before its databases are asked what it waits for.
	stuckAfter = 2 * time.Second
	// lookSeldom is how often they are asked when they had nothing to say: some work just takes long.
	lookSeldom = 10 * time.Second
)

// watchWaits keeps asking the sides of a task what it waits for, as long as it is stuck. They are asked beside the call
// that waits, also when they are behind another agent. The returned function ends the watch.
func (a *Agent) watchWaits(ctx context.Context, r *running, stuck func() (bool, []uint64), sides ...sdk.Connector) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause := stuckAfter; ; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = stuckAfter
			var found []string
			if is, pending := stuck(); is {
				if found = a.blockers(ctx, pending, sides); len(found) == 0 {
					pause = lookSeldom
				}
			}
			r.wait(strings.Join(found, "; "))
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// blockers asks the sides that can tell. One that cannot be asked now has nothing to say.
func (a *Agent) blockers(ctx context.Context, pending []uint64, sides []sdk.Connector) (found []string) {
	ctx, cancel := context.WithTimeout(ctx, lookSeldom)
	defer cancel()
	for _, s := range sides {
		w := waiter(s)
		if w == nil {
			continue
		}
		b, err := w.Blockers(ctx, &connectorv1.BlockersRequest{Pending: pending})
		if err != nil {
			a.log.Debug("what a task waits for is not known", "err", err)
			continue
		}
		found = append(found, b.Blockers...)
	}
	return found
}

// waiter is a side that may be able to tell; nil: it has said that it is not.
func waiter(s sdk.Connector) sdk.Waiter {
	if h, ok := s.(*host.Handle); ok && !slices.Contains(h.Description.GetAbilities(), sdk.AbilityBlockers) {
		return nil
	}
	w, _ := s.(sdk.Waiter)
	return w
}

// wait notes what the task waits for; a task that never had to says nothing of it.
func (r *running) wait(what string) {
	if what != "" || r.waiting.Load() != nil {
		r.waiting.Store(&what)
	}
}

// stands reports whether nothing of the task has moved since it was asked last, and which transactions its reads have
// to see. A snapshot that is open waits for nothing.
func (r *running) stands() (bool, []uint64) {
	moved := r.load.Bytes()
	stands := moved == r.seen && r.snapshot.Load() == nil
	r.seen = moved
	switch k := r.task.Work.(type) {
	case *fleetv1.Task_Load:
		return stands, k.Load.GetFloor().GetPending()
	case *fleetv1.Task_Snapshot:
		return stands, k.Snapshot.GetFloor().GetPending()
	}
	return stands, nil
}

// lags reports whether a stream waits for the target, or for transactions to become visible at the source. Without
// changes it waits for nothing.
func lags(s *stream.Stream) (bool, []uint64) {
	unseen := s.Unseen()
	return len(unseen) > 0 || s.Progress().ApplyLagMicros > stuckAfter.Microseconds(), unseen
}
