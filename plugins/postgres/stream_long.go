package postgres

import (
	"encoding/binary"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
)

// A change can be as large as PostgreSQL's values, and every process on its way would hold it whole. A long one is read
// past: its key and small values are kept, its large values are not. Of a row that was written with one, only the key
// is passed on, and the sink has the row sent again piece by piece (Invariant 8). Large values of an old image are not
// needed, unless rows are matched by them.

const (
	// wholeMessage is the most that is read in one piece of a table whose rows can be read again.
	wholeMessage = 8 << 20
	// longHead is how much of a long message has to be there to see what it is: kind and size, the walsender's header, the
	// kind of the change and the number of the relation.
	longHead = 5 + 25 + 1 + 4
	// isLong is the kind of a message of which next returns the head only.
	isLong = 0
	// smallValue and less is kept of a long message, up to keptBytes in all; key values are kept up to maxKeyValue.
	smallValue  = 16 << 10
	keptBytes   = 2 << 20
	maxKeyValue = 1 << 20
)

// long returns the head of a message that does not fit into the buffer, and leaves it there.
func (c *walConn) long(have []byte, n int) (byte, []byte, bool, error) {
	if n < 4 || n > maxWalMessage || have[0] != 'd' {
		return 0, nil, false, diag.StreamBroken.New("source › change stream", nil, "a message of %d bytes", n)
	}
	if len(have) < longHead {
		return 0, nil, false, nil
	}
	return isLong, have[5:longHead], true, nil
}

// longReader takes a long message off the socket.
type longReader struct {
	st   *streamer
	left int // bytes of the message that were not taken
	kept int
	bad  bool
}

// long handles a change that is too large to be held.
func (st *streamer) long(head []byte) error {
	c := st.conn
	size := int(binary.BigEndian.Uint32(c.buf[c.r+1:]))
	w := wire{b: head}
	stream := w.u8()
	w.take(16)
	clock := int64(w.u64()) + pgEpochMicros
	kind := w.u8()
	if stream != 'w' {
		return st.broken("a long message that is no change")
	}
	l := &longReader{st: st, left: size + 1 - longHead}
	var err error
	switch kind {
	case 'I', 'U', 'D':
		var rel *walRelation
		if rel, err = st.find(&w); err != nil {
			return err
		}
		if rel != nil && fullRow(rel) {
			return st.whole(rel, size)
		}
		c.skip(longHead)
		c.cut = true
		if rel != nil {
			err = l.change(rel, kind)
		}
	case 'M':
		c.skip(longHead)
		c.cut = true
	default:
		return diag.StreamBroken.New(st.where, nil, "a long change of kind %q", kind)
	}
	if err == nil && l.bad {
		err = st.broken("a long change cut short")
	}
	if err == nil {
		err = l.skip(l.left)
	}
	c.cut, st.slept = false, false
	if st.inTxn {
		st.lags(clock - st.micros)
	}
	return err
}

// whole has a long change read in one piece after all: rows without a key are matched by all of it.
func (st *streamer) whole(rel *walRelation, size int) error {
	if size > maxRow {
		return rowTooLarge(rel, size)
	}
	st.conn.whole = size
	return nil
}

func rowTooLarge(rel *walRelation, size int) error {
	ref := rel.table.t.GetSource()
	err := diag.RowTooLarge.New(streamWhere(rel.table.t), nil, "a change of %d MiB, at most %d MiB pass in a table without a key", size>>20, maxRow>>20).
		WithFix("ALTER TABLE " + ident(ref.GetSchema(), ref.GetName()) + " ADD PRIMARY KEY (…);  and copy again, or exclude the table (tables.exclude: [" +
			ref.GetSchema() + "." + ref.GetName() + "]) and copy it by itself without following: a load takes values of any size.")
	return diag.About(err, rel.table.t.GetIndex())
}

// change takes an insert, update or delete.
func (l *longReader) change(rel *walRelation, kind byte) error {
	st := l.st
	vals, before := st.vals[:len(rel.place)], st.before[:len(rel.place)]
	image, err := l.u8()
	if err != nil {
		return err
	}
	old := image == 'K' || image == 'O'
	if old && kind == 'I' || !old && (image != 'N' || kind == 'D') {
		l.bad = true
		return nil
	}
	if old {
		if _, err := l.tuple(rel, before); err != nil || l.bad {
			return err
		}
		if kind == 'D' {
			txn, err := st.space(rel, l.kept)
			if err != nil {
				return err
			}
			return rel.table.add(sdk.OpDelete, txn, before, before, true, -1)
		}
		next, err := l.u8()
		if l.bad = l.bad || next != 'N'; err != nil || l.bad {
			return err
		}
	}
	lacks, err := l.tuple(rel, vals)
	if err != nil || l.bad {
		return err
	}
	if old {
		fillUnchanged(vals, before, image == 'O')
	}
	if !lacks {
		return st.updated(rel, vals, before, image, l.kept)
	}
	return st.written(rel, vals, before, image, l.kept)
}

// written adds a row of which only the key is known, and takes away what it was under another key.
func (st *streamer) written(rel *walRelation, vals, before []wireValue, image byte, size int) error {
	moved, err := st.moved(rel, vals, before, image)
	if err != nil {
		return err
	}
	txn, err := st.space(rel, size)
	if err != nil {
		return err
	}
	if moved {
		if err := rel.table.add(sdk.OpDelete, txn, before, before, true, -1); err != nil {
			return err
		}
		st.round.rows++
	}
	return rel.table.add(sdk.OpReread, txn, vals, vals, true, -1)
}

// tuple reads a row as wire.tuple does, and reports whether it left values out: they look unchanged.
func (l *longReader) tuple(rel *walRelation, vals []wireValue) (lacks bool, err error) {
	head, err := l.take(2)
	if err != nil || l.bad || int(binary.BigEndian.Uint16(head)) != len(rel.place) {
		l.bad = true
		return false, err
	}
	for _, at := range rel.place {
		var v wireValue
		if v.kind, err = l.u8(); err != nil {
			return false, err
		}
		switch v.kind {
		case valueNull, valueUnchanged:
		case valueText, valueBinary:
			left, err := l.value(rel, at, &v)
			if err != nil {
				return false, err
			}
			lacks = lacks || left
		default:
			l.bad = true
		}
		if l.bad {
			return false, nil
		}
		vals[at] = v
	}
	return lacks, nil
}

// value keeps a value, or leaves it out.
func (l *longReader) value(rel *walRelation, at int, v *wireValue) (left bool, err error) {
	head, err := l.take(4)
	if err != nil || l.bad {
		return false, err
	}
	n := int(binary.BigEndian.Uint32(head))
	key := rel.table.isKey[at]
	switch {
	case n < 0 || n > l.left:
		l.bad = true
		return false, nil
	case key && n > maxKeyValue:
		return false, diag.About(diag.RowTooLarge.New(streamWhere(rel.table.t), nil, "a value of %d MiB in its key", n>>20), rel.table.t.GetIndex())
	case key || n <= smallValue && l.kept+n <= keptBytes:
		l.kept += n
		if v.data, err = l.keep(n); err != nil || l.bad {
			return false, err
		}
		return false, l.st.letters.value(rel.table.t, at, v)
	}
	v.kind = valueUnchanged
	return true, l.skip(n)
}

func (l *longReader) u8() (byte, error) {
	b, err := l.take(1)
	if err != nil || l.bad {
		return 0, err
	}
	return b[0], nil
}

// take returns the next few bytes, valid until the next call.
func (l *longReader) take(n int) ([]byte, error) {
	if n > l.left {
		l.bad = true
		return nil, nil
	}
	c := l.st.conn
	for c.w-c.r < n {
		if err := l.st.more(); err != nil {
			return nil, err
		}
	}
	l.left -= n
	c.skip(n)
	return c.buf[c.r-n : c.r], nil
}

// keep copies bytes out of the buffer.
func (l *longReader) keep(n int) ([]byte, error) {
	out := make([]byte, 0, n)
	for len(out) < n {
		b, err := l.take(min(n-len(out), walBuffer/2))
		if err != nil || l.bad {
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}

func (l *longReader) skip(n int) error {
	c := l.st.conn
	for {
		have := min(n, c.w-c.r)
		c.skip(have)
		l.left -= have
		if n -= have; n == 0 {
			return nil
		}
		if err := l.st.more(); err != nil {
			return err
		}
	}
}

// more waits for more bytes of a long message.
func (st *streamer) more() error {
	if err := st.over(); err != nil {
		return err
	}
	n, err := st.conn.fill(idleWait, behind, nil)
	if err != nil {
		return mapError(err, st.where)
	}
	return st.lives(n)
}
