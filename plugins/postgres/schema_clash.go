package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// clashFor bounds how long steps are tried again while nothing gets done. A variable for tests only.
var clashFor = 5 * time.Minute

const (
	// clashFirst and clashMost are how soon a step is tried again.
	clashFirst = 20 * time.Millisecond
	clashMost  = 500 * time.Millisecond
	// lockWaitMost is how long a step waits for a lock, if the server's deadlock_timeout is not short.
	lockWaitMost = 500 * time.Millisecond
	// atWork is how long a transaction has to last to be building something: one that only waits gives way before.
	atWork = 2 * time.Second
)

// clashed: two sessions changed the same catalog row, or one waited for the other.
func clashed(err error) bool {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return false
	}
	return pe.Code == "40P01" || pe.Code == "40001" || pe.Code == "55P03" || pe.Code == "XX000" && strings.Contains(pe.Message, "concurrently")
}

// lockWait is how long to wait for a lock. A step that waits for the stream, while the stream waits for what the step
// holds, must give way before the server looks for deadlocks: it would end the stream's round, which costs an attempt.
func lockWait(deadlockTimeout time.Duration) time.Duration {
	return min(lockWaitMost, max(deadlockTimeout/2, time.Millisecond))
}

// waitingFor is the statement that sets it for a transaction.
func (r *schemaRun) waitingFor() string {
	return fmt.Sprintf("SET LOCAL lock_timeout = '%dms';\n", r.lockWait.Milliseconds())
}

// headway knows whether a call gets anywhere.
type headway struct {
	mu sync.Mutex
	// last is when something was done; since when each session's transaction has been under way.
	last  time.Time
	since map[*pgx.Conn]time.Time
}

func (p *headway) begin(conn *pgx.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since[conn] = time.Now()
}

func (p *headway) end(conn *pgx.Conn, done bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.since, conn)
	if done {
		p.last = time.Now()
	}
}

// stuck: nothing was done for too long, and no session of ours is building something that could be what is waited for.
func (p *headway) stuck() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, since := range p.since {
		if time.Since(since) > atWork {
			return false
		}
	}
	return time.Since(p.last) > clashFor
}

// patiently tries again what met other sessions. The pauses differ, so that two who are in each other's way do not stay so.
func (r *schemaRun) patiently(ctx context.Context, try func() error) error {
	for pause := clashFirst; ; pause = min(2*pause, clashMost) {
		err := try()
		if !clashed(err) || r.headway.stuck() {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}
