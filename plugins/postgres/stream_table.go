package postgres

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/mem"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	"github.com/droverdb/drover/plugins/sdk/keys"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// rawCol is a binary Arrow column under construction. Its memory is used again after each batch.
type rawCol struct {
	off   []int32
	data  []byte
	valid []byte
	nulls int
}

func (c *rawCol) reset() {
	c.off = append(c.off[:0], 0)
	c.data, c.valid, c.nulls = c.data[:0], c.valid[:0], 0
}

func (c *rawCol) append(v []byte) {
	c.data = append(c.data, v...)
	c.end(true)
}

// end finishes a value whose bytes are in data already.
func (c *rawCol) end(valid bool) {
	i := len(c.off) - 1
	c.off = append(c.off, int32(len(c.data)))
	if i&7 == 0 {
		c.valid = append(c.valid, 0)
	}
	if valid {
		c.valid[i>>3] |= 1 << (i & 7)
	} else {
		c.nulls++
	}
}

func (c *rawCol) array() arrow.Array {
	n := len(c.off) - 1
	bufs := []*memory.Buffer{nil, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.off)), memory.NewBufferBytes(c.data)}
	if c.nulls > 0 {
		bufs[0] = memory.NewBufferBytes(c.valid)
	}
	d := array.NewData(arrow.BinaryTypes.Binary, n, bufs, nil, c.nulls, 0)
	defer d.Release()
	return array.NewBinaryData(d)
}

// streamTable builds the round batches of one table.
type streamTable struct {
	t       *rowv1.Table
	enc     *arrowio.Encoder
	told    bool // the schema frame was sent
	aside   bool // its changes are not wanted, but their transactions are
	queued  bool // it has rows in the current piece
	rows    int
	op      []uint8
	txn     []uint32
	key     rawCol
	missing rawCol
	old     []int32
	oldSet  []byte
	olds    int
	raw     []rawCol        // lane pg-values
	typed   []array.Builder // lane arrow
	codecs  []valueCodec
	isKey   []bool
	mask    []byte
}

// schemaVersion is that of all rows of one Stream call: a change of a table's columns ends it.
const schemaVersion = 1

func newStreamTable(t *rowv1.Table, lane string, bin bool) (*streamTable, error) {
	st := &streamTable{t: t, isKey: make([]bool, len(t.GetColumns())), mask: make([]byte, (len(t.GetColumns())+7)/8)}
	for _, k := range t.GetKey() {
		if int(k) >= len(st.isKey) {
			return nil, diag.Internal.New(streamWhere(t), nil, "key column %d of %d", k, len(st.isKey))
		}
		st.isKey[k] = true
	}
	fields := make([]arrow.Field, len(t.GetColumns()))
	encoding := arrowio.NativePGText
	if bin {
		encoding = arrowio.NativePGBinary
	}
	for i, col := range t.GetColumns() {
		if lane == sdk.LaneArrow {
			fields[i] = arrowFieldIn(col, encoding)
			st.codecs = append(st.codecs, codecFor(col))
			st.typed = append(st.typed, array.NewBuilder(memory.DefaultAllocator, fields[i].Type))
		} else {
			fields[i] = arrowio.NativeField(col.GetName(), encoding)
		}
	}
	if lane != sdk.LaneArrow {
		st.raw = make([]rawCol, len(fields))
	}
	enc, err := arrowio.NewEncoder(arrowio.RoundSchema(t.GetColumns(), fields))
	if err != nil {
		return nil, err
	}
	st.enc = enc
	st.reset()
	return st, nil
}

func (st *streamTable) reset() {
	st.rows, st.olds, st.queued = 0, 0, false
	st.op, st.txn, st.old, st.oldSet = st.op[:0], st.txn[:0], st.old[:0], st.oldSet[:0]
	st.key.reset()
	st.missing.reset()
	for i := range st.raw {
		st.raw[i].reset()
	}
}

// held is how much memory the table keeps between rounds.
func (st *streamTable) held() int {
	n := cap(st.op) + 4*cap(st.txn) + cap(st.key.data) + 4*cap(st.key.off)
	for i := range st.raw {
		n += cap(st.raw[i].data) + 4*cap(st.raw[i].off) + cap(st.raw[i].valid)
	}
	return n
}

// forget gives the memory back.
func (st *streamTable) forget() {
	st.op, st.txn, st.old, st.oldSet, st.key, st.missing = nil, nil, nil, nil, rawCol{}, rawCol{}
	clear(st.raw)
	st.reset()
}

// add appends one row. vals are in the order of the table's columns; keyVals are those the key is made of.
// keysOnly leaves all other columns null. old is the number of the row's old image, or -1.
func (st *streamTable) add(op uint8, txn uint32, vals, keyVals []wireValue, keysOnly bool, old int) error {
	if err := st.appendKey(keyVals); err != nil {
		return err
	}
	st.op, st.txn = append(st.op, op), append(st.txn, txn)
	lacks := false
	for i := range vals {
		v := &vals[i]
		if v.kind == valueUnchanged && !keysOnly {
			lacks = true
			st.mask[i>>3] |= 1 << (i & 7)
		}
		null := v.kind == valueNull || v.kind == valueUnchanged || keysOnly && !st.isKey[i]
		switch {
		case st.raw != nil && null:
			st.raw[i].end(false)
		case st.raw != nil:
			st.raw[i].append(v.data)
		default:
			if err := st.appendTyped(i, v, null); err != nil {
				return err
			}
		}
	}
	if lacks {
		st.missing.append(st.mask)
		clear(st.mask)
	} else {
		st.missing.end(false)
		old = -1
	}
	st.appendOld(old)
	st.rows++
	return nil
}

func (st *streamTable) appendTyped(i int, v *wireValue, null bool) error {
	b := st.typed[i]
	var err error
	switch {
	case null:
		b.AppendNull()
	case v.kind == valueBinary:
		err = st.codecs[i].AppendBinary(b, v.data)
	default:
		err = st.codecs[i].AppendText(b, v.data)
	}
	return diag.About(mapError(err, streamWhere(st.t)+"."+st.t.Columns[i].GetName()), st.t.GetIndex())
}

func (st *streamTable) appendOld(old int) {
	if st.rows&7 == 0 {
		st.oldSet = append(st.oldSet, 0)
	}
	if old >= 0 {
		st.oldSet[st.rows>>3] |= 1 << (st.rows & 7)
		st.olds++
	}
	st.old = append(st.old, int32(old))
}

func (st *streamTable) appendKey(vals []wireValue) error {
	b, err := st.keyBytes(st.key.data, vals)
	if err != nil {
		return err
	}
	st.key.data = b
	st.key.end(true)
	return nil
}

// keyBytes appends the key of a row: order-preserving for keyed tables, else any injective form.
func (st *streamTable) keyBytes(dst []byte, vals []wireValue) ([]byte, error) {
	if st.t.GetGate() == rowv1.GateMode_GATE_MODE_UNIT_FULL_ROW {
		for i := range vals {
			dst = appendInjective(dst, &vals[i])
		}
		return dst, nil
	}
	keyed := st.t.GetGate() == rowv1.GateMode_GATE_MODE_KEYED
	for _, k := range st.t.GetKey() {
		v, col := &vals[k], st.t.Columns[k]
		if v.kind == valueUnchanged || keyed && v.kind == valueNull {
			return dst, diag.About(diag.NoIdentity.New(streamWhere(st.t), nil, "a change came without key column %s", col.GetName()).
				WithFix(needsIdentity(st.t)+"  -- only if it has no primary key any more; another one is found by the reload"), st.t.GetIndex())
		}
		if !keyed {
			dst = appendInjective(dst, v)
			continue
		}
		var err error
		if dst, err = keys.AppendPG(dst, col.GetNativeId(), v.kind == valueBinary, v.data); err != nil {
			return dst, diag.About(diag.RowRefused.New(streamWhere(st.t), err, "a value of key column %s", col.GetName()), st.t.GetIndex())
		}
	}
	return dst, nil
}

// longInjective and more of a value stand for themselves by a digest: a whole row that is its own key would be held twice.
const longInjective = 1 << 10

// appendInjective writes a value so that no two rows have the same bytes.
func appendInjective(dst []byte, v *wireValue) []byte {
	if v.kind == valueNull || v.kind == valueUnchanged {
		return append(dst, 0)
	}
	if len(v.data) >= longInjective {
		sum := sha256.Sum256(v.data)
		return append(append(dst, 2), sum[:]...)
	}
	dst = append(dst, 1)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(v.data)))
	return append(dst, v.data...)
}

// batch encodes the rows and empties the table.
func (st *streamTable) batch() (mem.Buffer, error) {
	n := st.rows
	cols := make([]arrow.Array, 0, sdk.RoundColumns+len(st.t.GetColumns()))
	cols = append(cols, fixedArray(arrow.PrimitiveTypes.Uint8, n, st.op, nil, 0),
		fixedArray(arrow.PrimitiveTypes.Uint32, n, arrow.Uint32Traits.CastToBytes(st.txn), nil, 0),
		st.key.array(), st.missing.array(),
		fixedArray(arrow.PrimitiveTypes.Int32, n, arrow.Int32Traits.CastToBytes(st.old), st.oldSet, n-st.olds))
	for i := range st.raw {
		cols = append(cols, st.raw[i].array())
	}
	for _, b := range st.typed {
		cols = append(cols, b.NewArray())
	}
	rec := array.NewRecordBatch(st.enc.Schema(), cols, int64(n))
	for _, c := range cols {
		c.Release()
	}
	defer rec.Release()
	msg, err := st.enc.PooledBatch(rec, sdk.Buffers)
	st.reset()
	return msg, err
}

func fixedArray(dt arrow.DataType, n int, values, valid []byte, nulls int) arrow.Array {
	bufs := []*memory.Buffer{nil, memory.NewBufferBytes(values)}
	if nulls > 0 {
		bufs[0] = memory.NewBufferBytes(valid)
	}
	d := array.NewData(dt, n, bufs, nil, nulls, 0)
	defer d.Release()
	return array.MakeFromData(d)
}

// streamWhere names a table in errors.
func streamWhere(t *rowv1.Table) string {
	return "source › table " + t.GetSource().GetSchema() + "." + t.GetSource().GetName()
}
