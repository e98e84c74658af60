package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/droverdb/drover/deploy/dev"
)

// follower keeps a target equal to the source. It is attached once, then paused and resumed.
type follower interface {
	// target is the database at the target server.
	target() string
	// attach copies what is there, waits until changes are followed, and pauses.
	attach(ctx context.Context) error
	// resume starts to drain what has gathered and returns at once.
	resume(ctx context.Context) error
	// pause stops; the source goes on keeping its log.
	pause(ctx context.Context) (usage, error)
	// detach removes what was made at both servers, except rows.
	detach(ctx context.Context) error
}

// nativeName names publication, subscription and slot of the native peer.
const nativeName = "bench_native"

// subscription is PostgreSQL's own logical replication.
type subscription struct {
	l        *lab
	from, to string
}

func (s *subscription) target() string { return s.to }

func (s *subscription) attach(ctx context.Context) error {
	if err := s.l.copySchema(ctx, s.from, s.to); err != nil {
		return err
	}
	if err := s.l.source.Exec(ctx, s.from, "CREATE PUBLICATION "+nativeName+" FOR ALL TABLES"); err != nil {
		return err
	}
	if err := s.sync(ctx); err != nil {
		return err
	}
	_, err := s.pause(ctx)
	return err
}

// sync creates the subscription and waits until all tables are copied and followed.
func (s *subscription) sync(ctx context.Context) error {
	create := fmt.Sprintf("CREATE SUBSCRIPTION %s CONNECTION '%s' PUBLICATION %s WITH (binary = true)", nativeName, s.l.source.DSN(s.from), nativeName)
	if err := s.l.target.Exec(ctx, s.to, create); err != nil {
		return err
	}
	return until(ctx, s.l.target.URL(s.to), "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'", "0", 20*time.Millisecond)
}

func (s *subscription) resume(ctx context.Context) error {
	return s.l.target.Exec(ctx, s.to, "ALTER SUBSCRIPTION "+nativeName+" ENABLE")
}

func (s *subscription) pause(ctx context.Context) (usage, error) {
	if err := s.l.target.Exec(ctx, s.to, "ALTER SUBSCRIPTION "+nativeName+" DISABLE"); err != nil {
		return usage{}, err
	}
	return usage{}, until(ctx, s.l.source.URL(s.from), "SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = '"+nativeName+"'", "0", 20*time.Millisecond)
}

func (s *subscription) detach(ctx context.Context) error {
	return errors.Join(s.l.target.Exec(ctx, s.to, "DROP SUBSCRIPTION IF EXISTS "+nativeName),
		s.l.source.Exec(ctx, s.from, "DROP PUBLICATION IF EXISTS "+nativeName))
}

// droverFollow is `drover copy --follow`.
type droverFollow struct {
	l        *lab
	from, to string
	name     string
	data     string
	running  *metered
}

func (d *droverFollow) target() string { return d.to }

const streamingWithin = 10 * time.Minute

func (d *droverFollow) attach(ctx context.Context) error {
	d.data = filepath.Join(d.l.tmp, "follow-"+d.name)
	if err := d.resume(ctx); err != nil {
		return err
	}
	deadline := time.Now().Add(streamingWithin)
	for phase := ""; phase != "streaming"; {
		select {
		case <-d.running.child.Done():
			_, err := d.running.wait(ctx)
			d.running = nil
			return errors.Join(errors.New("drover ended before it was streaming"), err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("drover is not streaming after %s; its phase is %q", streamingWithin, phase)
		}
		phase = d.phase(ctx)
	}
	_, err := d.pause(ctx)
	return err
}

// phase is "" while nothing answers yet.
func (d *droverFollow) phase(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, d.l.drover, "status", d.name, "--data", d.data, "-o", "json").Output()
	var s struct{ Phase string }
	if err != nil || json.Unmarshal(out, &s) != nil {
		return ""
	}
	return s.Phase
}

func (d *droverFollow) resume(context.Context) (err error) {
	d.running, err = d.l.drive("copy", d.l.source.URL(d.from), d.l.target.URL(d.to), "--follow", "--name", d.name,
		"--data", d.data, "--verify", "none", "--progress", "none")
	return err
}

func (d *droverFollow) pause(ctx context.Context) (usage, error) {
	u, err := d.running.interrupt(ctx)
	d.running = nil
	return u, err
}

// detach ends what still runs; slot and publication go with the source database.
func (d *droverFollow) detach(ctx context.Context) error {
	if d.running != nil {
		_, _ = d.pause(ctx) // it failed before; that error is reported
	}
	return os.RemoveAll(d.data)
}

// followers attaches Drover and, if asked for, the native peer to a source database. detach undoes all of it.
func (l *lab) followers(ctx context.Context, from string, native bool) (all map[string]follower, detach func(context.Context) error, err error) {
	all = map[string]follower{"drover": &droverFollow{l: l, from: from, to: from + "_drover", name: from}}
	if native && l.available("native") {
		all["native"] = &subscription{l: l, from: from, to: from + "_native"}
	}
	detach = func(ctx context.Context) error {
		var errs []error
		for _, f := range all {
			errs = append(errs, f.detach(ctx), l.target.DropDatabase(ctx, f.target()))
		}
		return errors.Join(errs...)
	}
	for name, f := range all {
		err := l.target.CreateDatabase(ctx, f.target())
		if err == nil {
			err = f.attach(ctx)
		}
		if err != nil {
			return all, detach, fmt.Errorf("%s: %w", name, err)
		}
	}
	return all, detach, nil
}

// arrived waits until a mark that the source wrote last is visible at the target, which means that all before it is.
func arrived(ctx context.Context, url string, mark int) error {
	return poll(ctx, url, fmt.Sprintf("SELECT count(*) FROM bench_mark WHERE id = %d", mark), "1")
}

// caughtUp writes a mark and waits for it.
func (l *lab) caughtUp(ctx context.Context, from, to string, mark int) error {
	if err := l.source.Exec(ctx, from, fmt.Sprintf("INSERT INTO bench_mark VALUES (%d)", mark)); err != nil {
		return err
	}
	return arrived(ctx, l.target.URL(to), mark)
}

// asyncURL is a session that does not wait for the disk: backlogs are made faster, and are the same.
func asyncURL(s *dev.Server, db string) string {
	return s.URL(db) + "&options=-c%20synchronous_commit%3Doff"
}
