package postgres

import (
	"context"
	"errors"
	"runtime/debug"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// Dialect names the engine in schema steps and in Describe.
const Dialect = "postgres"

// configSchema describes Open.options; everything else about a connection is in its URL.
const configSchema = `{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","additionalProperties":false,` +
	`"properties":{"lane":{"type":"string","enum":["native","arrow"],"default":"native",` +
	`"description":"encoding of row payloads: PostgreSQL's own, or Arrow"},` +
	`"heartbeat":{"type":"string","default":"10s",` +
	`"description":"how often a message in the log keeps the slot of a quiet database moving, such as 10s or 1m"}}}`

func describe() *connectorv1.DescribeResponse {
	version := "devel"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = info.Main.Version
	}
	return &connectorv1.DescribeResponse{
		Name: "postgres", Version: version, Dialect: Dialect,
		Roles: []connectorv1.Role{connectorv1.Role_ROLE_SOURCE, connectorv1.Role_ROLE_SINK},
		Abilities: []string{
			sdk.AbilityExactCoverage, sdk.AbilitySharedSnapshot, sdk.AbilityTransactional, sdk.AbilityBlockers, "truncate",
			sdk.NativePrefix + sdk.LanePGCopyBinary, sdk.NativePrefix + sdk.LanePGCopyText, sdk.NativePrefix + sdk.LanePGValues,
		},
		ConfigSchema: configSchema, PositionFormat: positionFormat,
	}
}

func configOf(req *connectorv1.OpenRequest) Config {
	c := Config{URL: req.Url, Password: req.Password, Pipeline: req.Pipeline, Owner: req.Owner, Options: req.Options, Budget: req.MemoryBudget}
	if c.Budget <= 0 {
		c.Budget = defaultBudget
	}
	return c
}

// open connects once; a repeated request asks the server again who it is, another one is an error.
func (b *base) open(ctx context.Context, req *connectorv1.OpenRequest, role connectorv1.Role, set func(Config)) (*connectorv1.OpenResponse, error) {
	b.mu.Lock()
	if b.request != nil {
		same := proto.Equal(req, b.request)
		b.mu.Unlock()
		if !same {
			return nil, diag.Internal.New("connector", nil, "opened twice with different requests")
		}
		return look(ctx, configOf(req), role)
	}
	defer b.mu.Unlock()
	if req.Role != connectorv1.Role_ROLE_UNSPECIFIED && req.Role != role {
		return nil, diag.Internal.New("connector", nil, "opened with role %s", req.Role)
	}
	cfg := configOf(req)
	resp, err := look(ctx, cfg, role)
	if err != nil {
		return nil, err
	}
	b.request, b.closed = proto.CloneOf(req), false
	set(cfg)
	return resp, nil
}

// look asks the server who it is. The system identifier survives restarts and failovers, not a new initdb; physical
// copies share it, and are told apart by when they were started.
func look(ctx context.Context, cfg Config, role connectorv1.Role) (*connectorv1.OpenResponse, error) {
	conn, err := connect(ctx, cfg, "open", connectorv1.Role_ROLE_UNSPECIFIED)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var version, identity, instance, sorting string
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version'),
		(SELECT system_identifier::text FROM pg_control_system()) || '/' ||
		(SELECT oid::text FROM pg_database WHERE datname = current_database()),
		CASE WHEN pg_is_in_recovery() THEN '' ELSE extract(epoch FROM pg_postmaster_start_time())::text END, (`+sortingSQL+`)`).Scan(&version, &identity, &instance, &sorting)
	cc := conn.Config()
	if err != nil {
		return nil, mapError(err, place(&cc.Config))
	}
	return &connectorv1.OpenResponse{ServerVersion: version, Display: place(&cc.Config), Identity: identity, Instance: instance, Sorting: sorting,
		Encoding: conn.PgConn().ParameterStatus("server_encoding"), Undo: undo(role, cfg.Pipeline)}, nil
}

// undo is the SQL that removes by hand what Release removes.
func undo(role connectorv1.Role, pipeline string) (sql []string) {
	if role == connectorv1.Role_ROLE_SOURCE {
		name := slotName(pipeline)
		return []string{"SELECT pg_drop_replication_slot(" + literal(name) + ");", "DROP PUBLICATION " + ident(name) + ";"}
	}
	for _, t := range tokenTables {
		sql = append(sql, "DELETE FROM drover."+t.name+" WHERE "+t.pipeline+" = "+literal(pipeline)+";")
	}
	return append(sql, "DROP SCHEMA drover CASCADE;  -- if no other pipeline writes there")
}

func (b *base) close() error {
	b.mu.Lock()
	closers := b.closers
	b.closers, b.closed, b.request = nil, true, nil
	b.mu.Unlock()
	var errs []error
	for _, f := range closers {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}
