package postgres

import (
	"context"
	"fmt"
	"strings"
)

type index struct {
	Oid, Rel, Parent uint32
	Schema, Name     string
	Def              string
	// Con is the constraint that owns the index, 0 if none.
	Con          uint32
	ConName      string
	ConDef       string
	ConType      string
	Valid        bool
	Clustered    bool
	ReplIdentity bool
	Bytes        int64
	Tablespace   string
	Partitioned  bool
	Options      []string
}

const indexesSQL = `
	SELECT i.indexrelid, i.indrelid, coalesce(h.inhparent, 0), n.nspname, ic.relname, CASE WHEN k.oid IS NULL THEN pg_get_indexdef(i.indexrelid) ELSE '' END,
	       coalesce(k.oid, 0), coalesce(k.conname, ''), coalesce(pg_get_constraintdef(k.oid), ''), coalesce(k.contype::text, ''),
	       i.indisvalid AND i.indisready OR ic.relkind = 'I', i.indisclustered, i.indisreplident,
	       CASE WHEN ic.relkind = 'i' THEN coalesce(pg_relation_size(ic.oid), 0) ELSE 0 END, coalesce(s.spcname, ''), ic.relkind = 'I', coalesce(ic.reloptions, '{}')
	FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
	JOIN pg_namespace n ON n.oid = ic.relnamespace
	LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid
	LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
	LEFT JOIN pg_tablespace s ON s.oid = ic.reltablespace
	WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND `

func (c *catalog) readIndexes(ctx context.Context) error {
	found, err := list[index](ctx, c.tx, indexesSQL+userSchema+" AND "+notMember("pg_class", "c.oid")+" ORDER BY i.indexrelid")
	if err != nil {
		return err
	}
	for _, i := range found {
		c.indexStep(i)
	}
	names := map[uint32]string{}
	for _, i := range found {
		names[i.Oid] = ident(i.Schema, i.Name)
	}
	for _, i := range found {
		c.attachStep(i, names[i.Parent])
	}
	stats, err := list[struct {
		Rel    uint32
		Schema string
		Name   string
		Num    int16
		Target int32
	}](ctx, c.tx, `
		SELECT a.attrelid, n.nspname, c.relname, a.attnum, a.attstattarget::int4 FROM pg_attribute a
		JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('i', 'I') AND a.attstattarget >= 0 AND `+userSchema)
	for _, s := range stats {
		if n := c.byRef[objRef{pgClassClass, s.Rel}]; n != nil {
			n.sql = append(n.sql, fmt.Sprintf("ALTER INDEX %s ALTER COLUMN %d SET STATISTICS %d", ident(s.Schema, s.Name), s.Num, s.Target))
		}
	}
	return err
}

func (c *catalog) indexStep(i *index) {
	r := c.rels[i.Rel]
	if r == nil || c.skipped[i.Rel] != nil {
		return
	}
	n := &node{phase: inIndexes, kind: "index", object: display(i.Schema, i.Name), weight: max(i.Bytes, r.Bytes/8)}
	alter := "ALTER TABLE ONLY " + r.sql() + " "
	if r.Kind == "m" {
		n.phase, alter = inFinish, "ALTER MATERIALIZED VIEW "+r.sql()+" "
	}
	if c.keyIndex[i.Oid] {
		n.phase = inKeys
	}
	if i.Con != 0 {
		n.kind = map[string]string{"p": "primary key", "u": "unique constraint", "x": "exclusion constraint"}[i.ConType]
		n.sql = []string{alter + "ADD CONSTRAINT " + ident(i.ConName) + " " + i.keyDef()}
		n.object = r.display() + "." + i.ConName
	} else {
		n.sql = []string{i.Def}
	}
	if i.Clustered {
		n.sql = append(n.sql, alter+"CLUSTER ON "+ident(i.Name))
	}
	if i.ReplIdentity {
		n.sql = append(n.sql, alter+"REPLICA IDENTITY USING INDEX "+ident(i.Name))
	}
	if !i.Valid {
		n.gone = "the source marks the index as invalid"
	}
	c.inSpace(i.Tablespace, "ALTER INDEX "+ident(i.Schema, i.Name))
	c.addTo(objRef{pgClassClass, i.Rel}, objRef{pgClassClass, i.Oid}, n)
	c.alias(objRef{pgConstraintClass, i.Con}, n)
}

// keyDef is the constraint with the storage options of its index, which the server leaves out of all but exclusion constraints.
func (i *index) keyDef() string {
	if i.ConType == "x" || len(i.Options) == 0 {
		return i.ConDef
	}
	def, when := i.ConDef, ""
	for _, w := range []string{" DEFERRABLE INITIALLY DEFERRED", " DEFERRABLE"} {
		if before, ok := strings.CutSuffix(def, w); ok {
			def, when = before, w
			break
		}
	}
	return def + with(i.Options) + when
}

// attachStep ties a partition's index to that of the partitioned table; the last one makes the parent's valid.
func (c *catalog) attachStep(i *index, parentName string) {
	child, parent := c.byRef[objRef{pgClassClass, i.Oid}], c.byRef[objRef{pgClassClass, i.Parent}]
	if child == nil || parent == nil || i.Parent == 0 {
		return
	}
	c.addTo(objRef{pgClassClass, i.Rel}, objRef{}, &node{phase: max(child.phase, parent.phase), kind: "index attachment", object: display(i.Schema, i.Name),
		deps: []*node{child, parent},
		sql:  []string{"ALTER INDEX " + parentName + " ATTACH PARTITION " + ident(i.Schema, i.Name)}})
}

type constraint struct {
	Oid, Rel, Ref uint32
	Name, Def     string
	Type          string
	Valid, Local  bool
}

// readConstraints makes steps of foreign keys and of checks that are not valid; the others are inside their tables.
func (c *catalog) readConstraints(ctx context.Context) error {
	found, err := list[constraint](ctx, c.tx, `
		SELECT k.oid, k.conrelid, k.confrelid, k.conname, pg_get_constraintdef(k.oid), k.contype::text, k.convalidated, k.conislocal
		FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'f') AND k.conparentid = 0 AND (k.contype = 'f' OR (k.contype IN ('c', 'n') AND NOT k.convalidated AND k.conislocal))
		  AND `+userSchema+` ORDER BY k.oid`)
	if err != nil {
		return err
	}
	for _, k := range found {
		r := c.rels[k.Rel]
		if r == nil || c.skipped[k.Rel] != nil {
			continue
		}
		// Without ONLY: a check goes to the children, a foreign key of a partitioned table to its partitions.
		n := &node{phase: inConstraints, kind: "foreign key", object: r.display() + "." + k.Name, weight: r.Bytes,
			sql: []string{"ALTER TABLE " + r.sql() + " ADD CONSTRAINT " + ident(k.Name) + " " + k.Def}}
		switch {
		case r.Kind == "f":
			n.kind = "foreign table check"
		case k.Type == "c":
			n.kind = "check"
		case k.Type == "n":
			n.kind = "not null"
		}
		c.addTo(objRef{pgClassClass, k.Rel}, objRef{pgConstraintClass, k.Oid}, n)
		if k.Type == "f" && k.Valid && r.Kind != "p" {
			c.validateLater(r, k, n)
		}
	}
	return nil
}

// foreignKeyRows is the check of a foreign key's rows, which has a step of its own behind that of the key.
const foreignKeyRows = "foreign key rows"

// validateLater adds a foreign key without a look at the rows, which is a moment's lock on both tables, and then validates it under
// a lock that lets changes be applied. A partitioned table cannot have a key that is not valid.
func (c *catalog) validateLater(r *pgRel, k *constraint, n *node) {
	alter := "ALTER TABLE " + r.sql() + " "
	n.sql[0] += " NOT VALID"
	c.addTo(objRef{pgClassClass, k.Rel}, objRef{}, &node{phase: n.phase, kind: foreignKeyRows, object: n.object, weight: n.weight, deps: []*node{n},
		sql: []string{alter + "VALIDATE CONSTRAINT " + ident(k.Name)}})
}

func (c *catalog) readStatistics(ctx context.Context) error {
	found, err := list[struct {
		named
		Rel uint32
	}](ctx, c.tx, `
		SELECT e.oid, n.nspname, e.stxname, pg_get_statisticsobjdef(e.oid) || CASE WHEN coalesce(e.stxstattarget, -1) < 0 THEN ''
		       ELSE '; ALTER STATISTICS ' || quote_ident(n.nspname) || '.' || quote_ident(e.stxname) || ' SET STATISTICS ' || e.stxstattarget END, e.stxrelid
		FROM pg_statistic_ext e JOIN pg_namespace n ON n.oid = e.stxnamespace WHERE `+userSchema+` ORDER BY e.oid`)
	for _, s := range found {
		c.addTo(objRef{pgClassClass, s.Rel}, objRef{pgStatisticClass, s.Oid}, &node{phase: inIndexes, kind: "statistics", object: display(s.Schema, s.Name), sql: []string{s.SQL}})
	}
	return err
}
