package postgres

import (
	"context"

	"github.com/droverdb/drover/plugins/sdk"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

type column struct {
	Rel      uint32
	Num      int16
	Name     string
	Type     uint32
	TypeName string
	// NotNull: there is no NULL in it. Since PostgreSQL 18 that is a constraint with a name, which may not hold for older rows.
	NotNull        bool
	NullCheck      string
	NullCheckOid   uint32
	NullCheckLocal bool
	NoInherit      bool
	// Default is the expression of a default or of a generated column; DefaultOid its pg_attrdef row.
	Default    string
	DefaultOid uint32
	Generated  string
	Identity   string
	// Collation is set when it is not the type's own.
	Collation string
	// Loose: equality or order is not that of the bytes.
	Loose bool
	// Storage is set when it is not the type's own, TypeStorage always. Toastable: values may be compressed or lie elsewhere.
	Storage, TypeStorage string
	Toastable            bool
	Compression          string
	Statistics           int32
	Options              []string
	Local                bool
	// Stamp is the transaction that wrote the column's row of the catalog.
	Stamp int64
	// Late: the default is a step of its own.
	Late bool
}

const columnsSQL = `
	SELECT a.attrelid, a.attnum, a.attname, a.atttypid, format_type(a.atttypid, a.atttypmod), a.attnotnull AND coalesce(nn.convalidated, true),
	       coalesce(nn.conname, ''), coalesce(nn.oid, 0), coalesce(nn.conislocal, true), coalesce(nn.connoinherit, false),
	       coalesce(pg_get_expr(d.adbin, d.adrelid), ''), coalesce(d.oid, 0), a.attgenerated::text, a.attidentity::text,
	       CASE WHEN a.attcollation <> 0 AND a.attcollation <> t.typcollation
	            THEN quote_ident(o_n.nspname) || '.' || quote_ident(o.collname) ELSE '' END,
	       CASE WHEN a.attcollation = 0 THEN false
	            WHEN o.collname = 'default' AND o_n.nspname = 'pg_catalog' THEN NOT base.bytewise
	            ELSE NOT o.collisdeterministic OR NOT (coalesce(o.collcollate, '') IN ('C', 'POSIX') AND o.collprovider = 'c' OR o.collprovider = 'b') END,
	       CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage::text ELSE '' END, t.typstorage::text, t.typstorage <> 'p', a.attcompression::text,
	       coalesce(a.attstattarget, -1)::int4, coalesce(a.attoptions, '{}'), a.attislocal, a.xmin::text::bigint, false
	FROM pg_attribute a
	JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
	JOIN pg_type t ON t.oid = a.atttypid
	CROSS JOIN (SELECT datcollate IN ('C', 'POSIX') AND datlocprovider = 'c' OR datlocprovider = 'b' AS bytewise
	            FROM pg_database WHERE datname = current_database()) base
	LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	LEFT JOIN pg_collation o ON o.oid = a.attcollation
	LEFT JOIN pg_constraint nn ON nn.conrelid = a.attrelid AND nn.contype = 'n' AND nn.conkey = ARRAY[a.attnum]
	LEFT JOIN pg_namespace o_n ON o_n.oid = o.collnamespace
	WHERE c.relkind IN ('r', 'p', 'c', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped AND ` + userSchema + `
	ORDER BY a.attrelid, a.attnum`

func (c *catalog) readColumns(ctx context.Context) error {
	cols, err := list[column](ctx, c.tx, columnsSQL)
	if err != nil {
		return err
	}
	for _, col := range cols {
		c.columns[col.Rel] = append(c.columns[col.Rel], col)
	}
	for i, r := range c.read() {
		t := c.tables[i]
		for _, col := range c.moved(r) {
			t.Columns = append(t.Columns, &rowv1.Column{
				Name: col.Name, NativeType: col.TypeName, LogicalType: c.logical(col.Type), Nullable: !col.NotNull,
				NativeId: col.Type, LooseEquality: col.Loose, TextOnly: c.textOnly(col.Type),
			})
			if c.textOnly(col.Type) {
				t.Lane = sdk.LanePGCopyText
			}
		}
		t.NativeForm = c.form(r)
	}
	return nil
}

// read lists the relations whose rows move, in the order of their indexes.
func (c *catalog) read() []*pgRel {
	var out []*pgRel
	for _, r := range c.order {
		if r.Kind == "r" && c.skipped[r.Oid] == nil {
			out = append(out, r)
		}
	}
	return out
}

// moved leaves generated columns out: the target computes them.
func (c *catalog) moved(r *pgRel) []*column {
	var out []*column
	for _, col := range c.columns[r.Oid] {
		if col.Generated == "" {
			out = append(out, col)
		}
	}
	return out
}
