package postgres

import (
	"time"

	"github.com/droverdb/drover/plugins/sdk"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const (
	// A round is as small as latency wants while the stream keeps up, and as large as bulk statements want
	// when it is behind.
	roundBytes   = 4 << 20
	roundRows    = 20_000
	backlogBytes = 6 << 20
	backlogRows  = 48_000
	// pieceBytes bounds what is held of a transaction that is larger than a round.
	pieceBytes = 4 << 20
	// roundAge bounds how long a change waits while an earlier round is under way.
	roundAge = 20 * time.Millisecond
	// behindAge bounds it while the stream is behind and the server pauses.
	behindAge = 250 * time.Millisecond
	// roundLate bounds it when changes never stop.
	roundLate = 100 * time.Millisecond
	// heldBytes is what the tables' buffers may keep between rounds.
	heldBytes = 24 << 20
	// maxRow bounds a row in the stream of a table without a key, old and new values together: every process on its way
	// holds it whole, several times over.
	maxRow = 25 << 20
	// rowBytes is counted for a row besides its values.
	rowBytes = 48
)

// round gathers whole transactions, or a piece of one.
type round struct {
	emit   func(*sdk.Frame) error
	seq    uint64
	piece  uint32
	pos    []byte
	ids    []uint64
	micros []int64
	tables []*streamTable // with rows
	used   map[*streamTable]struct{}
	truncs []*rowv1.Truncate
	rows   int
	bytes  int
	since  time.Time
	// end is the position of the last whole transaction in it, empty while there is none.
	end []byte
	// last is the position of the last round emitted, before that of the one before it.
	last, before []byte
}

// txn adds a transaction to the piece and returns its index.
func (r *round) txn(commit, id uint64, micros int64) uint32 {
	if len(r.ids) == 0 {
		r.since = time.Now()
	}
	r.pos = appendPosition(r.pos, commit, commit)
	r.ids = append(r.ids, id)
	r.micros = append(r.micros, micros)
	return uint32(len(r.ids) - 1)
}

func (r *round) touch(st *streamTable) {
	if !st.queued {
		st.queued = true
		r.tables = append(r.tables, st)
		r.used[st] = struct{}{}
	}
}

func (r *round) empty() bool { return len(r.ids) == 0 && r.piece == 0 }

// full reports whether a round of whole transactions is large enough.
func (r *round) full(behind bool) bool {
	if behind {
		return r.bytes >= backlogBytes || r.rows >= backlogRows
	}
	return r.bytes >= roundBytes || r.rows >= roundRows
}

// flush emits what is gathered. open: more of the last transaction follows.
func (r *round) flush(open bool) error {
	if r.empty() && !open {
		return nil
	}
	pos := r.end
	if open {
		pos = r.pos[len(r.pos)-positionSize:]
	}
	if err := r.head(); err != nil {
		return err
	}
	if err := r.batches(); err != nil {
		return err
	}
	end := &rowv1.RoundEnd{Seq: r.seq, Open: open, Position: append([]byte(nil), pos...)}
	if err := r.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundEnd{RoundEnd: end}}, nil); err != nil {
		return err
	}
	r.pos, r.ids, r.micros, r.truncs = nil, nil, nil, nil
	r.rows, r.bytes = 0, 0
	if open {
		r.piece++
	} else {
		r.before, r.last, r.end = r.last, end.Position, r.end[:0]
		r.seq, r.piece = r.seq+1, 0
	}
	r.shrink()
	return nil
}

// head announces layouts the receiver does not know yet, then the round.
func (r *round) head() error {
	for _, st := range r.tables {
		if st.told {
			continue
		}
		h := &rowv1.TableSchema{Table: st.t.GetIndex(), Version: schemaVersion, Columns: st.t.GetColumns()}
		if err := r.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_TableSchema{TableSchema: h}}, st.enc.SchemaMessage()); err != nil {
			return err
		}
		st.told = true
	}
	b := &rowv1.RoundBegin{Seq: r.seq, Piece: r.piece, Positions: r.pos, TxnIds: r.ids, CommitMicros: r.micros, Truncates: r.truncs}
	return r.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundBegin{RoundBegin: b}}, nil)
}

func (r *round) batches() error {
	for _, st := range r.tables {
		h := &rowv1.RoundBatch{Seq: r.seq, Table: st.t.GetIndex(), SchemaVersion: schemaVersion, Rows: uint32(st.rows)}
		payload, err := st.batch()
		if err != nil {
			return mapError(err, streamWhere(st.t))
		}
		if err := r.emit(sdk.NewPooledFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_RoundBatch{RoundBatch: h}}, payload)); err != nil {
			return err
		}
	}
	r.tables = r.tables[:0]
	return nil
}

func (r *round) send(h *rowv1.FrameHeader, payload []byte) error {
	return r.emit(sdk.NewFrame(h, payload))
}

// shrink gives buffers back when many tables have had large rounds.
func (r *round) shrink() {
	total := 0
	for st := range r.used {
		total += st.held()
	}
	if total < heldBytes {
		return
	}
	for st := range r.used {
		st.forget()
	}
	clear(r.used)
}
