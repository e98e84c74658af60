package postgres

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/fault"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const (
	// lockTimeout bounds how long our wait for a table makes others wait behind us.
	lockTimeout = "5s"
	// holdAlive is how often an idle snapshot session is used, so that no firewall forgets it.
	holdAlive = 30 * time.Second
	// retakeFirst and retakeMax pace the wait for transactions that are in the log but not yet visible.
	retakeFirst = time.Millisecond
	retakeMax   = 100 * time.Millisecond

	beginSnapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '" + lockTimeout + "'; "
	snapshotSQL   = "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text"
)

// snapshotState is what reading tables needs besides the configuration.
type snapshotState struct {
	readers readers
	side    sideSession
}

func (s *snapshotState) close() error {
	s.side.close()
	return s.readers.close()
}

// OpenSnapshot locks the tables against rewriting, takes a snapshot that sees all of the floor, exports it, and
// holds it until ctx ends, or, if asked to give way, until somebody waits for one of the tables. Repeating it makes
// another snapshot.
func (s *Source) OpenSnapshot(ctx context.Context, req *connectorv1.OpenSnapshotRequest, opened func(*connectorv1.OpenSnapshotResponse) error) error {
	conn, err := connect(ctx, s.cfg, "snapshot", connectorv1.Role_ROLE_SOURCE)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	coverage, err := snapshotAfter(ctx, conn, req.Tables, req.Floor)
	if err != nil {
		return err
	}
	if err := export(ctx, conn, coverage, "source", opened); err != nil {
		return err
	}
	if !req.GiveWay {
		return hold(ctx, conn)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer s.giveWay(ctx, conn.PgConn().PID(), cancel)()
	if err := hold(ctx, conn); err != nil {
		return err
	}
	if cause := context.Cause(ctx); diag.Find(cause) != nil {
		return cause
	}
	return nil
}

// OpenSnapshot holds a snapshot of the target's tables, locked against rewriting, until ctx ends.
func (s *Sink) OpenSnapshot(ctx context.Context, req *connectorv1.OpenSnapshotRequest, opened func(*connectorv1.OpenSnapshotResponse) error) error {
	conn, err := connect(ctx, s.cfg, "snapshot", connectorv1.Role_ROLE_SOURCE)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	if _, err := script(ctx, conn, beginSnapshot+lockSQL(req.Tables, (*rowv1.Table).GetTarget)); err != nil {
		return mapError(err, "target › snapshot")
	}
	if err := export(ctx, conn, nil, "target", opened); err != nil {
		return err
	}
	return hold(ctx, conn)
}

// export names the session's snapshot, for other sessions to see what it sees.
func export(ctx context.Context, conn *pgx.Conn, coverage *rowv1.Coverage, side string, opened func(*connectorv1.OpenSnapshotResponse) error) error {
	cells, err := script(ctx, conn, "SELECT pg_export_snapshot()")
	if err != nil {
		return mapError(err, side+" › snapshot")
	}
	if err := fault.Point("snapshot.after-export"); err != nil {
		return err
	}
	return opened(&connectorv1.OpenSnapshotResponse{Snapshot: cells[0], Coverage: coverage})
}

// hold keeps the session until ctx ends, which is not an error.
func hold(ctx context.Context, conn *pgx.Conn) error {
	tick := time.NewTicker(holdAlive)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if _, err := script(ctx, conn, "SELECT 1"); err != nil && ctx.Err() == nil {
				return mapError(err, "source › snapshot")
			}
		}
	}
}

// snapshotAfter begins a transaction whose snapshot includes every pending transaction of the floor. The lock comes
// first: a table rewritten between snapshot and read would look empty (handover.md, the traps).
func snapshotAfter(ctx context.Context, conn *pgx.Conn, tables []*rowv1.Table, floor *rowv1.Floor) (*rowv1.Coverage, error) {
	begin := beginSnapshot + lockSQL(tables, (*rowv1.Table).GetSource) + snapshotSQL
	for pause := retakeFirst; ; pause = min(2*pause, retakeMax) {
		cells, err := script(ctx, conn, begin)
		if err != nil {
			return nil, aboutMissing(ctx, conn, err, tables)
		}
		coverage, err := coverageOf(cells[0], cells[1])
		if err != nil {
			return nil, err
		}
		if sdk.SeesAll(coverage, floor.GetPending()) {
			return coverage, nil
		}
		if _, err := script(ctx, conn, "ROLLBACK"); err != nil {
			return nil, mapError(err, "source › snapshot")
		}
		select {
		case <-ctx.Done():
			return nil, diag.CallCancelled.New("source › snapshot", ctx.Err(), "a transaction of the floor is not yet visible")
		case <-time.After(pause):
		}
	}
}

// noTable: a table that was named is not there, or not even its schema.
func noTable(pe *pgconn.PgError) bool { return pe.Code == "42P01" || pe.Code == "3F000" }

// aboutMissing names the table that is not there any more, when several were asked for.
func aboutMissing(ctx context.Context, conn *pgx.Conn, err error, tables []*rowv1.Table) error {
	coded := aboutTables(mapError(err, tableNames(tables)), tables)
	var pe *pgconn.PgError
	if len(tables) < 2 || !errors.As(err, &pe) || !noTable(pe) {
		return coded
	}
	var at int
	_, _ = script(ctx, conn, "ROLLBACK") // if it fails, so does what follows
	if conn.QueryRow(ctx, `SELECT w.at - 1 FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(s, t, at)
		WHERE to_regclass(quote_ident(w.s) || '.' || quote_ident(w.t)) IS NULL LIMIT 1`, sourceSchemas(tables), sourceNames(tables)).Scan(&at) != nil {
		return coded
	}
	return diag.About(diag.SchemaChanged.New(chunkTable(tables[at]), nil, "the table is not there any more"), tables[at].GetIndex())
}

// lockSQL is one statement for all tables; children of a table are tables of their own.
func lockSQL(tables []*rowv1.Table, ref func(*rowv1.Table) *rowv1.TableRef) string {
	if len(tables) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("LOCK TABLE ")
	for i, t := range tables {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("ONLY " + ident(ref(t).GetSchema(), ref(t).GetName()))
	}
	b.WriteString(" IN ACCESS SHARE MODE; ")
	return b.String()
}

func tableNames(tables []*rowv1.Table) string {
	if len(tables) == 1 {
		return chunkTable(tables[0])
	}
	return "source › tables"
}

func chunkTable(t *rowv1.Table) string {
	return "source › table " + t.GetSource().GetSchema() + "." + t.GetSource().GetName()
}

// receivedLSN is how far the log was received, 0 for nowhere yet.
func receivedLSN(req *connectorv1.PositionRequest) (uint64, error) {
	if len(req.Received) == 0 {
		return 0, nil
	}
	_, end, err := readPosition(req.Received)
	return end, err
}

// Position tells how far the log can be read, what a snapshot taken now includes, and how much log the slot keeps.
func (s *Source) Position(ctx context.Context, req *connectorv1.PositionRequest) (*connectorv1.PositionResponse, error) {
	var resp *connectorv1.PositionResponse
	received, err := receivedLSN(req)
	if err != nil {
		return nil, err
	}
	err = s.snap.side.use(ctx, s.cfg, func(conn *pgx.Conn) error {
		var snapshot, insert, flush string
		var retained int64
		err := conn.QueryRow(ctx, `SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text, pg_current_wal_flush_lsn()::text,
			coalesce((SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)::bigint FROM pg_replication_slots WHERE slot_name = $1), 0)`,
			slotName(req.Pipeline)).Scan(&snapshot, &insert, &flush, &retained)
		if err != nil {
			return err
		}
		horizon, err := coverageOf(snapshot, insert)
		if err != nil {
			return err
		}
		lsn, err := parseLSN(flush)
		if err != nil {
			return err
		}
		resp = &connectorv1.PositionResponse{Position: position(lsn, lsn), Printable: printable(position(lsn, lsn)), Horizon: horizon, RetainedLogBytes: retained}
		if received > 0 && lsn > received {
			resp.UnreadLogBytes = int64(lsn - received)
		}
		return nil
	})
	if err != nil {
		return nil, mapError(err, "source")
	}
	return resp, nil
}
