package postgres

import (
	"context"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/fault"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/apply"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Renew has rows of any size sent again, and writes them by COPY in the transaction of the round as they come.
func (s *applySession) Renew(ctx context.Context, e *apply.Effect) (*rowv1.Coverage, error) {
	return s.renew(ctx, e)
}

func (a *applier) renew(ctx context.Context, e *apply.Effect) (*rowv1.Coverage, error) {
	t, err := a.ses.table(e)
	if err != nil {
		return nil, err
	}
	if err := a.ses.sync(); err != nil {
		return nil, err
	}
	a.ses.stop()
	defer a.ses.start(ctx)
	if err := fault.Point("renew.before-rows"); err != nil {
		return nil, err
	}
	lane := t.rowLane()
	answer, err := a.question(ctx, e, e.Renews, lane)
	if err != nil {
		return nil, err
	}
	in, err := beginCopy(ctx, a.ses.pg, t.renewSQL(lane), nil)
	if err == nil {
		if err = a.copyPieces(ctx, t, in, lane == sdk.LanePGCopyBinary); err != nil {
			kind := sentChange
			if e.Safe {
				kind = sentSafe
			}
			err = &sentError{kind: kind, at: atTable(e.Table), err: err}
		}
	}
	if err != nil {
		return nil, err
	}
	if err := fault.Point("renew.after-rows"); err != nil {
		return nil, err
	}
	// What names the keys is used again after this effect: the coverage is stored last.
	return answer.header.Coverage, a.keep(e, slices.Clone(e.Renews), answer.header.Coverage)
}

// rowLane is the encoding in which this table takes rows as the source has them: COPY does not cast, but text becomes
// whatever the target's column is.
func (t *applyTable) rowLane() string {
	if t.copyable() {
		return sdk.LanePGCopyBinary
	}
	return sdk.LanePGCopyText
}

func (t *applyTable) renewSQL(lane string) string {
	if lane == sdk.LanePGCopyBinary {
		return t.copySQL()
	}
	return t.copyTextSQL()
}

// copyPieces passes the pieces of the answer on to COPY. The rest of an answer that the server refuses is read, so that
// the frame after it is the next one.
func (a *applier) copyPieces(ctx context.Context, t *applyTable, in *copyIn, binary bool) error {
	var digest xxh3.Hasher
	var failed error
	if binary {
		failed = in.writeBytes(copyHeader)
	}
	for {
		f, err := amid(ctx, a, a.pieces)
		if err != nil {
			return in.abort(err)
		}
		if end := f.Header.GetChunkEnd(); end != nil {
			f.Free()
			if failed != nil {
				return in.abort(failed)
			}
			return a.endCopy(t, in, binary, end.GetResult(), digest.Sum64())
		}
		for _, b := range f.Payload {
			_, _ = digest.Write(b.ReadOnlyData())
		}
		if failed == nil {
			failed = in.write(f.Payload)
		}
		f.Free()
	}
}

func (a *applier) endCopy(t *applyTable, in *copyIn, binary bool, want *rowv1.ChunkResult, digest uint64) error {
	if want.GetDigest() != digest {
		return in.abort(diag.CountDiffers.New(tableWhere(t.table), nil, "a row that was read again did not arrive as it was sent"))
	}
	if binary {
		if err := in.writeBytes(copyTrailer); err != nil {
			return in.abort(err)
		}
	}
	rows, err := in.finish()
	if err == nil && rows != want.GetRows() {
		err = diag.CountDiffers.New(tableWhere(t.table), nil, "%d rows were read again, %d were written", want.GetRows(), rows)
	}
	return err
}
