package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// tableKinds are what relkinds of tables are called.
var tableKinds = map[string]string{"r": "table", "p": "partitioned table", "f": "foreign table"}

// tableCheck is a check that CREATE TABLE holds, unless it has to come late.
type tableCheck struct {
	Oid, Rel    uint32
	Name, Def   string
	Local, Late bool
}

func (k *tableCheck) sql() string { return "CONSTRAINT " + ident(k.Name) + " " + k.Def }

// readTableSteps writes one step per table.
func (c *catalog) readTableSteps(ctx context.Context) error {
	checks, err := list[tableCheck](ctx, c.tx, `
		SELECT k.oid, k.conrelid, k.conname, pg_get_constraintdef(k.oid), k.conislocal, false
		FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE k.contype = 'c' AND k.convalidated AND c.relkind IN ('r', 'p', 'f') AND `+userSchema+` ORDER BY k.conrelid, k.conname COLLATE "C"`)
	if err != nil {
		return err
	}
	for _, k := range checks {
		if r := c.rels[k.Rel]; r != nil && (k.Local || r.Partition) {
			c.checks[k.Rel] = append(c.checks[k.Rel], k)
		}
	}
	index := map[uint32]uint32{}
	for i, r := range c.read() {
		index[r.Oid] = uint32(i) + 1
	}
	for _, r := range c.order {
		kind := tableKinds[r.Kind]
		if kind == "" || c.skipped[r.Oid] != nil {
			continue
		}
		n := &node{phase: inTables, kind: kind, object: r.display(), table: index[r.Oid], weight: r.Bytes}
		n.sql = c.tableSQL(r)
		c.addTable(r, n)
	}
	for _, k := range checks {
		c.alias(objRef{pgConstraintClass, k.Oid}, c.byRef[objRef{pgClassClass, k.Rel}])
	}
	c.settleDefaults()
	return nil
}

func (c *catalog) addTable(r *pgRel, n *node) {
	c.add(objRef{pgClassClass, r.Oid}, n)
	c.alias(objRef{pgTypeClass, r.Type}, n)
	c.alias(objRef{pgTypeClass, c.arrayOf[r.Type]}, n)
	for _, col := range c.columns[r.Oid] {
		c.alias(objRef{pgAttrdefClass, col.DefaultOid}, n)
		c.alias(objRef{pgConstraintClass, col.NullCheckOid}, n)
	}
	for _, s := range c.owned[r.Oid] {
		seq := c.byRef[objRef{pgClassClass, s.Oid}]
		if s.Identity {
			c.alias(objRef{pgClassClass, s.Oid}, n)
		} else if seq != nil {
			n.deps = append(n.deps, seq)
		}
		if v := c.onSequence[s.Oid]; v != nil {
			v.deps, v.of = append(v.deps, n), n
		}
	}
	c.inSpace(r.Tablespace, "ALTER TABLE "+r.sql())
}

func (c *catalog) tableSQL(r *pgRel) []string {
	return append([]string{c.createTable(r)}, c.afterCreate(r)...)
}

func (c *catalog) createTable(r *pgRel) string {
	var b strings.Builder
	b.WriteString("CREATE ")
	switch {
	case r.Kind == "f":
		b.WriteString("FOREIGN ")
	case r.Persistence == "u":
		b.WriteString("UNLOGGED ")
	}
	b.WriteString("TABLE " + r.sql())
	var items []string
	for _, col := range c.columns[r.Oid] {
		switch {
		case r.OfType == "" && (col.Local || r.Partition):
			items = append(items, c.columnDef(r, col))
		case col.NotNull && col.NullCheck != "" && (col.NullCheckLocal || !c.parentSays(r, col)): // it would be named after the parent's
			items = append(items, "CONSTRAINT "+ident(col.NullCheck)+" NOT NULL "+ident(col.Name)+col.inheritance())
		}
	}
	for _, k := range c.checks[r.Oid] {
		if !k.Late {
			items = append(items, k.sql())
		}
	}
	if r.OfType != "" {
		b.WriteString(" OF " + r.OfType)
	}
	if len(items) > 0 || r.OfType == "" {
		b.WriteString(" (" + strings.Join(items, ", ") + ")")
	}
	if len(r.Parents) > 0 && !r.Partition {
		parents := make([]string, len(r.Parents))
		for i, p := range r.Parents {
			parents[i] = c.relName(p)
		}
		b.WriteString(" INHERITS (" + strings.Join(parents, ", ") + ")")
	}
	if f := c.foreign[r.Oid]; f != nil {
		b.WriteString(f.sql())
	}
	if r.Kind == "p" {
		b.WriteString(" PARTITION BY " + r.PartKey)
	}
	if r.Method != "" && r.Method != "heap" {
		b.WriteString(" USING " + ident(r.Method))
	}
	options := append([]string(nil), r.Options...)
	for _, o := range r.ToastOptions {
		options = append(options, "toast."+o)
	}
	b.WriteString(with(options))
	return b.String()
}

func (c *catalog) relName(oid uint32) string {
	if r := c.rels[oid]; r != nil {
		return r.sql()
	}
	return "missing"
}

// with writes storage options; the catalog holds them as name=value.
func with(options []string) string {
	if len(options) == 0 {
		return ""
	}
	parts := make([]string, len(options))
	for i, o := range options {
		name, value, _ := strings.Cut(o, "=")
		parts[i] = name + "=" + literal(value)
	}
	return " WITH (" + strings.Join(parts, ", ") + ")"
}

func (c *catalog) columnDef(r *pgRel, col *column) string {
	s := ident(col.Name) + " " + col.TypeName
	if col.Compression != "" {
		s += " COMPRESSION " + compressions[col.Compression]
	}
	if col.Collation != "" {
		s += " COLLATE " + col.Collation
	}
	switch {
	case col.Generated != "" && c.sameInParent(r, col): // older servers do not let a child say it again
	case col.Generated == "s":
		s += " GENERATED ALWAYS AS (" + col.Default + ") STORED"
	case col.Generated == "v":
		s += " GENERATED ALWAYS AS (" + col.Default + ") VIRTUAL"
	case col.Identity != "" && c.ownsIdentity(r, col):
		s += c.identity(r, col)
	case col.Identity != "": // the partitioned table's, and there with ATTACH PARTITION
	case col.Default != "" && !col.Late:
		s += " DEFAULT " + col.Default
	case c.parentHasDefault(r, col): // it would be this one's too
		s += " DEFAULT NULL"
	}
	if col.NotNull {
		if r.ownNullCheck(col) {
			s += " CONSTRAINT " + ident(col.NullCheck)
		}
		s += " NOT NULL" + col.inheritance()
	}
	return s
}

// ownNullCheck: the constraint of a NOT NULL column is not what the server would make of the two words.
func (r *pgRel) ownNullCheck(col *column) bool {
	return col.NullCheck != "" && (col.NullCheck != r.Name+"_"+col.Name+"_not_null" || col.NoInherit)
}

func (col *column) inheritance() string {
	if col.NoInherit {
		return " NO INHERIT"
	}
	return ""
}

func (c *catalog) identity(r *pgRel, col *column) string {
	s := " GENERATED ALWAYS AS IDENTITY"
	if col.Identity == "d" {
		s = " GENERATED BY DEFAULT AS IDENTITY"
	}
	for _, q := range c.owned[r.Oid] {
		if q.Identity && q.OwnerColumn == col.Num {
			s += " (SEQUENCE NAME " + ident(q.Schema, q.Name) + q.options() + ")"
		}
	}
	return s
}

// ownsIdentity: since PostgreSQL 17 the identity columns of partitions take their values from their parent's sequence.
func (c *catalog) ownsIdentity(r *pgRel, col *column) bool {
	return !r.Partition || slices.ContainsFunc(c.owned[r.Oid], func(q *sequence) bool { return q.Identity && q.OwnerColumn == col.Num })
}

// afterCreate is what CREATE TABLE has no words for.
func (c *catalog) afterCreate(r *pgRel) []string {
	var out []string
	alter := "ALTER TABLE ONLY " + r.sql() + " "
	for _, col := range c.columns[r.Oid] {
		at := alter + "ALTER COLUMN " + ident(col.Name) + " "
		inherited := !col.Local && !r.Partition
		if inherited || r.OfType != "" {
			out = append(out, inheritedColumn(at, col)...)
			if c.setsNotNull(r, col) {
				out = append(out, at+"SET NOT NULL")
			}
		}
		out = append(out, columnSettings(at, col, inherited)...)
		if inherited && col.Toastable && r.Kind != "f" {
			out = append(out, at+"SET COMPRESSION "+cmp.Or(compressions[col.Compression], "DEFAULT"))
		}
		if f := c.foreign[r.Oid]; f != nil && f.columns[col.Num] != "" {
			out = append(out, at+"OPTIONS ("+f.columns[col.Num]+")")
		}
	}
	if r.Partition && len(r.Parents) == 1 {
		out = append(out, "ALTER TABLE ONLY "+c.relName(r.Parents[0])+" ATTACH PARTITION "+r.sql()+" "+r.Bound)
	}
	for _, s := range c.owned[r.Oid] {
		i := slices.IndexFunc(c.columns[r.Oid], func(col *column) bool { return col.Num == s.OwnerColumn })
		if s.Identity && s.Unlogged != s.OwnerUnlogged {
			out = append(out, "ALTER SEQUENCE "+ident(s.Schema, s.Name)+" SET "+map[bool]string{true: "UNLOGGED", false: "LOGGED"}[s.Unlogged])
		}
		if !s.Identity && i >= 0 {
			out = append(out, "ALTER SEQUENCE "+ident(s.Schema, s.Name)+" OWNED BY "+r.sql()+"."+ident(c.columns[r.Oid][i].Name))
		}
	}
	return append(out, identityOf(r)...)
}

// identityOf is what the log holds of a changed row, where it is not the primary key and no index has to be there first.
func identityOf(r *pgRel) []string {
	switch r.Identity {
	case "f":
		return []string{"ALTER TABLE ONLY " + r.sql() + " REPLICA IDENTITY FULL"}
	case "n":
		if r.Kind == "r" || r.Kind == "p" || r.Kind == "m" {
			return []string{"ALTER TABLE ONLY " + r.sql() + " REPLICA IDENTITY NOTHING"}
		}
	}
	return nil
}

// columnSettings is how a column is stored and sampled. An inherited one begins with its parent's settings.
func columnSettings(at string, col *column, inherited bool) []string {
	var out []string
	if col.Storage != "" || inherited && col.Toastable {
		out = append(out, at+"SET STORAGE "+map[string]string{"p": "PLAIN", "e": "EXTERNAL", "m": "MAIN", "x": "EXTENDED"}[cmp.Or(col.Storage, col.TypeStorage)])
	}
	if col.Statistics >= 0 {
		out = append(out, at+fmt.Sprintf("SET STATISTICS %d", col.Statistics))
	}
	if len(col.Options) > 0 {
		out = append(out, at+"SET"+strings.TrimPrefix(with(col.Options), " WITH"))
	}
	return out
}

var compressions = map[string]string{"p": "pglz", "l": "lz4"}

// inheritedColumn sets what a child may have otherwise than its parent.
func inheritedColumn(at string, col *column) []string {
	var out []string
	switch {
	case col.Generated != "":
	case col.Default != "" && !col.Late:
		out = append(out, at+"SET DEFAULT "+col.Default)
	case col.Identity == "":
		out = append(out, at+"DROP DEFAULT")
	}
	return out
}

// setsNotNull: a column that is inherited, or of a type's, is NOT NULL of its own accord.
func (c *catalog) setsNotNull(r *pgRel, col *column) bool {
	return col.NotNull && (col.NullCheck == "" || col.NullCheckLocal && !col.NoInherit) && (r.OfType != "" || col.NullCheck != "" || !c.parentSays(r, col))
}

// parentSays: NULL is kept out of the column of a parent, and so of this one.
func (c *catalog) parentSays(r *pgRel, col *column) bool {
	return slices.ContainsFunc(r.Parents, func(p uint32) bool {
		return slices.ContainsFunc(c.columns[p], func(of *column) bool { return of.Name == col.Name && of.NotNull })
	})
}
