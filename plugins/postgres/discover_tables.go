package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/keys"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// pgRel is anything of pg_class that has columns or rows.
type pgRel struct {
	Oid          uint32
	Schema, Name string
	// Kind is relkind, Persistence relpersistence, Identity relreplident.
	Kind, Persistence, Identity string
	Partition                   bool
	Options, ToastOptions       []string
	RowSecurity, ForceSecurity  bool
	Tablespace, Method          string
	PartKey, Bound, OfType      string
	Rows                        float64
	Bytes                       int64
	Type                        uint32
	Parents                     []uint32
	File, Toast                 uint32
	Width                       int16
}

func (r *pgRel) sql() string     { return ident(r.Schema, r.Name) }
func (r *pgRel) display() string { return display(r.Schema, r.Name) }

const relationsSQL = `
	SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relpersistence::text, c.relreplident::text, c.relispartition,
	       coalesce(c.reloptions, '{}'), coalesce(t.reloptions, '{}'), c.relrowsecurity, c.relforcerowsecurity,
	       coalesce(s.spcname, ''), coalesce(a.amname, ''),
	       CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) ELSE '' END, coalesce(pg_get_expr(c.relpartbound, c.oid), ''),
	       CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) ELSE '' END,
	       c.reltuples::float8, CASE WHEN c.relkind IN ('r', 'm') THEN coalesce(pg_relation_size(c.oid), 0) + coalesce(pg_relation_size(t.oid), 0) ELSE 0 END, c.reltype,
	       ARRAY(SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = c.oid ORDER BY i.inhseqno),
	       c.relfilenode, c.reltoastrelid, c.relnatts
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
	LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
	LEFT JOIN pg_am a ON a.oid = c.relam
	WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND c.relpersistence <> 't' AND `

func (c *catalog) readRelations(ctx context.Context) error {
	rels, err := list[pgRel](ctx, c.tx, relationsSQL+userSchema+" AND "+notMember("pg_class", "c.oid")+
		` ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`)
	if err != nil {
		return err
	}
	for _, r := range rels {
		if r.Kind == "r" || r.Kind == "p" {
			// A partition is chosen with its root, or by its own name.
			if !c.filter.match(r.Schema, r.Name) {
				c.skipped[r.Oid] = r
			}
		}
		c.rels[r.Oid] = r
		c.order = append(c.order, r)
	}
	c.followPartitions()
	for _, r := range c.order {
		if r.Kind == "r" && c.skipped[r.Oid] == nil {
			c.tables = append(c.tables, c.newTable(r))
		}
	}
	return nil
}

// followPartitions lets a chosen partitioned table bring its partitions, and a chosen partition its parent's definition.
func (c *catalog) followPartitions() {
	for again := true; again; {
		again = false
		for _, r := range c.order {
			for _, p := range r.Parents {
				if !r.Partition {
					continue
				}
				parentIn, in := c.skipped[p] == nil, c.skipped[r.Oid] == nil
				if parentIn && !in && len(c.filter.include) > 0 && !c.filter.excluded(r.Schema, r.Name) {
					delete(c.skipped, r.Oid)
					again = true
				}
				if in && !parentIn {
					delete(c.skipped, p)
					again = true
				}
			}
		}
	}
}

func (f *filter) excluded(schema, table string) bool {
	return slices.ContainsFunc(f.exclude, func(p *pattern) bool { return p.fits(schema, table) })
}

func (c *catalog) newTable(r *pgRel) *rowv1.Table {
	ref := &rowv1.TableRef{Schema: r.Schema, Name: r.Name}
	return &rowv1.Table{
		Index: uint32(len(c.tables)), Source: ref, Target: &rowv1.TableRef{Schema: r.Schema, Name: r.Name},
		NativeId: r.Oid, NotLogged: r.Persistence == "u", Lane: sdk.LanePGCopyBinary, EstimatedRows: int64(max(r.Rows, 0)), EstimatedBytes: r.Bytes,
	}
}

// key is what may identify a row. An index named by REPLICA IDENTITY goes before the primary key: only its columns are
// in the log when a row is deleted.
type key struct {
	Table, Index    uint32
	Primary, Unique bool
	Identity        bool
	Columns         []int16
}

func (c *catalog) readKeys(ctx context.Context) error {
	found, err := list[key](ctx, c.tx, `
		SELECT i.indrelid, i.indexrelid, i.indisprimary, i.indisunique, i.indisreplident,
		       (i.indkey::int2[])[0:i.indnkeyatts - 1]
		FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
		  AND (i.indimmediate OR i.indisprimary) AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid
		       AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) AND `+mayBeNull+`) AND `+userSchema+`
		ORDER BY i.indrelid, i.indisreplident DESC, i.indisprimary DESC, i.indnkeyatts, i.indexrelid`)
	if err != nil {
		return err
	}
	best := map[uint32]*key{}
	for _, k := range found {
		if k.Identity || k.Primary {
			c.keyIndex[k.Index] = true
		}
		if best[k.Table] == nil {
			best[k.Table] = k
			c.keyIndex[k.Index] = true
		}
	}
	for i, r := range c.read() {
		c.setKey(c.tables[i], r, best[r.Oid])
	}
	return nil
}

// setKey decides how the table is gated: chunk by chunk only if the bytes of its key sort as the server sorts it.
func (c *catalog) setKey(t *rowv1.Table, r *pgRel, k *key) {
	if k == nil {
		t.Gate, t.GateReason = rowv1.GateMode_GATE_MODE_UNIT_FULL_ROW, "no key"
		return
	}
	t.Gate, t.PrimaryKey = rowv1.GateMode_GATE_MODE_KEYED, k.Primary
	cols := c.moved(r)
	for _, n := range k.Columns {
		i := slices.IndexFunc(cols, func(col *column) bool { return col.Num == n })
		if i < 0 { // a generated column in the key does not move
			t.Key, t.PrimaryKey = nil, false
			t.Gate, t.GateReason = rowv1.GateMode_GATE_MODE_UNIT_FULL_ROW, "the key holds a generated column"
			return
		}
		t.Key = append(t.Key, uint32(i))
		if t.GateReason == "" {
			t.GateReason = c.unordered(cols[i])
		}
	}
	if t.GateReason != "" {
		t.Gate = rowv1.GateMode_GATE_MODE_UNIT
	}
}

// unordered says why a column's values do not sort as bytes, or nothing.
func (c *catalog) unordered(col *column) string {
	switch {
	case c.types[col.Type] != nil && c.types[col.Type].Kind == "d":
		return fmt.Sprintf("key column %s is of domain %s", col.Name, col.TypeName)
	case !keys.Ordered(col.Type):
		return fmt.Sprintf("key column %s is of type %s", col.Name, col.TypeName)
	case col.Loose, col.Type == 1042:
		return fmt.Sprintf("key column %s sorts by its collation", col.Name)
	case textual(col.Type) && !sameOrder(c.encoding()):
		return fmt.Sprintf("key column %s sorts by its bytes in %s", col.Name, c.encoding())
	}
	return ""
}

func (c *catalog) encoding() string { return c.tx.Conn().PgConn().ParameterStatus("server_encoding") }

func textual(oid uint32) bool { return oid == oidText || oid == 1043 || oid == 19 }

// sameOrder: text that arrives in UTF-8 sorts as the server sorts its own bytes. In LATIN1 a byte is a code point;
// SQL_ASCII hands its bytes over as they are.
func sameOrder(encoding string) bool {
	return encoding == "UTF8" || encoding == "LATIN1" || encoding == "SQL_ASCII"
}
