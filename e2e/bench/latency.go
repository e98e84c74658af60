package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	beatWriters = 4
	beatRate    = 500 // transactions per second, all writers together
	p50Limit    = 15 * time.Millisecond
	p99Limit    = 100 * time.Millisecond
	// nativeFactor is how much later than the native subscription we may be.
	nativeFactor = 2.0
)

// latency measures from the return of a commit at the source to the row's visibility at the target.
func latency(ctx context.Context, l *lab) (err error) {
	const from = "stream_latency"
	if err := l.source.CreateDatabase(ctx, from); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.source.DropDatabase(context.WithoutCancel(ctx), from)) }()
	if err := l.source.Exec(ctx, from, "CREATE TABLE bench_beat (run int, writer int, n int, PRIMARY KEY (run, writer, n)); "+markTable); err != nil {
		return err
	}
	all, detach, err := l.followers(ctx, from, true)
	defer func() { err = errors.Join(err, detach(context.WithoutCancel(ctx))) }()
	if err != nil {
		return err
	}
	p50, p99 := map[string][]time.Duration{}, map[string][]time.Duration{}
	var used []usage
	for i := range l.runs {
		for k, name := range turns(all, i) {
			late, u, err := l.beats(ctx, all[name], from, 2*i+k)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			slices.Sort(late)
			p50[name], p99[name] = append(p50[name], percentile(late, 0.5)), append(p99[name], percentile(late, 0.99))
			if name == "drover" {
				used = append(used, u)
			}
			l.step("latency: run %d: %s p50 %s, p99 %s", i+1, name, percentile(late, 0.5), percentile(late, 0.99))
		}
	}
	for _, p := range []struct {
		what  string
		got   map[string][]time.Duration
		limit time.Duration
	}{{"latency p50", p50, p50Limit}, {"latency p99", p99, p99Limit}} {
		ours := median(p.got["drover"])
		l.report.value(p.what, "at 500 transactions/s", ours.Round(time.Microsecond).String(), p.limit.String(), ours <= p.limit)
		if theirs := p.got["native"]; len(theirs) > 0 {
			l.report.ratio(p.what, "native", median(theirs), ours, nativeFactor)
		}
	}
	l.report.took("latency", typical(used), false)
	return nil
}

// beats lets one follower follow while writers commit at a steady rate.
func (l *lab) beats(ctx context.Context, f follower, from string, run int) (late []time.Duration, u usage, err error) {
	if err := l.settle(ctx); err != nil {
		return nil, u, err
	}
	if err := f.resume(ctx); err != nil {
		return nil, u, err
	}
	late, err = l.follow(ctx, f, from, run)
	u, stopped := f.pause(ctx)
	return late, u, errors.Join(err, stopped)
}

func (l *lab) follow(ctx context.Context, f follower, from string, run int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := l.caughtUp(ctx, from, f.target(), run); err != nil {
		return nil, err
	}
	each := max(beatRate/beatWriters, l.n(20*beatRate/beatWriters, 1))
	var committed [beatWriters][]time.Time // filled by the writers, read after they have ended
	var seen [beatWriters][]time.Time
	errs := make([]error, beatWriters+1)
	var wg sync.WaitGroup
	for w := range beatWriters {
		wg.Go(func() { committed[w], errs[w] = beat(ctx, l.source.URL(from), run, w, each) })
	}
	wg.Go(func() { seen, errs[beatWriters] = watch(ctx, l.target.URL(f.target()), run, each) })
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var late []time.Duration
	for w := range beatWriters {
		for i, at := range committed[w] {
			late = append(late, max(0, seen[w][i].Sub(at))) // visible before the writer was told counts as at once
		}
	}
	return late, nil
}

// beat commits n rows evenly spread over time and returns when each commit returned.
func beat(ctx context.Context, url string, run, writer, n int) ([]time.Time, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tick := time.NewTicker(time.Second * beatWriters / beatRate)
	defer tick.Stop()
	at := make([]time.Time, 0, n)
	for i := range n {
		if _, err := conn.Exec(ctx, "INSERT INTO bench_beat VALUES ($1, $2, $3)", run, writer, i); err != nil {
			return nil, err
		}
		at = append(at, time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return at, nil
}

// watch notes when each row of each writer became visible.
func watch(ctx context.Context, url string, run, each int) (seen [beatWriters][]time.Time, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return seen, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const newest = `SELECT coalesce((SELECT n + 1 FROM bench_beat WHERE run = $1 AND writer = w ORDER BY n DESC LIMIT 1), 0) FROM generate_series(0, $2) w ORDER BY w`
	for left := each * beatWriters; left > 0; {
		rows, err := conn.Query(ctx, newest, run, beatWriters-1)
		if err != nil {
			return seen, err
		}
		counts, err := pgx.CollectRows(rows, pgx.RowTo[int])
		if err != nil {
			return seen, err
		}
		now := time.Now()
		for w, n := range counts {
			for len(seen[w]) < n {
				seen[w] = append(seen[w], now)
				left--
			}
		}
		time.Sleep(500 * time.Microsecond)
	}
	return seen, nil
}
