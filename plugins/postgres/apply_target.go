package postgres

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk/apply"
)

// statementRows bounds what one statement is given: its parameters exist up to three times, here, in the driver and at the
// server.
const statementRows = 8192

var _ apply.Target = (*applySession)(nil)

func (s *applySession) table(e *apply.Effect) (*applyTable, error) {
	t := s.lookup(e.Table.Index, e.Version)
	if t == nil {
		return nil, diag.Internal.New(tableWhere(e.Table), nil, "rows before their layout")
	}
	return t, nil
}

// needSafe reports whether the fast form cannot work for some table of the plan.
func (s *applySession) needSafe(p *apply.Plan) bool {
	for _, e := range p.Effects {
		if t := s.lookup(e.Table.Index, e.Version); t != nil && t.alwaysSafe && len(e.Updates) > 0 {
			return true
		}
	}
	return false
}

// buffer returns the n-th reusable buffer; the driver copies parameters when a statement is queued.
func (s *applySession) buffer(n int) []byte {
	for len(s.bufs) <= n {
		s.bufs = append(s.bufs, nil)
	}
	return s.bufs[n][:0]
}

func (t *applyTable) arrayOIDs(cols []int, extra ...uint32) []uint32 {
	out := make([]uint32, 0, len(cols)+len(extra))
	for _, c := range cols {
		out = append(out, t.columns[c].arrayOID)
	}
	return append(out, extra...)
}

func (s *applySession) refParams(t *applyTable, e *apply.Effect, cols []int, refs []apply.Ref) error {
	s.params = s.params[:0]
	for n, c := range cols {
		b, err := t.columns[c].appendRefs(s.buffer(n), e, c, refs)
		if err != nil {
			return err
		}
		s.bufs[n] = b
		s.params = append(s.params, b)
	}
	return nil
}

func (s *applySession) imageParams(t *applyTable, e *apply.Effect, cols []int, images []apply.Image) error {
	s.params = s.params[:0]
	for n, c := range cols {
		b, err := t.columns[c].appendImages(s.buffer(n), e, c, images)
		if err != nil {
			return err
		}
		s.bufs[n] = b
		s.params = append(s.params, b)
	}
	return nil
}

// Delete removes rows by key; in a table without a key, by the whole row.
func (s *applySession) Delete(_ context.Context, e *apply.Effect) error {
	t, err := s.table(e)
	if err != nil {
		return err
	}
	if e.FullRow() {
		return s.deleteRows(t, e)
	}
	keys := t.keyColumns()
	for part := range slices.Chunk(e.Deletes, statementRows) {
		if err := s.refParams(t, e, keys, part); err != nil {
			return err
		}
		s.exec(sentSafe, atTable(e.Table), t.statement("delete", t.deleteSQL), t.arrayOIDs(keys), s.params)
	}
	return nil
}

// Update sets the columns of a group. Every row must be met, or the round is run in the safe form.
func (s *applySession) Update(_ context.Context, e *apply.Effect, g *apply.Group) error {
	t, err := s.table(e)
	if err != nil {
		return err
	}
	sql := t.statement("update"+shape(g.Columns), func() string { return t.updateSQL(g.Columns) })
	oids := t.arrayOIDs(g.Columns, oidInt8)
	for part := range slices.Chunk(g.Images, statementRows) {
		if err := s.imageParams(t, e, g.Columns, part); err != nil {
			return err
		}
		s.params = append(s.params, int8Param(int64(len(part))))
		s.exec(sentChange, atTable(e.Table), sql, oids, s.params)
	}
	return nil
}

func shape(cols []int) string {
	b := make([]byte, 0, 2*len(cols))
	for _, c := range cols {
		b = binary.BigEndian.AppendUint16(b, uint16(c))
	}
	return string(b)
}

// Insert adds rows. A row that is there already makes the round run in the safe form.
func (s *applySession) Insert(ctx context.Context, e *apply.Effect) error {
	t, err := s.table(e)
	if err != nil {
		return err
	}
	kind := sentChange
	if e.Safe || e.FullRow() {
		kind = sentSafe
	}
	if len(t.columns) == 0 {
		for range e.Inserts {
			s.exec(kind, atTable(e.Table), t.insertSQL(), nil, nil)
		}
		return nil
	}
	if len(e.Inserts) >= copyRows && t.copyable() {
		return s.copyInserts(ctx, t, e, kind)
	}
	all := t.allColumns()
	for part := range slices.Chunk(e.Inserts, statementRows) {
		if err := s.imageParams(t, e, all, part); err != nil {
			return err
		}
		s.exec(kind, atTable(e.Table), t.statement("insert", t.insertSQL), t.arrayOIDs(all), s.params)
	}
	return nil
}

// statement caches the text of a statement.
func (t *applyTable) statement(name string, make func() string) string {
	sql, ok := t.statements[name]
	if !ok {
		sql = make()
		t.statements[name] = sql
	}
	return sql
}

// Fetch reads whole rows by key, after everything queued before it.
func (s *applySession) Fetch(ctx context.Context, e *apply.Effect, refs []apply.Ref) (*apply.Batch, []int32, error) {
	t, err := s.table(e)
	if err != nil {
		return nil, nil, err
	}
	if err := s.sync(); err != nil {
		return nil, nil, err
	}
	s.stop()
	defer s.start(ctx)
	keys := t.keyColumns()
	if err := s.refParams(t, e, keys, refs); err != nil {
		return nil, nil, err
	}
	formats := []int16{1, 1}
	for i := range t.columns {
		formats = append(formats, t.columns[i].format())
	}
	for len(s.formats) < len(s.params) {
		s.formats = append(s.formats, 1)
	}
	res := s.pg.ExecParams(ctx, t.fetchSQL(), s.params, t.arrayOIDs(keys), s.formats[:len(s.params)], formats)
	b, found, err := t.readImages(res, len(refs))
	if err != nil {
		return nil, nil, &sentError{kind: sentSafe, at: atTable(e.Table), err: err}
	}
	return b, found, nil
}

func (c *applyColumn) format() int16 {
	if c.encoding == encodeText {
		return 0
	}
	return 1
}

// readImages turns the answer of fetchSQL into a batch of images.
func (t *applyTable) readImages(res *pgconn.ResultReader, n int) (*apply.Batch, []int32, error) {
	found := make([]int32, n)
	for i := range found {
		found[i] = -1
	}
	schema := arrow.NewSchema(t.decoder.Schema().Fields()[roundColumns:], nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	rows := int32(0)
	for res.NextRow() {
		v := res.Values()
		at := binary.BigEndian.Uint64(v[0]) - 1
		if binary.BigEndian.Uint64(v[1]) > maxFetch {
			found[at] = apply.TooLarge
			continue
		}
		found[at] = rows
		rows++
		for i := range t.columns {
			if err := t.columns[i].read(b.Field(i), v[i+2]); err != nil {
				_, _ = res.Close()
				return nil, nil, err
			}
		}
	}
	if _, err := res.Close(); err != nil {
		return nil, nil, err
	}
	return apply.NewImages(t.table.Index, t.version, b.NewRecordBatch()), found, nil
}

func (c *applyColumn) read(b array.Builder, v []byte) error {
	if v == nil {
		b.AppendNull()
		return nil
	}
	if c.codec != nil {
		return c.codec.AppendBinary(b, v)
	}
	b.(*array.BinaryBuilder).Append(v)
	return nil
}
