package postgres

import (
	"context"
	"errors"

	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// Sink writes a PostgreSQL database. Its methods are in check.go, schema.go, write.go and apply.go.
type Sink struct {
	cfg  Config
	base base

	tokens   tokens
	held     ownerLock
	writers  writers
	flusher  flusher
	appliers appliers
	sums     readers
}

var _ sdk.Sink = (*Sink)(nil)

// NewSink makes a sink that is not yet open.
func NewSink() *Sink { return &Sink{} }

// Describe needs no database and has no effect.
func (s *Sink) Describe(context.Context) (*connectorv1.DescribeResponse, error) {
	return describe(), nil
}

// Open tries the database once and remembers it. Repeating it with the same request changes nothing.
func (s *Sink) Open(ctx context.Context, req *connectorv1.OpenRequest) (*connectorv1.OpenResponse, error) {
	return s.base.open(ctx, req, connectorv1.Role_ROLE_SINK, func(c Config) { s.cfg = c })
}

// Close ends all sessions. It may be called more than once.
func (s *Sink) Close() error { return errors.Join(s.base.close(), s.sums.close()) }
