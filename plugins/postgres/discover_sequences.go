package postgres

import (
	"context"
	"fmt"
	"strings"
)

// sequence is one sequence; Owner and OwnerColumn are set when it belongs to a column, Identity when it is the column's own.
type sequence struct {
	Oid                uint32
	Schema, Name       string
	Type               string
	Start, Increment   int64
	Min, Max, Cache    int64
	Cycle              bool
	Last               *int64
	Readable           bool
	Owner              uint32
	OwnerColumn        int16
	Identity, Unlogged bool
	// OwnerTable and OwnerName are the column's table, as statements name it, and the column's own name.
	OwnerTable, OwnerName string
	// OwnerUnlogged is how a column's table is: an identity column's sequence begins like its table.
	OwnerUnlogged bool
}

const sequencesSQL = `
	SELECT c.oid, n.nspname, c.relname, format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax,
	       s.seqcache, s.seqcycle,
	       CASE WHEN has_sequence_privilege(c.oid, 'SELECT,USAGE') THEN pg_sequence_last_value(c.oid) END,
	       has_sequence_privilege(c.oid, 'SELECT'),
	       coalesce(d.refobjid, 0), coalesce(d.refobjsubid, 0)::int2, coalesce(d.deptype = 'i', false), c.relpersistence = 'u', 
	       coalesce(quote_ident(ocn.nspname) || '.' || quote_ident(oc.relname), ''), coalesce(oa.attname, ''), coalesce(oc.relpersistence = 'u', false)
	FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
	LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
	     AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
	LEFT JOIN pg_class oc ON oc.oid = d.refobjid LEFT JOIN pg_namespace ocn ON ocn.oid = oc.relnamespace
	LEFT JOIN pg_attribute oa ON oa.attrelid = d.refobjid AND oa.attnum = d.refobjsubid
	WHERE c.relpersistence <> 't' AND `

func (c *catalog) readSequences(ctx context.Context) error {
	found, err := list[sequence](ctx, c.tx, sequencesSQL+userSchema+" AND "+notMember("pg_class", "c.oid")+" ORDER BY c.oid")
	if err != nil {
		return err
	}
	var unused []*sequence
	for _, s := range found {
		if s.Owner != 0 {
			c.owned[s.Owner] = append(c.owned[s.Owner], s)
		}
		if c.skipped[s.Owner] != nil {
			continue
		}
		if !s.Identity {
			c.add(objRef{pgClassClass, s.Oid}, &node{phase: inTables, kind: "sequence", object: display(s.Schema, s.Name),
				sql: []string{s.create()}})
		}
		switch {
		case s.Last != nil:
			c.valueStep(s, *s.Last, true)
		case !s.Readable:
			c.leave("sequence value", display(s.Schema, s.Name), "the role may not read it",
				"GRANT SELECT ON SEQUENCE "+ident(s.Schema, s.Name)+" TO the role, or set the value by hand")
		default:
			unused = append(unused, s)
		}
	}
	return c.unusedValues(ctx, unused)
}

// unusedValues reads sequences that have not been called since their last restart, many per round trip.
func (c *catalog) unusedValues(ctx context.Context, seqs []*sequence) error {
	const batch = 100 // the planner's time grows faster than the list
	for i := 0; i < len(seqs); i += batch {
		part := seqs[i:min(i+batch, len(seqs))]
		selects := make([]string, len(part))
		for j, s := range part {
			selects[j] = fmt.Sprintf("SELECT %d::int4, last_value, is_called FROM %s", j, ident(s.Schema, s.Name))
		}
		rows, err := list[struct {
			At     int32
			Last   int64
			Called bool
		}](ctx, c.tx, strings.Join(selects, " UNION ALL "))
		if err != nil {
			return err
		}
		for _, r := range rows {
			c.valueStep(part[r.At], r.Last, r.Called)
		}
	}
	return nil
}

// valueStep may be applied again with a newer value: Discover at the end of a migration gives it.
func (c *catalog) valueStep(s *sequence, last int64, called bool) {
	n := c.add(objRef{}, &node{phase: inFinish, kind: "sequence value", object: display(s.Schema, s.Name),
		sql: []string{fmt.Sprintf("SELECT pg_catalog.setval(%s, %d, %t)", s.regclass(), last, called)}})
	n.of = c.byRef[objRef{pgClassClass, s.Oid}] // so that it is chosen with it; an identity column's, with the table
	c.onSequence[s.Oid] = n
}

// regclass finds the sequence at a target. That of an identity column is the column's, whatever it is called there: nobody names
// it when they make the table by hand. The name, if it comes to that, is looked up late, or it would have to exist in any case.
func (s *sequence) regclass() string {
	name := literal(ident(s.Schema, s.Name))
	if !s.Identity {
		return name + "::pg_catalog.regclass"
	}
	return fmt.Sprintf("coalesce(pg_catalog.pg_get_serial_sequence(%s, %s)::pg_catalog.regclass, %s::pg_catalog.text::pg_catalog.regclass)",
		literal(s.OwnerTable), literal(s.OwnerName), name)
}

func (s *sequence) create() string {
	kind := "SEQUENCE "
	if s.Unlogged {
		kind = "UNLOGGED SEQUENCE "
	}
	return "CREATE " + kind + ident(s.Schema, s.Name) + " AS " + s.Type + s.options()
}

func (s *sequence) options() string {
	cycle := " NO CYCLE"
	if s.Cycle {
		cycle = " CYCLE"
	}
	return fmt.Sprintf(" START WITH %d INCREMENT BY %d MINVALUE %d MAXVALUE %d CACHE %d", s.Start, s.Increment, s.Min, s.Max, s.Cache) + cycle
}
