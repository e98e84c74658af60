package engine

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

const (
	memoVersion = 1
	mostMemo    = 1 << 30
)

// memo is what the target keeps beside positions and chunks, so that the pipeline goes on when etcd is lost.
func (p *Pipeline) memo() ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, diag.Internal.New("memo", err, "")
	}
	if _, err := w.Write(store.Wire(&controlv1.Memo{Version: memoVersion, Spec: p.spec, SourceIdentity: p.state.SourceID, Catalog: p.catalog.wire()})); err != nil {
		return nil, diag.Internal.New("memo", err, "")
	}
	if err := w.Close(); err != nil {
		return nil, diag.Internal.New("memo", err, "")
	}
	return b.Bytes(), nil
}

// readMemo decodes a memo; nil when there is none.
func readMemo(b []byte) (*controlv1.Memo, error) {
	if len(b) == 0 {
		return nil, nil
	}
	bad := func(err error) error {
		return diag.StateUnusable.New("target › drover.pipeline", err, "what is kept there of the pipeline cannot be read").
			WithFix("Use the version of Drover that began this pipeline, or a newer one.")
	}
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, bad(err)
	}
	raw, err := io.ReadAll(io.LimitReader(r, mostMemo))
	if err != nil {
		return nil, bad(err)
	}
	m := &controlv1.Memo{}
	if err := proto.Unmarshal(raw, m); err != nil || m.Version != memoVersion || m.Catalog == nil {
		return nil, bad(err)
	}
	return m, nil
}

// resume takes over a pipeline that the target knows although etcd does not: tables and their order from the memo,
// chunks and positions from the tokens (Invariant 16). What is written is not read again.
func (p *Pipeline) resume(ctx context.Context, known *connectorv1.RecoverResponse, m *controlv1.Memo) (err error) {
	if err := p.belongs(m); err != nil {
		return err
	}
	if p.catalog, err = newCatalog(m.Catalog); err != nil {
		return err
	}
	p.found = nil
	if err := p.check(ctx, connectorv1.Role_ROLE_SOURCE, true); err != nil {
		return err
	}
	if err := p.check(ctx, connectorv1.Role_ROLE_SINK, true); err != nil {
		return err
	}
	p.found = nil // the memo's catalog has them
	if err := p.makeTables(nil); err != nil {
		return err
	}
	if err := p.mint(ctx, max(known.MaxEpoch, known.Epoch)); err != nil {
		return err
	}
	// Behind the fence the list of written chunks is complete: the floors of all others may be forgotten (Invariant 3).
	r, err := p.fence(ctx, &connectorv1.RecoverRequest{Chunks: true, Take: true})
	if err != nil {
		return err
	}
	p.state.Start, p.state.Remembered, p.state.Emptied = r.Position, true, len(r.Chunks) > 0
	if err := p.restore(r); err != nil {
		return err
	}
	p.state.Discovered = true
	loaded := 0
	for _, t := range p.tables {
		if t.Loaded {
			loaded++
		}
	}
	p.note("info", fmt.Sprintf("going on from the tokens at the target: %d of %d tables are loaded, %d chunks are written", loaded, len(p.tables), len(r.Written)))
	return p.save(ctx, p.everything()...)
}

// belongs refuses a spec that asks for something else than what the target was made from.
func (p *Pipeline) belongs(m *controlv1.Memo) error {
	where := "target › pipeline " + p.name
	switch {
	case !p.follow():
		return diag.SpecInvalid.New(where, nil, "this target follows its source; a single load would empty it").
			WithFix("drover copy SRC DST --follow, or mode: full-load-and-cdc in the file, goes on with it; `drover delete` then ends it.")
	case !slices.Equal(m.Spec.GetInclude(), p.spec.Include) || !slices.Equal(m.Spec.GetExclude(), p.spec.Exclude):
		return diag.SpecInvalid.New(where, nil, "it was begun with other tables").
			WithFix("Name the same tables as when it was begun, or use another name and an empty target.")
	case m.SourceIdentity != p.state.SourceID:
		return diag.PositionForeign.New(where, nil, "it was begun from database %s, the source is %s", m.SourceIdentity, p.state.SourceID)
	}
	return nil
}

// restore makes the ledger from the target's chunks. The plan of a table is stored as a whole before any chunk of it is
// granted, and a table that needs no plan is one chunk: so a table that has any chunk has all of them.
func (p *Pipeline) restore(r *connectorv1.RecoverResponse) error {
	aside := p.hearAside(r.Aside) // chunks of them mean nothing
	for _, c := range r.Chunks {
		if aside[c.Table] {
			continue
		}
		if int(c.Table) >= len(p.tables) {
			return p.ledgerBroken("chunk %x is of no table", c.Id)
		}
		p.tables[c.Table].keep(&chunk{row: c, Chunk: store.Chunk{Chunk: store.Wire(c)}})
	}
	for _, w := range r.Written {
		if aside[plan.TableOf(w.Chunk)] {
			continue
		}
		c := p.chunk(w.Chunk)
		if c == nil {
			return p.ledgerBroken("chunk %x is written, but unknown", w.Chunk)
		}
		c.Granted, c.Written, c.result, c.Result = true, true, w, store.Wire(w)
	}
	for _, t := range p.tables {
		if len(t.chunks) == 0 {
			continue
		}
		t.Split, t.Chunks = true, len(t.chunks)
		last := t.chunks[plan.ChunkID(t.Index, uint32(t.Chunks-1))]
		if last == nil {
			return p.ledgerBroken("chunks of table %s are missing", t.name())
		}
		if t.Loaded = t.complete(); t.Loaded && plan.Unit(t.row) {
			t.Coverage = store.Wire(last.result.GetCoverage())
		}
	}
	return nil
}

func (p *Pipeline) ledgerBroken(format string, args ...any) error {
	return diag.StateUnusable.New("target › drover.chunk", nil, format, args...).
		WithFix("DROP SCHEMA drover CASCADE at the target, empty its tables, drop the slot at the source, and copy again.")
}
