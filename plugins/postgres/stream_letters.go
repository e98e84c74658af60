package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// A walsender that has to convert text ends the stream at the first value that it cannot convert, without a word about the
// table, and again at every later try: the value is in the log for good. Where that can happen, text is sent as it is
// stored, and converted here: then it is one table's own trouble.

// letters turns text of the source's encoding into UTF-8.
type letters struct {
	encoding string
	// high is what the bytes from 0x80 on stand for, nil if the server knows no more than we: what it stores is UTF-8 or
	// nothing that anybody could name.
	high [][]byte
}

// lettersOf finds out whether every text that the source may hold can be converted; nil: it can, and the walsender does.
// Encodings of several bytes are left to the walsender, too: what a byte stands for depends on those around it.
func lettersOf(ctx context.Context, side *pgx.Conn) (*letters, error) {
	l := &letters{encoding: side.PgConn().ParameterStatus("server_encoding")}
	if l.encoding == "SQL_ASCII" {
		return l, nil
	}
	var width int
	if err := side.QueryRow(ctx, "SELECT pg_encoding_max_length(pg_char_to_encoding($1))", l.encoding).Scan(&width); err != nil || width > 1 {
		return nil, err
	}
	every := make([]byte, 0, 128)
	for b := 0x80; b <= 0xff; b++ {
		every = append(every, byte(b))
	}
	if all, err := l.ask(ctx, side, every); err != nil || all != nil {
		return nil, err
	}
	for _, b := range every {
		letter, err := l.ask(ctx, side, []byte{b})
		if err != nil {
			return nil, err
		}
		l.high = append(l.high, letter)
	}
	return l, nil
}

// ask has the server convert text; nil: it cannot.
func (l *letters) ask(ctx context.Context, side *pgx.Conn, text []byte) (out []byte, err error) {
	err = side.QueryRow(ctx, "SELECT convert($1::bytea, $2, 'UTF8')", text, l.encoding).Scan(&out)
	var pe *pgconn.PgError
	if errors.As(err, &pe) && strings.HasPrefix(pe.Code, "22") {
		return nil, nil
	}
	return out, err
}

// walEncoding is what the walsender is to send text in.
func (l *letters) walEncoding() string {
	if l == nil {
		return "UTF8"
	}
	return l.encoding
}

// textForm: a value's binary form holds text and other bytes, which only its type can tell apart.
func (l *letters) textForm() bool { return l != nil && l.high != nil }

// convert returns text in UTF-8, which is text itself where nothing changes; ok is false if it holds what has no letter.
func (l *letters) convert(text []byte) (out []byte, ok bool) {
	if l.high == nil {
		return text, utf8.Valid(text)
	}
	i := 0
	for i < len(text) && text[i] < 0x80 {
		i++
	}
	if i == len(text) {
		return text, true
	}
	out = append(make([]byte, 0, 2*len(text)), text[:i]...)
	for _, b := range text[i:] {
		switch {
		case b < 0x80:
			out = append(out, b)
		case l.high[b-0x80] == nil:
			return nil, false
		default:
			out = append(out, l.high[b-0x80]...)
		}
	}
	return out, true
}

// name converts the name of an object; one that cannot be converted is none of the pipeline's.
func (l *letters) name(s string) string {
	if l == nil {
		return s
	}
	if out, ok := l.convert([]byte(s)); ok {
		return string(out)
	}
	return s
}

// value converts a value, or names the column that holds what has no letter. The binary form of other types than text is
// judged by the target.
func (l *letters) value(t *rowv1.Table, at int, v *wireValue) error {
	if l == nil || v.kind != valueText && (v.kind != valueBinary || !isText(t.Columns[at].GetNativeId())) {
		return nil
	}
	data, ok := l.convert(v.data)
	if !ok {
		return l.unreadable(t, t.Columns[at].GetName())
	}
	v.data = data
	return nil
}

// tuple reads a row in the order of the pipeline's columns, its text in UTF-8.
func (st *streamer) tuple(w *wire, rel *walRelation, vals []wireValue) (size int, err error) {
	size = w.tuple(vals, rel.place)
	if st.letters == nil || w.bad {
		return size, nil
	}
	for i := range vals {
		if err := st.letters.value(rel.table.t, i, &vals[i]); err != nil {
			return size, err
		}
	}
	return size, nil
}

func isText(oid uint32) bool {
	return oid == oidText || oid == oidVarchar || oid == oidBPChar
}

// unreadable tells which column of which table holds it, with SQL that finds the rows; their values are not shown.
func (l *letters) unreadable(t *rowv1.Table, column string) error {
	bytes, which := `^\x01-\x7f`, "rows with letters beyond ASCII: correct those that are not UTF-8"
	if l.high != nil {
		bytes, which = "", "rows to correct"
		for i, letter := range l.high {
			if letter == nil {
				bytes += fmt.Sprintf(`\x%02x`, 0x80+i)
			}
		}
	}
	ref := t.GetSource()
	what := "ctid"
	if len(t.GetKey()) > 0 {
		var names []string
		for _, k := range t.GetKey() {
			names = append(names, ident(t.Columns[k].GetName()))
		}
		what = strings.Join(names, ", ")
	}
	err := diag.RowUnreadable.New(streamWhere(t), nil, "a change has a byte in column %s that stands for no letter in UTF-8; the source's encoding is %s", column, l.encoding).
		WithFix(fmt.Sprintf("SELECT %s FROM %s WHERE %s::text ~ '[%s]';  -- at the source: %s", what, ident(ref.GetSchema(), ref.GetName()), ident(column), bytes, which))
	return diag.About(err, t.GetIndex())
}
