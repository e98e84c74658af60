package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/fault"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

const (
	outputPlugin = "pgoutput"
	// releaseWait is how long Release waits for a walsender it has ended.
	releaseWait = 20 * time.Second
)

// slotName is the name of a pipeline's slot and publication. Slots allow [a-z0-9_] only and 63 bytes; a name
// that had to be changed carries a hash of the original so that two pipelines never share a slot.
func slotName(pipeline string) string {
	const prefix, limit = "drover_", 63
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, pipeline)
	if clean == pipeline && len(prefix)+len(clean) <= limit {
		return prefix + clean
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(pipeline))
	return fmt.Sprintf("%s%s_%08x", prefix, clean[:min(len(clean), limit-len(prefix)-9)], h.Sum32())
}

// slotState is what pg_replication_slots says of a slot.
type slotState struct {
	found     bool
	lost      bool
	activePID int32
	confirmed uint64
}

func lookAtSlot(ctx context.Context, conn *pgx.Conn, name string) (slotState, error) {
	var s slotState
	var confirmed, plugin, database, status string
	err := conn.QueryRow(ctx, `SELECT coalesce(confirmed_flush_lsn::text, '0/0'), coalesce(plugin, ''), coalesce(database, ''),
		coalesce(wal_status, ''), coalesce(active_pid, 0) FROM pg_replication_slots WHERE slot_name = $1`, name).
		Scan(&confirmed, &plugin, &database, &status, &s.activePID)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, nil
	}
	where := "source › slot " + name
	if err != nil {
		return s, mapError(err, where)
	}
	if here := conn.Config().Database; plugin != outputPlugin || database != here {
		return s, diag.SlotBusy.New(where, nil, "a slot of that name belongs to database %s, plugin %s", database, plugin)
	}
	if s.confirmed, err = parseLSN(confirmed); err != nil {
		return s, err
	}
	s.found, s.lost = true, status == "lost"
	return s, nil
}

// made refuses a slot that a session, maybe of a killed connector, is still making: it has no position yet, and the
// server removes it when that session ends first.
func (s slotState) made(name string) error {
	if s.found && s.confirmed > 0 {
		return nil
	}
	return diag.SlotBusy.New("source › slot "+name, nil, "another session is still making it")
}

// Prepare makes the publication and then the slot, in this order: pgoutput looks the publication up as it was
// at the time of each change.
func (s *Source) Prepare(ctx context.Context, req *connectorv1.PrepareRequest) (*connectorv1.PrepareResponse, error) {
	conn, err := connect(ctx, s.cfg, "prepare", connectorv1.Role_ROLE_SOURCE)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	name := slotName(req.GetPipeline())
	if err := checkLog(ctx, conn); err != nil {
		return nil, err
	}
	tables, err := logged(ctx, conn, req.GetTables(), req.GetAnew())
	if err != nil {
		return nil, err
	}
	if err := checkIdentity(ctx, conn, tables); err != nil {
		return nil, err
	}
	if req.GetSettle() {
		if err := stillPublished(ctx, conn, name, tables, req.GetAnew()); err != nil {
			return nil, err
		}
	}
	if err := publish(ctx, conn, name, tables); err != nil {
		return nil, err
	}
	state, err := lookAtSlot(ctx, conn, name)
	if err != nil {
		return nil, err
	}
	if state.lost {
		return nil, diag.SlotLost.New("source › slot "+name, nil, "the server has removed log that the slot needs")
	}
	if state.found {
		if err := state.made(name); err != nil {
			return nil, err
		}
		if req.GetSettle() {
			if err := afterRunning(ctx, conn, "source › publication "+name); err != nil {
				return nil, err
			}
		}
		return prepared(name, state.confirmed, true), nil
	}
	if err := fault.Point("slot.before-create"); err != nil {
		return nil, err
	}
	lsn, err := s.createSlot(ctx, conn, name)
	if err := errors.Join(err, fault.Point("slot.after-create")); err != nil {
		return nil, err
	}
	return prepared(name, lsn, false), nil
}

func prepared(name string, lsn uint64, existed bool) *connectorv1.PrepareResponse {
	return &connectorv1.PrepareResponse{Position: position(lsn, lsn), Printable: formatLSN(lsn), Existed: existed,
		Made: []string{"slot " + name, "publication " + name}}
}

func checkLog(ctx context.Context, conn *pgx.Conn) error {
	var level string
	var standby bool
	if err := conn.QueryRow(ctx, `SELECT current_setting('wal_level'), pg_is_in_recovery()`).Scan(&level, &standby); err != nil {
		return mapError(err, "source")
	}
	if standby {
		return diag.Standby.New("source", nil, "pg_is_in_recovery() is true")
	}
	if level != "logical" {
		return diag.WalLevel.New("source", nil, "wal_level is %s", level)
	}
	return nil
}

// createSlot waits for the transactions that run now to end: a slot starts where the log can be understood alone.
func (s *Source) createSlot(ctx context.Context, conn *pgx.Conn, name string) (uint64, error) {
	where := "source › slot " + name
	repl, err := connectReplication(ctx, s.cfg, "prepare", "UTF8")
	if err != nil {
		return 0, walsenderError(err, conn)
	}
	defer repl.Close(context.WithoutCancel(ctx))
	got, err := pglogrepl.CreateReplicationSlot(ctx, repl, name, outputPlugin, pglogrepl.CreateReplicationSlotOptions{
		Mode: pglogrepl.LogicalReplication, SnapshotAction: "NOEXPORT_SNAPSHOT",
	})
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == "42710" { // another session was faster: its slot is as good
		state, err := lookAtSlot(ctx, conn, name)
		if err == nil {
			err = state.made(name)
		}
		return state.confirmed, err
	}
	if err != nil {
		return 0, walsenderError(mapError(err, where), conn)
	}
	return parseLSN(got.ConsistentPoint)
}

// walsenderError names what a refused replication session lacks; the same login is known to work otherwise.
func walsenderError(err error, conn *pgx.Conn) error {
	e := diag.Find(err)
	if e == nil {
		return err
	}
	user := conn.Config().User
	switch e.Code.ID {
	case diag.NoRight.ID, diag.AuthFailed.ID:
		return diag.NoReplication.New("source", e.Cause, "role %s", user).WithFix("ALTER ROLE " + ident(user) + " REPLICATION;")
	case diag.TooMany.ID:
		return diag.NoWalsender.New("source", e.Cause, "")
	}
	return err
}

// Release drops the slot and the publication of a pipeline; rows and everything else stay.
func (s *Source) Release(ctx context.Context, req *connectorv1.ReleaseRequest) (*connectorv1.ReleaseResponse, error) {
	conn, err := connect(ctx, s.cfg, "release", connectorv1.Role_ROLE_SOURCE)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	name := slotName(req.GetPipeline())
	resp := &connectorv1.ReleaseResponse{}
	if err := fault.Point("slot.before-drop"); err != nil {
		return nil, err
	}
	dropped, err := dropSlot(ctx, conn, name)
	if err := errors.Join(err, fault.Point("slot.after-drop")); err != nil {
		return nil, err
	}
	if dropped {
		resp.Removed = append(resp.Removed, "slot "+name)
	}
	var published bool
	where := "source › publication " + name
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_publication WHERE pubname = $1)`, name).Scan(&published); err != nil {
		return nil, mapError(err, where)
	}
	if published {
		if _, err := conn.Exec(ctx, "DROP PUBLICATION IF EXISTS "+ident(name)); err != nil {
			return nil, mapError(err, where)
		}
		resp.Removed = append(resp.Removed, "publication "+name)
	}
	return resp, nil
}

// dropSlot ends the walsender that uses the slot, if any, and drops the slot.
func dropSlot(ctx context.Context, conn *pgx.Conn, name string) (bool, error) {
	where := "source › slot " + name
	for end := time.Now().Add(releaseWait); ; {
		state, err := lookAtSlot(ctx, conn, name)
		if err != nil || !state.found {
			return false, err
		}
		if state.activePID != 0 {
			if _, err := conn.Exec(ctx, `SELECT pg_terminate_backend($1)`, state.activePID); err != nil {
				return false, mapError(err, where)
			}
		} else {
			_, err := conn.Exec(ctx, `SELECT pg_drop_replication_slot($1)`, name)
			var pe *pgconn.PgError
			if err == nil || errors.As(err, &pe) && pe.Code == "42704" {
				return true, nil
			}
			if !errors.As(err, &pe) || pe.Code != "55006" {
				return false, mapError(err, where)
			}
		}
		if time.Now().After(end) {
			return false, diag.SlotBusy.New(where, nil, "its session does not end")
		}
		select {
		case <-ctx.Done():
			return false, mapError(ctx.Err(), where)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
