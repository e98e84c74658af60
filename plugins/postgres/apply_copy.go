package postgres

import (
	"context"
	"encoding/binary"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk/apply"
)

const (
	// copyRows is where COPY begins to cost the target less than an INSERT from arrays: beyond it, it takes half.
	copyRows = 2000
	// copyAtOnce are gathered before the server gets them.
	copyAtOnce = 256 << 10
)

// copyable reports whether the rows' values are those of COPY's binary form: COPY does not cast.
func (t *applyTable) copyable() bool {
	for i := range t.columns {
		if t.columns[i].cast || t.columns[i].encoding == encodeText {
			return false
		}
	}
	return len(t.columns) > 0
}

// copyInserts adds the effect's rows by COPY in the transaction of the round. COPY cannot be part of a pipeline: what was
// queued before it runs first, so a failure of that is returned here.
func (s *applySession) copyInserts(ctx context.Context, t *applyTable, e *apply.Effect, kind sentKind) error {
	if err := s.sync(); err != nil {
		return err
	}
	s.stop()
	defer s.start(ctx)
	in, err := beginCopy(ctx, s.pg, t.statement("copy", t.copySQL), nil)
	if err == nil {
		if err = s.writeTuples(in, t, e); err != nil {
			err = in.abort(err)
		} else {
			_, err = in.finish()
		}
	}
	if err != nil {
		return &sentError{kind: kind, at: atTable(e.Table), err: err}
	}
	return nil
}

// writeTuples sends the rows in the form of COPY BINARY.
func (s *applySession) writeTuples(in *copyIn, t *applyTable, e *apply.Effect) error {
	b := append(s.buffer(0), copyHeader...)
	for _, img := range e.Inserts {
		b = binary.BigEndian.AppendUint16(b, uint16(len(t.columns)))
		ref, simple := e.Simple(img)
		for col := range t.columns {
			batch, row := e.Batches[ref.Batch], int(ref.Row)
			if !simple {
				var ok bool
				if batch, row, ok = e.At(img, col); !ok {
					return diag.Internal.New(tableWhere(e.Table), nil, "column %s of an image is missing", ident(t.columns[col].name))
				}
			}
			var err error
			if b, err = t.columns[col].append(b, batch.Column(col), row); err != nil {
				return err
			}
		}
		if len(b) >= copyAtOnce {
			if err := in.writeBytes(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	s.bufs[0] = b
	return in.writeBytes(binary.BigEndian.AppendUint16(b, 0xffff)) // the trailer
}
