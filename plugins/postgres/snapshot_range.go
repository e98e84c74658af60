package postgres

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// readRange is what Chunk.read_range holds: key values in PostgreSQL's text form, or pages. Values and not SQL,
// so that nobody between Split and ReadChunks can make the source run a statement.
type readRange struct {
	// From and To bound [from, to); empty is open.
	From []string `json:"from,omitempty"`
	To   []string `json:"to,omitempty"`
	// Pages is set for physical ranges: [FirstPage, EndPage), EndPage 0 is open.
	Pages     bool  `json:"pages,omitempty"`
	FirstPage int64 `json:"first,omitempty"`
	EndPage   int64 `json:"end,omitempty"`
}

func (r readRange) encode() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return b
}

// where makes the condition of a range; empty: the whole table.
func (r readRange) where(t *rowv1.Table) (string, error) {
	if r.Pages {
		cond := fmt.Sprintf("ctid >= '(%d,0)'", r.FirstPage)
		if r.EndPage > 0 {
			cond += fmt.Sprintf(" AND ctid < '(%d,0)'", r.EndPage)
		}
		return cond, nil
	}
	var conds []string
	for _, side := range []struct {
		op     string
		values []string
	}{{">=", r.From}, {"<", r.To}} {
		if len(side.values) == 0 {
			continue
		}
		if len(side.values) != len(t.Key) {
			return "", diag.Internal.New(chunkTable(t), nil, "a range has %d values for a key of %d columns", len(side.values), len(t.Key))
		}
		var quoted []string
		for _, v := range side.values {
			quoted = append(quoted, literal(v))
		}
		conds = append(conds, tuple(keyColumns(t))+" "+side.op+" "+tuple(quoted))
	}
	return strings.Join(conds, " AND "), nil
}

// tuple writes a row for comparison; one value stands alone, which plans better.
func tuple(parts []string) string {
	if len(parts) == 1 {
		return parts[0]
	}
	return "(" + strings.Join(parts, ", ") + ")"
}

func keyColumns(t *rowv1.Table) []string {
	var out []string
	for _, k := range t.Key {
		out = append(out, ident(t.Columns[k].Name))
	}
	return out
}

func columnList(t *rowv1.Table) string {
	var out []string
	for _, c := range t.Columns {
		out = append(out, ident(c.Name))
	}
	return strings.Join(out, ", ")
}

// textLane reports whether the table's rows travel in COPY's text format.
func textLane(t *rowv1.Table) bool {
	if t.Lane == sdk.LanePGCopyText {
		return true
	}
	for _, c := range t.Columns {
		if c.TextOnly {
			return true
		}
	}
	return false
}

// copySQL reads a chunk; a nil chunk is the whole table. ref is the table's name on this side.
func copySQL(t *rowv1.Table, ref *rowv1.TableRef, chunk *rowv1.Chunk) (string, error) {
	format := "binary"
	if textLane(t) {
		format = "text"
	}
	name := ident(ref.Schema, ref.Name)
	var r readRange
	if len(chunk.GetReadRange()) > 0 {
		if err := json.Unmarshal(chunk.ReadRange, &r); err != nil {
			return "", diag.Internal.New(chunkTable(t), err, "a range of unknown form")
		}
	}
	cond, err := r.where(t)
	if err != nil {
		return "", err
	}
	if cond == "" && len(t.Columns) > 0 {
		// Without a query the rows come straight from the heap.
		return "COPY " + name + " (" + columnList(t) + ") TO STDOUT (FORMAT " + format + ")", nil
	}
	if cond == "" {
		cond = "true"
	}
	return "COPY (SELECT " + columnList(t) + " FROM ONLY " + name + " WHERE " + cond + ") TO STDOUT (FORMAT " + format + ")", nil
}
