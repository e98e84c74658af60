package postgres

import (
	"slices"

	"github.com/droverdb/drover/internal/diag"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// relation takes what the server says of a table before the first change of it, and again after anything about it was altered.
func (st *streamer) relation(w *wire) error {
	oid, schema, name, cols := w.relation()
	if w.bad {
		return nil
	}
	for i := range cols {
		cols[i].name = st.letters.name(cols[i].name)
	}
	table, err := st.table(relationName(st.letters.name(schema), st.letters.name(name)))
	if err != nil {
		return err
	}
	rel := &walRelation{table: table, typmd: map[string]int32{}}
	was := st.rels[oid]
	st.rels[oid] = rel
	rel.stray, err = st.identify(oid, table)
	if err == nil && !st.skip {
		err = rel.stray
	}
	if err != nil {
		return err
	}
	if rel.table == nil || rel.table.aside || st.skip {
		rel.lazy = cols
		return nil
	}
	return st.bind(rel, was, cols)
}

// identify refuses a relation that has the name of another one, or another name than it had: by name alone its rows would go into
// a table that they are not of. Tables that are set aside are nobody's trouble any more.
func (st *streamer) identify(oid uint32, named *streamTable) (stray, err error) {
	var wrong []*rowv1.Table
	if named != nil && !named.aside && named.t.GetNativeId() != 0 && named.t.GetNativeId() != oid {
		wrong = append(wrong, named.t)
	}
	if index, ok := st.ids[oid]; ok && oid != 0 && (named == nil || named.t.GetIndex() != index) && !slices.Contains(st.aside, index) {
		t, err := st.shelf.Table(index)
		if err != nil {
			return nil, err
		}
		wrong = append(wrong, t)
	}
	if len(wrong) == 0 {
		return nil, nil
	}
	e := diag.SchemaChanged.New(streamWhere(wrong[0]), nil, "its name is that of another table now, or it has another name")
	e.Table = wrong[0].GetIndex() + 1
	for _, t := range wrong[1:] {
		e.Also = append(e.Also, t.GetIndex()+1)
	}
	return e, nil
}

// bind maps the columns of a relation whose rows are wanted.
func (st *streamer) bind(rel, was *walRelation, cols []relColumn) error {
	place, err := match(rel.table.t, cols)
	if err != nil {
		return diag.About(err, rel.table.t.GetIndex())
	}
	for _, c := range cols {
		rel.typmd[c.name] = c.typmod
		if was == nil || was.table != rel.table {
			continue
		}
		if before, ok := was.typmd[c.name]; ok && before != c.typmod {
			return diag.About(diag.SchemaChanged.New(streamWhere(rel.table.t), nil, "column %s has another length or precision", c.name), rel.table.t.GetIndex())
		}
	}
	rel.place, rel.lazy = place, nil
	if st.announce != nil {
		st.announce(rel.table.t.GetIndex())
	}
	if n := len(place); n > len(st.vals) {
		st.vals, st.before = make([]wireValue, n), make([]wireValue, n)
	}
	return nil
}
