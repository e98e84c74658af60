package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/deploy/dev"
)

// stream is a backlog of changes that has gathered while a follower was away.
type stream struct {
	name string
	// fill makes the tables; gather makes the backlog.
	fill   func(ctx context.Context, l *lab, db string) error
	gather func(ctx context.Context, l *lab, db string) error
	limit  float64 // of the native subscription's wall; 0: Drover alone
}

func streams() []stream {
	return []stream{
		{name: "tpcb", fill: fillTPCB, gather: runTPCB, limit: 0.5},
		{name: "singles", fill: fillRows, gather: insertRows(2_000_000, 1), limit: 0.75},
		{name: "batches", fill: fillRows, gather: insertRows(200, 10_000), limit: 0.9},
		{name: "huge", fill: fillRows, gather: insertRows(1, 5_000_000)},
	}
}

func streamWorkloads() []workload {
	var all []workload
	for _, w := range streams() {
		all = append(all, workload{w.name, w.run})
	}
	return all
}

const markTable = "CREATE TABLE bench_mark (id int PRIMARY KEY)"

// fillTPCB makes pgbench's tables. pgbench_history has no key; its identity is the whole row, so that it can be published.
func fillTPCB(ctx context.Context, l *lab, db string) error {
	if err := l.call(ctx, "pgbench", "-i", "-q", "-s", strconv.Itoa(l.n(10, 1)), l.source.URL(db)); err != nil {
		return err
	}
	return l.source.Exec(ctx, db, "ALTER TABLE pgbench_history REPLICA IDENTITY FULL; "+markTable)
}

// tpcb is pgbench's transaction, run inside the server: the backlog is the same, and is made in a tenth of the time.
const tpcb = `DO $$ DECLARE accounts int := (SELECT max(aid) FROM pgbench_accounts); tellers int := (SELECT max(tid) FROM pgbench_tellers);
	branches int := (SELECT max(bid) FROM pgbench_branches); a int; t int; b int; d int;
BEGIN FOR i IN 1..%d LOOP
	a := 1 + random() * (accounts - 1); t := 1 + random() * (tellers - 1); b := 1 + random() * (branches - 1); d := random() * 10000 - 5000;
	UPDATE pgbench_accounts SET abalance = abalance + d WHERE aid = a;
	UPDATE pgbench_tellers SET tbalance = tbalance + d WHERE tid = t;
	UPDATE pgbench_branches SET bbalance = bbalance + d WHERE bid = b;
	INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (t, b, a, d, clock_timestamp());
	COMMIT; END LOOP; END $$`

func runTPCB(ctx context.Context, l *lab, db string) error {
	const clients = 2
	each := fmt.Sprintf(tpcb, max(1, l.n(500_000, 200)/clients))
	var wg sync.WaitGroup
	var errs [clients]error
	for i := range clients {
		wg.Go(func() { errs[i] = dev.Exec(ctx, asyncURL(l.source, db), each) })
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

func fillRows(ctx context.Context, l *lab, db string) error {
	return l.source.Exec(ctx, db, "CREATE TABLE bench_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int, note text); "+markTable)
}

// insertRows makes transactions of so many rows. Scaled, there are fewer transactions, or smaller ones if there is only one.
func insertRows(transactions, rows int) func(context.Context, *lab, string) error {
	return func(ctx context.Context, l *lab, db string) error {
		n, size := l.n(transactions, 1), rows
		if transactions == 1 {
			size = l.n(rows, 1000)
		}
		return dev.Exec(ctx, asyncURL(l.source, db), fmt.Sprintf(`DO $$ BEGIN FOR t IN 1..%d LOOP
			INSERT INTO bench_rows (v, note) SELECT i, 'a note of some length for row ' || i FROM generate_series(1, %d) i;
			COMMIT; END LOOP; END $$`, n, size))
	}
}

// run attaches all followers once. In every run one backlog gathers while all are away; each then drains it alone.
func (w stream) run(ctx context.Context, l *lab) (err error) {
	from := "stream_" + w.name
	if err := l.source.CreateDatabase(ctx, from); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.source.DropDatabase(context.WithoutCancel(ctx), from)) }()
	if err := w.fill(ctx, l, from); err != nil {
		return err
	}
	l.step("%s: attaching", w.name)
	all, detach, err := l.followers(ctx, from, w.limit > 0)
	defer func() { err = errors.Join(err, detach(context.WithoutCancel(ctx))) }()
	if err != nil {
		return err
	}
	got := wallsOf{}
	for i := range l.runs {
		l.step("%s: run %d: gathering a backlog", w.name, i+1)
		if err := w.gather(ctx, l, from); err != nil {
			return err
		}
		if err := l.source.Exec(ctx, from, fmt.Sprintf("INSERT INTO bench_mark VALUES (%d)", i)); err != nil {
			return err
		}
		for _, name := range turns(all, i) {
			u, err := l.drain(ctx, all[name], from, i)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			got[name] = append(got[name], u)
			l.step("%s: run %d: %s took %s s; CPU s: source %s, target %s, drover %s", w.name, i+1, name,
				seconds(u.wall), seconds(u.sourceCPU), seconds(u.targetCPU), seconds(u.cpu))
		}
	}
	ours := typical(got["drover"])
	if theirs := got["native"]; len(theirs) > 0 {
		t := typical(theirs)
		l.report.ratio("backlog "+w.name, "native", t.wall, ours.wall, w.limit)
		l.report.note("backlog %s, CPU s of source + target + Drover: native %s + %s, drover %s + %s + %s", w.name,
			seconds(t.sourceCPU), seconds(t.targetCPU), seconds(ours.sourceCPU), seconds(ours.targetCPU), seconds(ours.cpu))
	}
	l.report.took("backlog "+w.name, ours, false)
	return nil
}

// turns are the names in an order that changes with every run.
func turns(all map[string]follower, run int) []string {
	if _, ok := all["native"]; !ok {
		return []string{"drover"}
	}
	if run%2 == 0 {
		return []string{"drover", "native"}
	}
	return []string{"native", "drover"}
}

// drain measures from the start of a follower to the visibility of the backlog's last row.
func (l *lab) drain(ctx context.Context, f follower, from string, mark int) (usage, error) {
	if err := l.settle(ctx); err != nil {
		return usage{}, err
	}
	source, target, err := l.serversCPU(ctx)
	if err != nil {
		return usage{}, err
	}
	took, err := timed(func() error {
		if err := f.resume(ctx); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, drainWithin)
		defer cancel()
		if d, ok := f.(*droverFollow); ok {
			defer d.running.whenEnded(cancel)() // a drover that has ended will never arrive
		}
		return arrived(ctx, l.target.URL(f.target()), mark)
	})
	u, stopped := f.pause(ctx)
	u.wall = took.wall
	if err := errors.Join(err, stopped); err != nil {
		return u, err
	}
	if u.sourceCPU, u.targetCPU, err = l.serversCPU(ctx); err != nil {
		return u, err
	}
	u.sourceCPU, u.targetCPU = u.sourceCPU-source, u.targetCPU-target
	return u, l.same(ctx, from, f.target())
}

const drainWithin = 20 * time.Minute

// poll asks the same question over one connection until it gets the answer.
func poll(ctx context.Context, url, query, want string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for {
		var n int64
		if err := conn.QueryRow(ctx, query).Scan(&n); err != nil {
			return err
		}
		if strconv.FormatInt(n, 10) == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s is %d, want %s", ctx.Err(), query, n, want)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
