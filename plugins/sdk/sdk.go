// Package sdk is all that the author of a connector imports.
//
// A connector implements Source, Sink or both. Every method is idempotent, works in batches and
// returns soon after its context ends. The same interfaces are implemented by the client of a
// connector subprocess, so that agents and the conformance kit see no difference.
package sdk

import (
	"context"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// Connector is what both sides share.
type Connector interface {
	// Describe needs no database and has no effect.
	Describe(ctx context.Context) (*connectorv1.DescribeResponse, error)
	// Open connects to the database once; calling it again with the same request changes nothing, and tells which server
	// answers by then.
	Open(ctx context.Context, req *connectorv1.OpenRequest) (*connectorv1.OpenResponse, error)
	// Check returns all problems at once and changes nothing in the database.
	Check(ctx context.Context, req *connectorv1.CheckRequest) (*connectorv1.CheckResponse, error)
	// Sum returns rows and order-independent row sums, computed on the chunk lane's encoding.
	Sum(ctx context.Context, req *connectorv1.SumRequest) (*connectorv1.SumResponse, error)
	// Release removes what Prepare (source) or Recover (sink) made for a pipeline. Rows stay.
	Release(ctx context.Context, req *connectorv1.ReleaseRequest) (*connectorv1.ReleaseResponse, error)
	// Close ends all sessions. It may be called more than once.
	Close() error
}

// Source reads a database.
type Source interface {
	Connector
	// Discover emits the catalog in pages. Table indexes and step ids are unique over all pages.
	Discover(ctx context.Context, req *connectorv1.DiscoverRequest, emit func(*connectorv1.DiscoverResponse) error) error
	// Prepare makes the slot (and what it needs). Durable on return; existing ones are kept. An error that comes from the
	// data or definition of one table names it (diag.About), here and everywhere: then only that table is set aside.
	Prepare(ctx context.Context, req *connectorv1.PrepareRequest) (*connectorv1.PrepareResponse, error)
	// Position tells the end of the log and what a snapshot taken now would include.
	Position(ctx context.Context, req *connectorv1.PositionRequest) (*connectorv1.PositionResponse, error)
	// Split emits the chunks of a table in key order, without scanning it. The union of the ranges is everything.
	Split(ctx context.Context, req *connectorv1.SplitRequest, emit func(*connectorv1.SplitResponse) error) error
	Snapshotter
	// ReadChunks emits chunk_begin, chunk_data…, chunk_end for every chunk, in order. emit takes the frame over.
	ReadChunks(ctx context.Context, req *connectorv1.ReadChunksRequest, emit func(*Frame) error) error
	// Reread reads single keys at or after the floor: one reread frame; when the request names a lane, followed by
	// chunk_data frames and a chunk_end.
	Reread(ctx context.Context, req *connectorv1.RereadRequest, emit func(*Frame) error) error
	// Stream emits rounds from the position on until ctx ends or the log fails. Only acks move the slot.
	// It keeps the source's session alive while emit blocks.
	Stream(ctx context.Context, start *connectorv1.StreamRequest_Start, acks <-chan []byte, emit func(*Frame) error) error
}

// Snapshotter is a side whose tables can be read at one moment by several sessions. Every source is one; a sink may be
// (AbilitySharedSnapshot), so that source and target can be compared while both go on.
type Snapshotter interface {
	// OpenSnapshot calls opened once the shared snapshot exists and holds it until ctx ends.
	OpenSnapshot(ctx context.Context, req *connectorv1.OpenSnapshotRequest, opened func(*connectorv1.OpenSnapshotResponse) error) error
}

// Waiter is a side that can tell what its calls wait for while they do (AbilityBlockers).
type Waiter interface {
	// Blockers names, for people, the sessions that keep this side's own ones from going on, and those that still have
	// open what a snapshot has to see. It changes nothing, and waits for nothing that another call may wait for.
	Blockers(ctx context.Context, req *connectorv1.BlockersRequest) (*connectorv1.BlockersResponse, error)
}

// Sink writes a database.
type Sink interface {
	Connector
	// ApplySchema runs steps whose predecessors are done; a step done before is reported as skipped.
	// A failed step is reported and does not stop the others.
	ApplySchema(ctx context.Context, req *connectorv1.ApplySchemaRequest, report func(*connectorv1.ApplySchemaResponse) error) error
	// Recover raises the fence of the pipeline's stream and tells what the target holds.
	Recover(ctx context.Context, req *connectorv1.RecoverRequest) (*connectorv1.RecoverResponse, error)
	// Reset empties tables and forgets their chunks in one transaction; or it stores which tables are set aside, until they
	// are emptied.
	Reset(ctx context.Context, req *connectorv1.ResetRequest) (*connectorv1.ResetResponse, error)
	// WriteChunks writes all chunks of one write_open frame in one target transaction with their tokens.
	// next returns io.EOF after the last frame. If the target has the chunks already, it answers with the stored results.
	WriteChunks(ctx context.Context, next func() (*Frame, error)) (*connectorv1.WriteChunksResponse, error)
	// Apply applies rounds in order, each with its token in one target transaction; respond is called after commit.
	// After a reread response the next frames that next returns are the answer of Reread.
	Apply(ctx context.Context, next func() (*Frame, error), respond func(*connectorv1.ApplyResponse) error) error
}

// Abilities a connector may advertise in Describe.
const (
	AbilityExactCoverage  = "exact_coverage"
	AbilitySharedSnapshot = "shared_snapshot"
	AbilityTransactional  = "transactional"
	AbilityBlockers       = "blockers"
	// NativePrefix precedes the name of a native encoding.
	NativePrefix = "native:"
)

// Lanes: how chunk payloads are encoded. LaneArrow is understood by every connector.
const (
	LaneArrow        = "arrow"
	LanePGCopyBinary = "pgcopy-binary"
	LanePGCopyText   = "pgcopy-text"
	// LanePGValues is the round lane in which values keep PostgreSQL's own binary or text form.
	LanePGValues = "pg-values"
)

// Columns and operations of a round batch.
const (
	ColOp        = "_op"
	ColTxn       = "_txn"
	ColKey       = "_key"
	ColUnchanged = "_unchanged"
	ColOld       = "_old"

	OpInsert = uint8('I')
	OpUpdate = uint8('U')
	OpDelete = uint8('D')
	// OpReread: the transaction wrote the row with values that are too large to hold; only its key is in the batch.
	OpReread = uint8('R')

	// RoundColumns is how many columns precede the data columns.
	RoundColumns = 5
)

// ChunkID makes the id of chunk n of a table.
func ChunkID(table, n uint32) uint64 { return uint64(table)<<32 | uint64(n) }

// ChunkTable returns the table index of a chunk id.
func ChunkTable(id uint64) uint32 { return uint32(id >> 32) }
