// Package postgres is Drover's connector for PostgreSQL 15 and newer, as source and as sink.
package postgres

import (
	"context"
	"errors"
	"sync"

	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// Source reads a PostgreSQL database. Its methods are in the files named after the work:
// check.go, discover.go, snapshot.go, stream.go.
type Source struct {
	cfg  Config
	base base
	snap snapshotState
}

var _ sdk.Source = (*Source)(nil)

// NewSource makes a source that is not yet open.
func NewSource() *Source { return &Source{} }

// Describe needs no database and has no effect.
func (s *Source) Describe(context.Context) (*connectorv1.DescribeResponse, error) {
	return describe(), nil
}

// Open tries the database once and remembers it. Repeating it with the same request changes nothing.
func (s *Source) Open(ctx context.Context, req *connectorv1.OpenRequest) (*connectorv1.OpenResponse, error) {
	return s.base.open(ctx, req, connectorv1.Role_ROLE_SOURCE, func(c Config) { s.cfg = c })
}

// Close ends all sessions. It may be called more than once.
func (s *Source) Close() error { return errors.Join(s.base.close(), s.snap.close()) }

// base is what source and sink share: what Open was asked for, nil before it, and what Close has to end.
type base struct {
	mu      sync.Mutex
	request *connectorv1.OpenRequest
	closers []func() error
	closed  bool
}

// onClose registers work for Close; it runs at once when the connector is closed already.
func (b *base) onClose(f func() error) {
	b.mu.Lock()
	closed := b.closed
	if !closed {
		b.closers = append(b.closers, f)
	}
	b.mu.Unlock()
	if closed {
		_ = f()
	}
}
