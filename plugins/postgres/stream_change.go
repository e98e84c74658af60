package postgres

import (
	"bytes"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// change handles one message of pgoutput, protocol 1.
func (st *streamer) change(w wire) error {
	var err error
	switch kind := w.u8(); kind {
	case 'I':
		err = st.insert(&w)
	case 'U':
		err = st.update(&w)
	case 'D':
		err = st.remove(&w)
	case 'B':
		st.begin(&w)
	case 'C':
		err = st.end(&w)
	case 'R':
		err = st.relation(&w)
	case 'T':
		err = st.truncate(&w)
	case 'Y', 'O': // names of types; the origin of a transaction that was itself replicated
	case 'M': // a message of pg_logical_emit_message: not ours to carry
	default:
		return diag.StreamBroken.New(st.where, nil, "change of kind %q", kind)
	}
	if err == nil && w.bad {
		return st.broken("a change cut short")
	}
	return err
}

func (st *streamer) begin(w *wire) {
	st.commit, st.micros = w.u64(), int64(w.u64())+pgEpochMicros
	st.id = st.widen(w.u32())
	st.inTxn, st.indexed, st.txnSize = true, false, 0
	// Commit records do not overlap: one that begins before the end of the last applied one is that or older.
	st.skip = st.commit < st.from
}

// widen finds the full id nearest to the newest one known.
func (st *streamer) widen(low uint32) uint64 {
	id := st.xid&^xidMask | uint64(low)
	switch {
	case id > st.xid+1<<31 && id > xidMask:
		id -= 1 << 32
	case id+1<<31 < st.xid:
		id += 1 << 32
	}
	st.xid = max(st.xid, id)
	return id
}

func (st *streamer) end(w *wire) error {
	w.u8()
	commit, end := w.u64(), w.u64()
	if w.bad || !st.inTxn || commit != st.commit {
		return st.broken("a commit without its begin")
	}
	st.inTxn = false
	if st.skip {
		return nil
	}
	if end > st.seen {
		st.seen, st.seenAt = end, st.micros
	}
	r := st.round
	if !st.indexed && r.piece == 0 {
		return nil // it changed nothing of ours
	}
	st.reported = end
	if !st.indexed {
		st.enter()
	}
	r.end = appendPosition(r.end[:0], commit, end)
	if r.full(st.behind) || r.piece > 0 || len(r.truncs) > 0 {
		return r.flush(false)
	}
	return nil
}

// enter gives the transaction an entry in the current piece.
func (st *streamer) enter() uint32 {
	if !st.indexed {
		st.index = st.round.txn(st.commit, st.id, st.micros)
		st.indexed = true
	}
	return st.index
}

// cut emits what is gathered as a piece of the transaction under way.
func (st *streamer) cut() error {
	r := st.round
	if !st.indexed {
		// Only whole transactions are gathered: they are a round of their own.
		if r.piece > 0 {
			return nil
		}
		return r.flush(false)
	}
	if err := r.flush(true); err != nil {
		return err
	}
	st.indexed, st.txnSize = false, 0
	return nil
}

// find returns the relation of a change, nil if the change is not wanted.
func (st *streamer) find(w *wire) (*walRelation, error) {
	oid := w.u32()
	if w.bad || st.skip {
		return nil, nil
	}
	rel := st.rels[oid]
	if rel == nil || !st.inTxn {
		return nil, st.broken("a change of an unannounced table")
	}
	if rel.stray != nil || rel.table == nil {
		return nil, rel.stray
	}
	if rel.table.aside {
		st.mention()
		return nil, nil
	}
	if rel.lazy != nil {
		if err := st.bind(rel, nil, rel.lazy); err != nil {
			return nil, err
		}
	}
	return rel, nil
}

// mention makes the transaction part of the round although nothing of it is sent: a table that is set aside will be read
// again, and that read must see it (Invariant 22).
func (st *streamer) mention() {
	if !st.indexed {
		st.enter()
		st.round.bytes += rowBytes
	}
}

// space makes room for a row of size bytes: pieces bound memory, and an Arrow column cannot exceed 2 GiB.
func (st *streamer) space(rel *walRelation, size int) (uint32, error) {
	if size > maxRow {
		return 0, rowTooLarge(rel, size)
	}
	r := st.round
	if len(r.truncs) > 0 || st.txnSize >= pieceBytes || r.bytes >= backlogBytes || r.bytes > 0 && r.bytes+size > maxWalMessage {
		if err := st.cut(); err != nil {
			return 0, err
		}
	}
	size += rowBytes
	st.txnSize += size
	r.bytes += size
	r.touch(rel.table)
	r.rows++
	return st.enter(), nil
}

func (st *streamer) insert(w *wire) error {
	rel, err := st.find(w)
	if rel == nil || err != nil {
		return err
	}
	if w.u8() != 'N' {
		w.bad = true
		return nil
	}
	vals := st.vals[:len(rel.place)]
	size, err := st.tuple(w, rel, vals)
	if w.bad || err != nil {
		return err
	}
	txn, err := st.space(rel, size)
	if err != nil {
		return err
	}
	return rel.table.add(sdk.OpInsert, txn, vals, vals, false, -1)
}

func (st *streamer) remove(w *wire) error {
	rel, err := st.find(w)
	if rel == nil || err != nil {
		return err
	}
	kind := w.u8()
	vals := st.before[:len(rel.place)]
	size, err := st.tuple(w, rel, vals)
	if w.bad = w.bad || kind != 'K' && kind != 'O'; w.bad || err != nil {
		return err
	}
	whole := fullRow(rel)
	if whole && kind != 'O' {
		return noFullRow(rel)
	}
	txn, err := st.space(rel, size)
	if err != nil {
		return err
	}
	return rel.table.add(sdk.OpDelete, txn, vals, vals, !whole, -1)
}

func fullRow(rel *walRelation) bool {
	return rel.table.t.GetGate() == rowv1.GateMode_GATE_MODE_UNIT_FULL_ROW
}

func needsIdentity(t *rowv1.Table) string {
	return "ALTER TABLE " + ident(t.GetSource().GetSchema(), t.GetSource().GetName()) + " REPLICA IDENTITY FULL;"
}

func noFullRow(rel *walRelation) error {
	err := diag.NoIdentity.New(streamWhere(rel.table.t), nil, "a change came without the whole old row").
		WithFix(needsIdentity(rel.table.t))
	return diag.About(err, rel.table.t.GetIndex())
}

func (st *streamer) update(w *wire) error {
	rel, err := st.find(w)
	if rel == nil || err != nil {
		return err
	}
	vals, before := st.vals[:len(rel.place)], st.before[:len(rel.place)]
	kind, size := w.u8(), 0
	hasOld := kind == 'K' || kind == 'O'
	if hasOld {
		if size, err = st.tuple(w, rel, before); w.bad || err != nil {
			return err
		}
		kind2 := w.u8()
		w.bad = w.bad || kind2 != 'N'
	} else if kind != 'N' {
		w.bad = true
	}
	if w.bad {
		return nil
	}
	more, err := st.tuple(w, rel, vals)
	if w.bad || err != nil {
		return err
	}
	size += more
	if hasOld {
		fillUnchanged(vals, before, kind == 'O')
	}
	return st.updated(rel, vals, before, kind, size)
}

// fillUnchanged takes what the new image leaves out from the old one, where that has it: all columns with
// REPLICA IDENTITY FULL, otherwise the identity's, whose values in an old image are never null.
func fillUnchanged(vals, before []wireValue, all bool) {
	for i := range vals {
		if vals[i].kind == valueUnchanged && (all || before[i].kind != valueNull) {
			vals[i] = before[i]
		}
	}
}

// updated adds an update, or a delete and an insert when the key (or, without a key, the row) changed.
func (st *streamer) updated(rel *walRelation, vals, before []wireValue, kind byte, size int) error {
	whole := fullRow(rel)
	if whole && kind != 'O' {
		return noFullRow(rel)
	}
	moved, err := st.moved(rel, vals, before, kind)
	if err != nil {
		return err
	}
	txn, err := st.space(rel, size)
	if err != nil {
		return err
	}
	if !moved {
		return rel.table.add(sdk.OpUpdate, txn, vals, vals, false, -1)
	}
	if err := rel.table.add(sdk.OpDelete, txn, before, before, !whole, -1); err != nil {
		return err
	}
	st.round.rows++
	return rel.table.add(sdk.OpInsert, txn, vals, vals, false, rel.table.rows-1)
}

// moved reports whether an update changed the key; without a key, a row always becomes another one.
func (st *streamer) moved(rel *walRelation, vals, before []wireValue, kind byte) (bool, error) {
	if fullRow(rel) || kind == 'N' {
		return fullRow(rel), nil
	}
	var err error
	if st.kbuf[0], err = rel.table.keyBytes(st.kbuf[0][:0], before); err != nil {
		return false, err
	}
	if st.kbuf[1], err = rel.table.keyBytes(st.kbuf[1][:0], vals); err != nil {
		return false, err
	}
	return !bytes.Equal(st.kbuf[0], st.kbuf[1]), nil
}

// truncate is a barrier: what was gathered before goes first, and a piece with truncates holds nothing else.
func (st *streamer) truncate(w *wire) error {
	n, options := int(w.u32()), w.u8()
	if st.skip {
		return nil
	}
	var list []*rowv1.Truncate
	aside := false
	for i := 0; i < n && !w.bad; i++ {
		rel := st.rels[w.u32()]
		if rel == nil {
			return st.broken("a truncate of an unannounced table")
		}
		if rel.stray != nil {
			return rel.stray
		}
		if rel.table != nil && rel.table.aside {
			aside = true
		} else if rel.table != nil {
			list = append(list, &rowv1.Truncate{Table: rel.table.t.GetIndex(), Cascade: options&1 != 0, RestartIdentity: options&2 != 0, All: true})
		}
	}
	if w.bad {
		return nil
	}
	if len(list) == 0 {
		if aside {
			st.mention()
		}
		return nil
	}
	if r := st.round; r.rows > 0 || len(r.ids) > 0 && !st.indexed {
		if err := st.cut(); err != nil {
			return err
		}
	}
	st.enter()
	st.round.truncs = append(st.round.truncs, list...)
	return nil
}
