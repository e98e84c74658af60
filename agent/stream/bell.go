package stream

import (
	"context"
	"time"

	"github.com/droverdb/drover/internal/stop"
)

// bell wakes one waiter; a ring that nobody waits for is kept for the next one.
type bell struct{ c chan struct{} }

func newBell() bell { return bell{make(chan struct{}, 1)} }

func (b bell) ring() {
	select {
	case b.c <- struct{}{}:
	default:
	}
}

// sleep waits for the bell (may be nil) or the time; false when ctx ended.
func sleep(ctx context.Context, d time.Duration, bell <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-bell:
	case <-t.C:
	}
	return ctx.Err() == nil
}

// drained is a context that is done as soon as the group that runs it drains.
type drained struct {
	context.Context
	done <-chan struct{}
}

func (d drained) Done() <-chan struct{} { return d.done }

func (d drained) Err() error {
	select {
	case <-d.done:
		return context.Canceled
	default:
		return nil
	}
}

// drainContext turns the drain of the group that runs ctx into the end of a context.
func drainContext(ctx context.Context) context.Context {
	return drained{context.WithoutCancel(ctx), stop.Draining(ctx)}
}
