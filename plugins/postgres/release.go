package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/internal/fault"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// Release forgets the pipeline at the target, and the schema drover with the last one. Rows stay.
func (s *Sink) Release(ctx context.Context, req *connectorv1.ReleaseRequest) (*connectorv1.ReleaseResponse, error) {
	conn, err := connect(ctx, s.cfg, "release", connectorv1.Role_ROLE_SINK)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	resp := &connectorv1.ReleaseResponse{}
	if found, err := bookkeepingFound(ctx, conn); err != nil || !found {
		return resp, mapError(err, "target › schema drover")
	}
	if err := s.ensureBookkeeping(ctx, conn); err != nil {
		return nil, err
	}
	s.tokens.forget()
	if err := fault.Point("tokens.before-drop"); err != nil {
		return nil, err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		found, _, err := ownerOf(ctx, tx, req.Pipeline)
		if err == nil && found {
			err = s.stillOurs(ctx, tx, req.Pipeline) // whoever took it over needs its tokens
		}
		if err != nil {
			return err
		}
		return release(ctx, tx, req.Pipeline, resp)
	})
	if err == nil {
		err = s.held.close()
	}
	return resp, errors.Join(mapError(err, "target › schema drover"), fault.Point("tokens.after-drop"))
}

// tokenTables are what the target keeps of pipelines, and the column that names one; the pipeline itself comes last.
var tokenTables = []struct{ name, pipeline string }{{"stream", "pipeline"}, {"chunk", "pipeline"}, {"step", "pipeline"},
	{"key_coverage", "pipeline"}, {"aside", "pipeline"}, {"pipeline", "name"}}

func release(ctx context.Context, tx pgx.Tx, pipeline string, resp *connectorv1.ReleaseResponse) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(bookkeepingLock)); err != nil {
		return err
	}
	known := false
	for _, t := range tokenTables {
		tag, err := tx.Exec(ctx, "DELETE FROM drover."+t.name+" WHERE "+t.pipeline+" = $1", pipeline)
		if err != nil {
			return err
		}
		known = tag.RowsAffected() > 0 // of the last one, the pipeline itself
	}
	if known {
		resp.Removed = append(resp.Removed, "tokens of pipeline "+pipeline)
	}
	var left bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM drover.pipeline)").Scan(&left); err != nil || left {
		return err
	}
	return dropOwn(ctx, tx, resp)
}
