// Package stop ends work in two steps: drain (finish what is begun, take nothing new), then abort (let go now).
//
// A Group owns its goroutines: it waits for every one of them, whatever happens. Work learns of the drain from
// Draining(ctx) and of the abort from ctx itself:
//
//	g := stop.New(ctx)
//	g.Go(func(ctx context.Context) error {
//		for {
//			select {
//			case <-stop.Draining(ctx):
//				return nil
//			case <-ctx.Done():
//				return ctx.Err()
//			case w := <-work:
//				...
//			}
//		}
//	})
//	err := g.Stop(10 * time.Second)
package stop

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// ErrAborted is the cause of the context of work that did not drain in time.
var ErrAborted = errors.New("stop: aborted")

// ErrStopped is returned by Go when the group no longer takes work.
var ErrStopped = errors.New("stop: group is draining")

// Group owns goroutines. Make it with New.
type Group struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	draining chan struct{}

	mu      sync.Mutex
	drained bool // draining is closed
	err     error
	running int
	idle    chan struct{} // closed while running is 0
}

type groupKey struct{}

// New returns a group whose work is aborted when ctx is cancelled, and drained when ctx belongs to a group that drains.
// The caller ends it with Wait or Stop.
func New(ctx context.Context) *Group {
	g := &Group{draining: make(chan struct{}), idle: make(chan struct{})}
	close(g.idle)
	inner, cancel := context.WithCancelCause(ctx)
	g.ctx, g.cancel = context.WithValue(inner, groupKey{}, g), cancel
	if outer := Draining(ctx); outer != nil {
		g.followDrain(outer)
	}
	return g
}

// followDrain drains g when the group around it drains. The watcher ends with g's context, which Wait cancels.
func (g *Group) followDrain(outer <-chan struct{}) {
	go func() {
		select {
		case <-outer:
			g.Drain()
		case <-g.ctx.Done():
		}
	}()
}

// Draining is closed when the group that runs ctx drains. It is nil, which blocks for ever, outside any group.
func Draining(ctx context.Context) <-chan struct{} {
	if g, ok := ctx.Value(groupKey{}).(*Group); ok {
		return g.draining
	}
	return nil
}

// IsDraining reports whether the group that runs ctx drains.
func IsDraining(ctx context.Context) bool {
	select {
	case <-Draining(ctx):
		return true
	default:
		return false
	}
}

// Context is the context the group's work runs under.
func (g *Group) Context() context.Context { return g.ctx }

// Go runs f in a goroutine. An error or a panic of f aborts the group, and Wait reports the first of them.
// Once the group drains, f is not run and ErrStopped is returned.
func (g *Group) Go(f func(ctx context.Context) error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.drained || g.ctx.Err() != nil {
		return ErrStopped
	}
	if g.running == 0 {
		g.idle = make(chan struct{})
	}
	g.running++
	go func() {
		g.finish(guarded(g.ctx, f))
	}()
	return nil
}

// guarded turns a panic into an error, so that the owner hears of it and the process stops in order.
func guarded(ctx context.Context, f func(ctx context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("stop: panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f(ctx)
}

func (g *Group) finish(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	echo := g.ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, ErrAborted))
	if err != nil && !echo { // what merely repeats the abort is no news
		if g.err == nil {
			g.err = err
		}
		g.cancel(err)
	}
	if g.running--; g.running == 0 {
		close(g.idle)
	}
}

// Drain asks the work to finish. Idempotent; does not wait.
func (g *Group) Drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.drained {
		g.drained = true
		close(g.draining)
	}
}

// Abort cancels the work's context. Idempotent; does not wait.
func (g *Group) Abort() { g.cancel(ErrAborted) }

// Idle is closed when no goroutine runs. Take it again after each Go.
func (g *Group) Idle() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.idle
}

// Wait blocks until every goroutine has returned, then retires the group. It returns the first error of the work;
// when there is none and the work was cancelled from outside, the cause of that.
func (g *Group) Wait() error {
	for {
		<-g.Idle()
		g.mu.Lock()
		if g.running != 0 { // Go came in between
			g.mu.Unlock()
			continue
		}
		defer g.mu.Unlock()
		if g.err == nil && g.ctx.Err() != nil && !errors.Is(context.Cause(g.ctx), errRetired) {
			g.err = context.Cause(g.ctx)
		}
		g.cancel(errRetired)
		return g.err
	}
}

var errRetired = errors.New("stop: group has ended")

// Stop drains, aborts what has not finished after grace, and waits for all of it. Safe to call twice.
func (g *Group) Stop(grace time.Duration) error {
	g.Drain()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-g.Idle():
	case <-timer.C:
		g.Abort()
	}
	return g.Wait()
}
