package postgres

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"slices"

	"github.com/jackc/pgx/v5"

	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// An ALTER TABLE may give every row other values, and the log says nothing of it: a column that was dropped and made again, or
// one whose type was altered USING an expression, has the same name and type as before. The catalog tells: the first has another
// number, and the second has rewritten the table together with the column's row of pg_attribute.

// storage is what tells that a table may have been rewritten. file changes with TRUNCATE, VACUUM FULL and CLUSTER as well; toast
// only with what ALTER TABLE does, and is 0 for tables whose rows are always small.
type storage struct {
	file, toast uint32
	width       int16 // columns there ever were
}

// form is a table's storage with a sum of the transactions that wrote the catalog's rows of its followed columns.
type form struct {
	storage
	stamps uint64
}

func (f form) known() bool { return f.file != 0 }

// altered reports whether a table was rewritten by something that touched its columns.
func (f form) altered(now form) bool {
	again := f.file != now.file
	if f.toast != 0 && now.toast != 0 {
		again = f.toast != now.toast
	}
	return again && f.stamps != now.stamps
}

// form is what a table's description keeps, with the numbers of its columns.
func (c *catalog) form(r *pgRel) []byte {
	b := binary.AppendUvarint(nil, uint64(r.File))
	b = binary.AppendUvarint(b, uint64(r.Toast))
	b = binary.AppendUvarint(b, uint64(r.Width))
	var stamps []int64
	var nums []byte
	for _, col := range c.moved(r) {
		stamps, nums = append(stamps, col.Stamp), binary.AppendUvarint(nums, uint64(col.Num))
	}
	return append(binary.BigEndian.AppendUint64(b, sumOf(stamps)), nums...)
}

// readForm gives the zero value for what it cannot read.
func readForm(b []byte) (f form, nums []int16) {
	w := wire{b: b}
	f.file, f.toast, f.width = uint32(w.uvarint()), uint32(w.uvarint()), int16(w.uvarint())
	f.stamps = w.u64()
	for !w.bad && len(w.b) > 0 {
		nums = append(nums, int16(w.uvarint()))
	}
	if w.bad {
		return form{}, nil
	}
	return f, nums
}

func (w *wire) uvarint() uint64 {
	v, n := binary.Uvarint(w.b)
	if n <= 0 {
		w.bad, w.b = true, nil
		return 0
	}
	w.b = w.b[n:]
	return v
}

func sumOf(stamps []int64) uint64 {
	h := fnv.New64a()
	for _, s := range stamps {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(s)))
	}
	return h.Sum64()
}

// announce notes that the log has described tables: it does so when they were altered, and also when they were only analyzed.
func (w *watch) announce(tables ...uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range tables {
		w.announced[t] = true
	}
}

func (w *watch) takeAnnounced() map[uint32]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.announced
	w.announced = map[uint32]bool{}
	return asked
}

// described is a table as the catalog has it now.
type described struct {
	Oid, File, Toast uint32
	Width            int16
	Nums             []int16
	Names, Types     []string
	Stamps           []int64
}

// lookAtForms asks the catalog of some tables whether their rows have other values than the log tells.
func (w *watch) lookAtForms(ctx context.Context, conn *pgx.Conn, asked map[uint32]bool) (found, err error) {
	if w.shelf == nil { // it looks only at what is published
		return nil, nil
	}
	byID, ids := map[uint32]uint32{}, []uint32(nil)
	for index := range asked {
		if id := w.seen[index].table; id != 0 && !w.aside[index] && w.forms[index].known() {
			byID[id], ids = index, append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := conn.Query(ctx, `SELECT c.oid, c.relfilenode, c.reltoastrelid, c.relnatts, array_agg(a.attnum), array_agg(a.attname::text),
			array_agg(format_type(a.atttypid, a.atttypmod)), array_agg(a.xmin::text::bigint)
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.oid = ANY($1::oid[]) GROUP BY c.oid`, ids)
	if err != nil {
		return nil, mapError(err, w.where)
	}
	there, err := pgx.CollectRows(rows, pgx.RowToStructByPos[described])
	if err != nil {
		return nil, mapError(err, w.where)
	}
	lacking := map[*lack][]string{}
	for _, d := range there {
		t, err := w.shelf.Table(byID[d.Oid])
		if err != nil {
			return nil, err
		}
		if l := w.reformed(t, d); l != nil {
			lacking[l] = append(lacking[l], relationName(t.GetSource().GetSchema(), t.GetSource().GetName()))
		}
	}
	return w.tell(lacking), nil
}

// reformed compares a table with what was true of it when it was discovered, or at the latest look. Columns that have another name
// or type without more are the stream's to find: no row that the target has is wrong for it.
func (w *watch) reformed(t *rowv1.Table, d described) *lack {
	was := w.forms[t.GetIndex()]
	_, nums := readForm(t.GetNativeForm())
	now := form{storage: storage{d.File, d.Toast, d.Width}}
	same, moved := true, false
	var stamps []int64
	for i, c := range t.GetColumns() {
		at := slices.Index(d.Names, c.GetName())
		if at < 0 || d.Types[at] != c.GetNativeType() {
			same = false
			continue
		}
		stamps, moved = append(stamps, d.Stamps[at]), moved || i >= len(nums) || nums[i] != d.Nums[at]
	}
	now.stamps = sumOf(stamps)
	switch {
	case same && (moved || was.altered(now)):
		return &rewritten
	case !same && was.altered(now):
		return &otherTypes
	case same:
		w.forms[t.GetIndex()] = now
	}
	return nil
}
