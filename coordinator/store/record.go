package store

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// State is what a pipeline is and wants, without its tables.
type State struct {
	Desired controlv1.Desired
	Phase   controlv1.Phase
	// Epoch is the highest ever minted for the pipeline.
	Epoch uint64
	// Start is where the slot started: durable before the first chunk is granted.
	Start   []byte   `json:",omitempty"`
	Running *Running `json:",omitempty"`
	// Reader and Writer are the agents of the newest attempt that began: the next one prefers them.
	Reader  string `json:",omitempty"`
	Writer  string `json:",omitempty"`
	Created int64
	Phases  []PhaseTime
	// Discovered, Schema …: what does not have to be done again.
	Discovered bool
	// Remembered: the target keeps the memo. Emptied: its tables
	// were emptied, if the spec asks for that, and never are again.
	Remembered bool `json:",omitempty"`
	Emptied    bool `json:",omitempty"`
	Loaded     bool
	// Late: steps before the load were refused that no row needs; they are tried again after it.
	Late      bool `json:",omitempty"`
	Finished  bool
	Verified  bool
	StepsDone int
	// Failure is a proto message: what a person has to see to.
	Failure []byte `json:",omitempty"`
	Source  string
	Target  string
	TraceID string
	// Owner is under whom everything is written at the target. Anew: a single command asks, which begins again where it lost
	// its databases, or the pipeline to another coordinator.
	Owner string `json:",omitempty"`
	Anew  bool   `json:",omitempty"`
	// Made is what the source has for the pipeline; Left, what former beginnings have left at other sources.
	Made []string `json:",omitempty"`
	Left []string `json:",omitempty"`
	// Undo is, by side, the SQL that removes by hand what the pipeline has made there.
	Undo map[string][]string `json:",omitempty"`
	// PositionFormat is how the source's connector wants its positions printed.
	PositionFormat string `json:",omitempty"`
	// SourceID and TargetID tell the databases apart from any other. Their instances tell the servers that the attempt
	// under way has found there apart from physical copies: starting one again makes it another.
	SourceID       string `json:",omitempty"`
	TargetID       string `json:",omitempty"`
	SourceInstance string `json:",omitempty"`
	TargetInstance string `json:",omitempty"`
}

// Running is the attempt under way: its agents and the task of its stream, 0 without one. A new leader that finds them
// at work takes over instead of starting again.
type Running struct {
	Reader, Writer string
	Stream         uint64 `json:",omitempty"`
}

// PhaseTime is when a phase began and ended, in microseconds.
type PhaseTime struct {
	Phase      controlv1.Phase
	Start, End int64
}

// Table is the progress of one table.
type Table struct {
	Index uint32
	// Split: all chunks are known. Loaded: all are written. Passed: the load's overlap has passed, chunks are forgotten.
	Split, Loaded, Passed bool
	Chunks                int
	// Rows, Bytes and Sum are totals of the chunks once they are forgotten.
	Rows, Bytes int64
	Sum         []byte `json:",omitempty"`
	// Unit tables: their one floor and coverage.
	Floor, Coverage []byte `json:",omitempty"`
	Compared        string `json:",omitempty"`
	// ComparedAt is when, in microseconds.
	ComparedAt int64 `json:",omitempty"`
	// Failure is why the table has failed, Aside that the target keeps that too. Again: it is to be loaded again. Clear: all
	// that the stream had passed when it was set aside is visible by now, so that it can be.
	Failure []byte `json:",omitempty"`
	Aside   bool   `json:",omitempty"`
	Again   bool   `json:",omitempty"`
	Clear   bool   `json:",omitempty"`
}

// Chunk is one entry of the ledger; the messages are kept in wire form.
type Chunk struct {
	Epoch    uint64
	Attempts int
	// Agent reads it, Writer writes it.
	Agent  string `json:",omitempty"`
	Writer string `json:",omitempty"`
	// Granted: an attempt may have begun, Floor is held for it. Written: Result is what the target stored.
	Granted, Written     bool
	Chunk, Floor, Result []byte `json:",omitempty"`
}

// PutSpec saves a spec.
func PutSpec(s *controlv1.Spec) Change { return Change{key: specKey(s.Name), value: marshal(s)} }

// PutState saves the state of a pipeline.
func PutState(p string, s State) Change { return Change{key: stateKey(p), value: encode(s)} }

// PutTable saves the progress of a table.
func PutTable(p string, t Table) Change { return Change{key: tableKey(p, t.Index), value: encode(t)} }

// PutChunk saves a ledger entry.
func PutChunk(p string, id uint64, c Chunk) Change {
	return Change{key: chunkKey(p, id), value: encode(c)}
}

// DropChunk forgets a ledger entry.
func DropChunk(p string, id uint64) Change { return Change{key: chunkKey(p, id)} }

// DropCatalog forgets everything that follows from the catalog, so that the pipeline starts over.
func DropCatalog(p string) []Change {
	return []Change{{key: catalogPrefix(p), wide: true}, {key: tablePrefix(p), wide: true}, {key: chunkPrefix(p), wide: true}}
}

// DropPipeline forgets a pipeline.
func DropPipeline(p string) []Change {
	return append(DropCatalog(p), Change{key: stateKey(p)}, Change{key: specKey(p)})
}

// PutCatalog saves the catalog in parts.
func PutCatalog(p string, d *connectorv1.DiscoverResponse) []Change {
	b := marshal(d)
	out := []Change{{key: catalogPrefix(p), wide: true}}
	for n := 0; len(b) > 0; n++ {
		part := b[:min(partBytes, len(b))]
		b = b[len(part):]
		out = append(out, Change{key: catalogKey(p, n), value: part})
	}
	return out
}

// Specs reads every spec.
func (s *Store) Specs(ctx context.Context) (map[string]*controlv1.Spec, error) {
	out := map[string]*controlv1.Spec{}
	err := s.pages(ctx, specs, func(k string, v []byte) error {
		m := &controlv1.Spec{}
		if err := proto.Unmarshal(v, m); err != nil {
			return diag.StateUnusable.New(k, err, "a spec cannot be read")
		}
		out[pipelineOf(k)] = m
		return nil
	})
	return out, err
}

// State reads the state of a pipeline; ok is false when there is none.
func (s *Store) State(ctx context.Context, p string) (st State, ok bool, err error) {
	b, err := s.get(ctx, stateKey(p))
	if err != nil || b == nil {
		return st, false, err
	}
	return st, true, decode(stateKey(p), b, &st)
}

// Catalog reads what was discovered; nil when nothing was.
func (s *Store) Catalog(ctx context.Context, p string) (*connectorv1.DiscoverResponse, error) {
	var all []byte
	if err := s.pages(ctx, catalogPrefix(p), func(_ string, v []byte) error { all = append(all, v...); return nil }); err != nil {
		return nil, err
	}
	if all == nil {
		return nil, nil
	}
	m := &connectorv1.DiscoverResponse{}
	if err := proto.Unmarshal(all, m); err != nil {
		return nil, diag.StateUnusable.New(catalogPrefix(p), err, "the catalog cannot be read")
	}
	return m, nil
}

// Tables reads the progress of all tables.
func (s *Store) Tables(ctx context.Context, p string) ([]Table, error) {
	var out []Table
	err := s.pages(ctx, tablePrefix(p), func(k string, v []byte) error {
		var t Table
		err := decode(k, v, &t)
		out = append(out, t)
		return err
	})
	return out, err
}

// Chunks reads the ledger.
func (s *Store) Chunks(ctx context.Context, p string) ([]Chunk, error) {
	var out []Chunk
	err := s.pages(ctx, chunkPrefix(p), func(k string, v []byte) error {
		var c Chunk
		err := decode(k, v, &c)
		out = append(out, c)
		return err
	})
	return out, err
}

func marshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("store: " + err.Error()) // only messages of our own with valid UTF-8 come here
	}
	if b == nil {
		b = []byte{}
	}
	return b
}

// Floor and Coverage and the like travel in and out of records in wire form; nil stays nil.

// Wire encodes a message.
func Wire[M proto.Message](m M) []byte {
	if any(m) == any(*new(M)) {
		return nil
	}
	return marshal(m)
}

// ReadFloor decodes a floor.
func ReadFloor(b []byte) *rowv1.Floor { return read(b, &rowv1.Floor{}) }

// ReadCoverage decodes a coverage.
func ReadCoverage(b []byte) *rowv1.Coverage { return read(b, &rowv1.Coverage{}) }

// ReadChunk decodes a chunk.
func ReadChunk(b []byte) *rowv1.Chunk { return read(b, &rowv1.Chunk{}) }

// ReadTable decodes a table.
func ReadTable(b []byte) *rowv1.Table { return read(b, &rowv1.Table{}) }

// ReadResult decodes a chunk's result.
func ReadResult(b []byte) *rowv1.ChunkResult { return read(b, &rowv1.ChunkResult{}) }

func read[M proto.Message](b []byte, m M) M {
	if b == nil || proto.Unmarshal(b, m) != nil {
		var none M
		return none
	}
	return m
}
