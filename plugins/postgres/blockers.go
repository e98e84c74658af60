package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

var (
	_ sdk.Waiter = (*Source)(nil)
	_ sdk.Waiter = (*Sink)(nil)
)

// mostBlockers is how many sessions are named: there may be hundreds of open transactions.
const mostBlockers = 3

// blocker is a session that others wait for. A prepared transaction has no session, and pid 0.
type blocker struct {
	PID                     int32
	User, Application, Kind string
	Seconds                 int64 // its transaction is open for; -1: we may not know
	Standby                 bool  // it has committed, and waits for a synchronous standby
}

// blockersSQL looks at our sessions ($1 begins their names) that have waited for a lock for longer than a moment, and
// at transactions ($2, the lower half of their ids) that a snapshot has to see. Slots are made by sessions of ours,
// too: they wait for the transactions of others as for a lock. Other sessions of ours are no news to anybody.
const blockersSQL = `
	WITH ours AS (SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND starts_with(application_name, $1)),
	held AS (SELECT DISTINCT unnest(pg_blocking_pids(l.pid)) AS pid FROM pg_locks l
	         WHERE NOT l.granted AND l.waitstart < clock_timestamp() - interval '1 s' AND l.pid IN (SELECT pid FROM ours))
	SELECT a.pid, coalesce(a.usename::text, '') AS usr, coalesce(a.application_name, ''),
	       CASE a.backend_type WHEN 'client backend' THEN '' ELSE coalesce(a.backend_type, '') END,
	       coalesce(extract(epoch FROM clock_timestamp() - a.xact_start)::bigint, -1) AS seconds, coalesce(a.wait_event = 'SyncRep', false)
	FROM pg_stat_activity a
	WHERE a.pid NOT IN (SELECT pid FROM ours) AND (a.pid IN (SELECT pid FROM held) OR a.backend_xid::text::bigint = ANY($2))
	UNION ALL
	SELECT 0, '', '', '', -1, false WHERE 0 IN (SELECT pid FROM held)
	ORDER BY seconds DESC, 1`

// Blockers names the sessions that keep ours, or transactions of a floor, from going on. It never waits for a lock.
func (s *Source) Blockers(ctx context.Context, req *connectorv1.BlockersRequest) (*connectorv1.BlockersResponse, error) {
	return blockers(ctx, s.cfg, "source", req)
}

// Blockers names the sessions that keep ours from going on.
func (s *Sink) Blockers(ctx context.Context, req *connectorv1.BlockersRequest) (*connectorv1.BlockersResponse, error) {
	return blockers(ctx, s.cfg, "target", req)
}

func blockers(ctx context.Context, cfg Config, side string, req *connectorv1.BlockersRequest) (*connectorv1.BlockersResponse, error) {
	// A session of its own, and a short one: those that we have may be the ones that wait.
	conn, err := connect(ctx, cfg, "blockers", connectorv1.Role_ROLE_UNSPECIFIED)
	if err != nil {
		return nil, err
	}
	defer hangUp(conn)
	pending := []int64{}
	for _, id := range req.GetPending() {
		pending = append(pending, int64(uint32(id)))
	}
	rows, err := conn.Query(ctx, onVersion(majorOf(conn.PgConn()), blockersSQL), appName(cfg.Pipeline, ""), pending)
	if err != nil {
		return nil, mapError(err, side)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[blocker])
	if err != nil {
		return nil, mapError(err, side)
	}
	resp := &connectorv1.BlockersResponse{}
	for i, b := range found {
		if i == mostBlockers {
			resp.Blockers = append(resp.Blockers, fmt.Sprintf("%d more transactions at the %s to end", len(found)-i, side))
			break
		}
		resp.Blockers = append(resp.Blockers, b.text(side))
	}
	return resp, nil
}

// text names a session by all but what it runs: a statement may hold anything.
func (b blocker) text(side string) string {
	if b.PID == 0 {
		return "a prepared transaction at the " + side + " to end (pg_prepared_xacts names it)"
	}
	var about []string
	add := func(what, s string) {
		if s != "" {
			about = append(about, what+s)
		}
	}
	add("user ", b.User)
	add("application ", b.Application)
	add("", b.Kind)
	if b.Seconds >= 0 {
		add("open for ", fmt.Sprintf("%d s", b.Seconds))
	}
	end := "to end"
	if b.Standby {
		end = "to be confirmed by a synchronous standby"
	}
	who := fmt.Sprintf("the transaction of pid %d at the %s", b.PID, side)
	if len(about) > 0 {
		who += " (" + strings.Join(about, ", ") + ")"
	}
	return who + " " + end
}
