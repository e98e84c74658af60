package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/droverdb/drover/deploy/dev"
)

// limit is one row of the report: the fastest of some peers, and how Drover must compare with it.
type limit struct {
	peers []string
	ratio float64
}

// load is a full load into an empty database.
type load struct {
	name   string
	fill   func(l *lab) []string
	limits []limit
	native bool          // the CPU limit of the native lane holds
	within time.Duration // an absolute limit of the wall; 0: none
}

func loads() []load {
	return []load{
		{name: "narrow", native: true, fill: narrow(10_000_000), limits: []limit{
			{[]string{"pipe"}, 1}, {[]string{"pgcopydb"}, 0.85}, {[]string{"dump-dir"}, 0.65}, {[]string{"native"}, 0.6}}},
		{name: "narrow-1m", fill: narrow(1_000_000)},
		{name: "wide", native: true, fill: wide, limits: []limit{
			{[]string{"pipe"}, 1.05}, {[]string{"pgcopydb"}, 0.75}, {[]string{"native"}, 0.5}}},
		{name: "tables", fill: small(2000), limits: []limit{
			{[]string{"dump-pipe", "dump-dir"}, 1}, {[]string{"pgcopydb"}, 0.15}}},
		{name: "tables-200", fill: small(200)},
		{name: "tables-20000", fill: small(20_000)},
		{name: "empty", fill: func(*lab) []string { return nil }, within: 1500 * time.Millisecond},
	}
}

func loadWorkloads() []workload {
	var all []workload
	for _, w := range loads() {
		all = append(all, workload{w.name, w.run})
	}
	return all
}

// narrow is the accounts table of pgbench.
func narrow(rows int) func(*lab) []string {
	return func(l *lab) []string {
		return []string{
			"CREATE TABLE pgbench_accounts (aid int NOT NULL, bid int, abalance int, filler char(84))",
			fmt.Sprintf("INSERT INTO pgbench_accounts SELECT i, 1 + i / 100000, 0, '' FROM generate_series(1, %d) i", l.n(rows, 1000)),
			"ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid)",
		}
	}
}

func wide(l *lab) []string {
	return []string{
		`CREATE TABLE wide (id bigint NOT NULL, ref uuid, name text, mail varchar(100), body text, spec jsonb, price numeric(14,4),
			at timestamptz, day date, ok bool, ratio float8, tags text[], counts int[], raw bytea)`,
		fmt.Sprintf(`INSERT INTO wide SELECT i, md5(i::text)::uuid, 'name of ' || i, 'u' || i || '@example.com', repeat(md5(i::text), 6),
			jsonb_build_object('id', i, 'kind', 'k' || i %% 17, 'sub', jsonb_build_array(i, i + 1, 'x')), i / 7.0,
			timestamptz '2020-01-01' + i * interval '1 second', date '2020-01-01' + i %% 3000, i %% 3 = 0, i / 3.0,
			ARRAY['t' || i %% 5, 't' || i %% 11], ARRAY[i, i * 2, NULL], decode(md5(i::text), 'hex') FROM generate_series(1, %d) i`, l.n(1_400_000, 1000)),
		"ALTER TABLE wide ADD PRIMARY KEY (id)",
	}
}

func small(tables int) func(*lab) []string {
	return func(l *lab) []string {
		return []string{fmt.Sprintf(`DO $$ BEGIN FOR t IN 1..%d LOOP
			EXECUTE format('CREATE TABLE t%%s (id int PRIMARY KEY, name text, at timestamptz)', t);
			EXECUTE format('INSERT INTO t%%s SELECT i, ''name '' || i, now() FROM generate_series(1, 100) i', t);
			EXECUTE format('CREATE INDEX t%%s_name ON t%%s (name)', t, t);
			COMMIT; END LOOP; END $$`, l.n(tables, 2))}
	}
}

// wallsOf are the measurements of one workload, by contender.
type wallsOf map[string][]usage

func (w load) run(ctx context.Context, l *lab) (err error) {
	from := "load_" + strings.ReplaceAll(w.name, "-", "_")
	disk, err := l.filled(ctx, from, w.fill(l))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.source.DropDatabase(context.WithoutCancel(ctx), from)) }()
	contenders := []string{"drover"}
	for _, lim := range w.limits {
		contenders = append(contenders, lim.peers...)
	}
	// Whoever comes first would pay for making the files of the target's log; the others write over them.
	if w.native {
		if _, err := l.loadOnce(ctx, "pipe", from); err != nil {
			return err
		}
	}
	got, broken := wallsOf{}, map[string]bool{}
	for i := range l.runs {
		for k := range contenders {
			name := contenders[(i+k)%len(contenders)] // nobody is always first
			if broken[name] || !l.available(name) {
				continue
			}
			u, err := l.loadOnce(ctx, name, from)
			if err != nil {
				broken[name] = true
				delete(got, name)
				l.report.fail(w.name+" by "+name, err)
				continue
			}
			u.disk = disk
			got[name] = append(got[name], u)
			l.step("%s: run %d: %s took %s s", w.name, i+1, name, seconds(u.wall))
		}
	}
	if broken["drover"] {
		return errors.New("drover failed, see above")
	}
	w.show(l.report, got)
	return ctx.Err()
}

func (w load) show(r *report, got wallsOf) {
	ours := typical(got["drover"])
	r.drover[w.name] = ours
	for _, lim := range w.limits {
		best, bestName := time.Duration(0), ""
		for _, name := range lim.peers {
			if len(got[name]) == 0 {
				continue
			}
			if u := typical(got[name]); bestName == "" || u.wall < best {
				best, bestName = u.wall, name
			}
		}
		if bestName != "" {
			r.ratio(w.name, bestName, best, ours.wall, lim.ratio)
		}
	}
	if w.within > 0 {
		r.value(w.name, "wall", seconds(ours.wall)+" s", seconds(w.within)+" s", ours.wall <= w.within)
	}
	r.took(w.name, ours, w.native)
}

// filled makes a database at the source and returns the bytes of its tables.
func (l *lab) filled(ctx context.Context, name string, statements []string) (int64, error) {
	l.step("filling %s", name)
	if err := l.source.CreateDatabase(ctx, name); err != nil {
		return 0, err
	}
	for _, sql := range append(statements, "VACUUM ANALYZE") {
		if err := l.source.Exec(ctx, name, sql); err != nil {
			return 0, err
		}
	}
	size, err := dev.Query(ctx, l.source.URL(name), `SELECT coalesce(sum(pg_table_size(c.oid)), 0)::bigint
		FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace WHERE c.relkind = 'r' AND s.nspname = 'public'`)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(size, 10, 64)
}

// loadOnce lets one contender copy a database into a fresh one, and counts what arrived.
func (l *lab) loadOnce(ctx context.Context, name, from string) (u usage, err error) {
	const to = "load_target"
	if err := l.target.CreateDatabase(ctx, to); err != nil {
		return u, err
	}
	defer func() { err = errors.Join(err, l.target.DropDatabase(context.WithoutCancel(ctx), to)) }()
	if err := l.settle(ctx); err != nil {
		return u, err
	}
	if u, err = loaders[name](ctx, l, from, to); err != nil {
		return u, err
	}
	return u, l.same(ctx, from, to)
}
