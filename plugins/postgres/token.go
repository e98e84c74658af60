package postgres

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// bookkeepingVersion is stored with every pipeline, so that a newer Drover knows what it finds.
const bookkeepingVersion = 1

// bookkeepingLock serialises the creation of the schema drover: IF NOT EXISTS alone can collide.
const bookkeepingLock = 0x64726f766572 // "drover"

const bookkeepingDDL = `
CREATE SCHEMA IF NOT EXISTS drover;
CREATE TABLE IF NOT EXISTS drover.pipeline (
	name text PRIMARY KEY, version int NOT NULL, memo bytea, fence bigint NOT NULL DEFAULT 0,
	created timestamptz NOT NULL DEFAULT now());
ALTER TABLE drover.pipeline ADD COLUMN IF NOT EXISTS owner text NOT NULL DEFAULT '';
CREATE TABLE IF NOT EXISTS drover.stream (
	pipeline text PRIMARY KEY, epoch bigint NOT NULL, position bytea, updated timestamptz NOT NULL DEFAULT now())
	WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS drover.chunk (
	pipeline text, chunk bigint, epoch bigint NOT NULL, written boolean NOT NULL DEFAULT false,
	rows bigint, bytes bigint, digest bigint, row_sum bytea, coverage bytea,
	key_from bytea, key_to bytea, read_range bytea, est_rows bigint, est_bytes bigint, PRIMARY KEY (pipeline, chunk));
CREATE TABLE IF NOT EXISTS drover.step (
	pipeline text, step text, done timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (pipeline, step));
CREATE TABLE IF NOT EXISTS drover.key_coverage (
	pipeline text, tbl bigint, key bytea, coverage bytea NOT NULL, vals text[] NOT NULL, PRIMARY KEY (pipeline, tbl, key));
CREATE TABLE IF NOT EXISTS drover.aside (
	pipeline text, tbl bigint, reason bytea NOT NULL, since timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (pipeline, tbl));
COMMENT ON SCHEMA drover IS 'Positions and finished chunks of Drover pipelines. Removed with the last pipeline.'`

const (
	// endAfter is how long a fence waits for a lock before it looks for an older session that holds it.
	endAfter = time.Second
	// whatWrite and whatApply start the last part of application_name; the epoch follows.
	whatWrite = "write-"
	whatApply = "apply-"
)

// tokens is the state of the sink's bookkeeping in this process.
type tokens struct {
	mu   sync.Mutex
	made bool
}

// forget: they may be gone.
func (t *tokens) forget() {
	t.mu.Lock()
	t.made = false
	t.mu.Unlock()
}

// ensureBookkeeping creates the schema drover and its tables. Idempotent and safe against itself.
func (s *Sink) ensureBookkeeping(ctx context.Context, conn *pgx.Conn) error {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	if s.tokens.made {
		return nil
	}
	var found bool // all of it: what an older Drover made has no table of tables set aside, and no owners
	err := conn.QueryRow(ctx, `SELECT to_regclass('drover.aside') IS NOT NULL AND EXISTS (SELECT FROM pg_attribute
		WHERE attrelid = to_regclass('drover.pipeline') AND attname = 'owner')`).Scan(&found)
	if err == nil && !found {
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(bookkeepingLock)); err != nil {
				return err
			}
			_, err := tx.Conn().PgConn().Exec(ctx, bookkeepingDDL).ReadAll()
			return err
		})
	}
	if err != nil {
		return bookkeepingError(err)
	}
	s.tokens.made = true
	return nil
}

func bookkeepingFound(ctx context.Context, conn *pgx.Conn) (found bool, err error) {
	err = conn.QueryRow(ctx, "SELECT to_regclass('drover.key_coverage') IS NOT NULL").Scan(&found)
	return found, err
}

func bookkeepingError(err error) error {
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == "42501" {
		return diag.TargetRights.New("target › schema drover", serverError{pe}, "")
	}
	return mapError(err, "target › schema drover")
}

// whileEnding runs work, which may wait for locks on conn, and meanwhile ends sessions of the same pipeline
// that block it and carry an older epoch: a process that is frozen or cut off cannot give way by itself.
func (s *Sink) whileEnding(ctx context.Context, conn *pgx.Conn, epoch uint64, work func() error) error {
	done := make(chan struct{})
	var wg sync.WaitGroup
	pid := conn.PgConn().PID()
	wg.Go(func() {
		tick := time.NewTicker(endAfter)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
				// A failure here only means that the lock is waited for a little longer.
				_ = s.endOlder(ctx, pid, epoch)
			}
		}
	})
	err := work()
	close(done)
	wg.Wait()
	return err
}

// endOlder ends sessions of older epochs that block pid.
func (s *Sink) endOlder(ctx context.Context, pid uint32, epoch uint64) error {
	conn, err := connect(ctx, s.cfg, "fence", connectorv1.Role_ROLE_UNSPECIFIED)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `SELECT a.pid, a.application_name FROM pg_stat_activity a
		WHERE a.pid = ANY (pg_blocking_pids($1)) AND a.usename = current_user`, int32(pid))
	if err != nil {
		return err
	}
	type session struct {
		PID  int32
		Name string
	}
	blocking, err := pgx.CollectRows(rows, pgx.RowToStructByPos[session])
	if err != nil {
		return err
	}
	for _, b := range blocking {
		if old, ok := epochOf(s.cfg.Pipeline, b.Name); ok && old < epoch {
			if _, err := conn.Exec(ctx, "SELECT pg_terminate_backend($1)", b.PID); err != nil {
				return err
			}
		}
	}
	return nil
}

// epochOf reads the epoch from the application_name of a writing session of the pipeline.
func epochOf(pipeline, name string) (uint64, bool) {
	what := name[strings.LastIndexByte(name, '/')+1:]
	for _, prefix := range []string{whatWrite, whatApply} {
		if n, ok := strings.CutPrefix(what, prefix); ok && appName(pipeline, what) == name {
			epoch, err := strconv.ParseUint(n, 10, 64)
			return epoch, err == nil
		}
	}
	return 0, false
}

func fencedOut(where string, epoch uint64) error {
	return diag.FencedOut.New(where, nil, "epoch %d is older than the one stored at the target", epoch)
}
