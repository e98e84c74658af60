package postgres

import (
	"bytes"
	"encoding/binary"

	"github.com/droverdb/drover/internal/diag"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Kinds of a column's value in a pgoutput tuple.
const (
	valueNull      = 'n'
	valueUnchanged = 'u' // a TOAST value that the update did not touch: it is not in the log
	valueText      = 't'
	valueBinary    = 'b'
)

// wireValue refers to bytes of the read buffer: valid until the next read.
type wireValue struct {
	kind byte
	data []byte
}

// wire reads the fields of one pgoutput message. Running over the end sets bad and yields zeroes.
type wire struct {
	b   []byte
	bad bool
}

func (w *wire) take(n int) []byte {
	if n < 0 || n > len(w.b) {
		w.bad = true
		w.b = nil
		return nil
	}
	v := w.b[:n]
	w.b = w.b[n:]
	return v
}

func (w *wire) u8() byte {
	if v := w.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (w *wire) u16() uint16 {
	if v := w.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (w *wire) u32() uint32 {
	if v := w.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (w *wire) u64() uint64 {
	if v := w.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (w *wire) text() string {
	i := bytes.IndexByte(w.b, 0)
	if i < 0 {
		w.bad = true
		w.b = nil
		return ""
	}
	v := string(w.b[:i])
	w.b = w.b[i+1:]
	return v
}

// tuple reads a row into vals, in the order of the pipeline's columns. place maps the relation's columns.
func (w *wire) tuple(vals []wireValue, place []int) int {
	n := int(w.u16())
	if n != len(place) {
		w.bad = true
		return 0
	}
	size := 0
	for i := range n {
		v := wireValue{kind: w.u8()}
		switch v.kind {
		case valueNull, valueUnchanged:
		case valueText, valueBinary:
			v.data = w.take(int(w.u32()))
			size += len(v.data)
		default:
			w.bad = true
			return 0
		}
		vals[place[i]] = v
	}
	return size
}

// walRelation is what a Relation message said of a table; table is nil when it is none of the pipeline's.
type walRelation struct {
	table *streamTable
	place []int
	typmd map[string]int32
	// lazy are columns not yet matched: nothing of the relation was wanted so far.
	lazy []relColumn
	// stray is why no row of it may be taken.
	stray error
}

type relColumn struct {
	name   string
	oid    uint32
	typmod int32
	ident  bool
}

func (w *wire) relation() (oid uint32, schema, name string, cols []relColumn) {
	oid, schema, name = w.u32(), w.text(), w.text()
	w.u8() // replica identity: the flags of the columns say more
	n := int(w.u16())
	for i := 0; i < n && !w.bad; i++ {
		flags := w.u8()
		cols = append(cols, relColumn{name: w.text(), oid: w.u32(), typmod: int32(w.u32()), ident: flags&1 != 0})
	}
	if schema == "" {
		schema = "pg_catalog"
	}
	return oid, schema, name, cols
}

// match maps a relation's columns to those of the pipeline's table, or tells how they differ.
func match(t *rowv1.Table, cols []relColumn) ([]int, error) {
	where := streamWhere(t)
	at := make(map[string]int, len(t.GetColumns()))
	for i, c := range t.GetColumns() {
		at[c.GetName()] = i
	}
	place := make([]int, len(cols))
	for i, c := range cols {
		j, ok := at[c.name]
		if !ok {
			return nil, diag.SchemaChanged.New(where, nil, "column %s is new or has a new name", c.name)
		}
		delete(at, c.name)
		place[i] = j
		col := t.Columns[j]
		if col.GetNativeId() != 0 && col.GetNativeId() != c.oid {
			return nil, diag.SchemaChanged.New(where, nil, "column %s is no longer of type %s", c.name, col.GetNativeType())
		}
		if !sameModifier(col.GetNativeType(), c.oid, c.typmod) {
			return nil, diag.SchemaChanged.New(where, nil, "column %s is no longer %s", c.name, col.GetNativeType())
		}
	}
	for name := range at {
		return nil, diag.SchemaChanged.New(where, nil, "column %s is gone", name)
	}
	for _, k := range t.GetKey() {
		for i, c := range cols {
			if place[i] == int(k) && !c.ident {
				return nil, diag.NoIdentity.New(where, nil, "key column %s is not part of the replica identity any more", c.name).
					WithFix(needsIdentity(t) + "  -- only if it has no primary key any more; another one is found by the reload")
			}
		}
	}
	return place, nil
}
