package postgres

import (
	"context"
	"strings"
)

func (c *catalog) readViews(ctx context.Context) error {
	found, err := list[struct {
		Oid, Rule uint32
		Def       string
		Populated bool
	}](ctx, c.tx, `
		SELECT c.oid, coalesce(r.oid, 0), pg_get_viewdef(c.oid), c.relispopulated FROM pg_class c
		JOIN pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_rewrite r ON r.ev_class = c.oid AND r.rulename = '_RETURN'
		WHERE c.relkind IN ('v', 'm') AND c.relpersistence <> 't' AND `+userSchema+` AND `+notMember("pg_class", "c.oid")+` ORDER BY c.oid`)
	if err != nil {
		return err
	}
	for _, v := range found {
		r := c.rels[v.Oid]
		n := &node{phase: inFinish, kind: "view", object: r.display(), weight: r.Bytes}
		def := strings.TrimSuffix(strings.TrimSpace(v.Def), ";")
		if r.Kind == "m" {
			n.kind = "materialised view"
			method := ""
			if r.Method != "" && r.Method != "heap" {
				method = " USING " + ident(r.Method)
			}
			n.sql = append([]string{"CREATE MATERIALIZED VIEW " + r.sql() + method + with(r.Options) + " AS " + def + " WITH NO DATA"}, c.viewSettings(r)...)
			c.inSpace(r.Tablespace, "ALTER MATERIALIZED VIEW "+r.sql())
		} else {
			n.sql = append([]string{"CREATE VIEW " + r.sql() + with(r.Options) + " AS " + def}, c.viewDefaults(r)...)
		}
		c.add(objRef{pgClassClass, v.Oid}, n)
		c.alias(objRef{pgRewriteClass, v.Rule}, n)
		c.alias(objRef{pgTypeClass, r.Type}, n)
		c.alias(objRef{pgTypeClass, c.arrayOf[r.Type]}, n)
		for _, col := range c.columns[v.Oid] {
			c.alias(objRef{pgAttrdefClass, col.DefaultOid}, n)
		}
		if r.Kind == "m" && v.Populated {
			c.refresh(r, n)
		}
	}
	return nil
}

// refresh is a step of its own: a query that fails must not take the view's definition with it.
func (c *catalog) refresh(r *pgRel, n *node) {
	n.fill = c.add(objRef{}, &node{phase: inFinish, kind: "materialised view rows", object: r.display(), weight: r.Bytes,
		deps: []*node{n}, sql: []string{"REFRESH MATERIALIZED VIEW " + r.sql()}})
}

// viewSettings is what CREATE MATERIALIZED VIEW has no words for.
func (c *catalog) viewSettings(r *pgRel) []string {
	var out []string
	for _, col := range c.columns[r.Oid] {
		at := "ALTER MATERIALIZED VIEW " + r.sql() + " ALTER COLUMN " + ident(col.Name) + " "
		out = append(out, columnSettings(at, col, false)...)
		if col.Compression != "" {
			out = append(out, at+"SET COMPRESSION "+compressions[col.Compression])
		}
	}
	return append(out, identityOf(r)...)
}

func (c *catalog) viewDefaults(r *pgRel) []string {
	var out []string
	for _, col := range c.columns[r.Oid] {
		if col.Default != "" {
			out = append(out, "ALTER VIEW "+r.sql()+" ALTER COLUMN "+ident(col.Name)+" SET DEFAULT "+col.Default)
		}
	}
	return out
}

type trigger struct {
	Oid, Rel uint32
	Name     string
	Def      string
	Enabled  string
	IsRule   bool
}

func (c *catalog) readTriggers(ctx context.Context) error {
	found, err := list[trigger](ctx, c.tx, `
		SELECT t.oid, t.tgrelid, t.tgname, pg_get_triggerdef(t.oid), t.tgenabled::text, false FROM pg_trigger t
		JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND `+userSchema+`
		UNION ALL
		SELECT r.oid, r.ev_class, r.rulename, pg_get_ruledef(r.oid), r.ev_enabled::text, true FROM pg_rewrite r
		JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE r.rulename <> '_RETURN' AND `+userSchema+` ORDER BY 1`)
	if err != nil {
		return err
	}
	for _, t := range found {
		r := c.rels[t.Rel]
		if r == nil || c.skipped[t.Rel] != nil {
			continue
		}
		n := &node{phase: inFinish, kind: "trigger", object: r.display() + "." + t.Name, sql: []string{t.Def}}
		ref, word := objRef{pgTriggerClass, t.Oid}, "TRIGGER "
		if t.IsRule {
			n.kind, ref, word = "rule", objRef{pgRewriteClass, t.Oid}, "RULE "
		}
		c.addTo(objRef{pgClassClass, t.Rel}, ref, n)
		c.stateSteps(n, t.Enabled, r.sql(), word+ident(t.Name))
	}
	return c.readTriggerClones(ctx)
}

func (c *catalog) readPolicies(ctx context.Context) error {
	found, err := list[struct {
		Oid, Rel uint32
		Name     string
		SQL      string
	}](ctx, c.tx, `
		SELECT p.oid, p.polrelid, p.polname, CASE WHEN p.polpermissive THEN '' ELSE ' AS RESTRICTIVE' END
		       || CASE p.polcmd WHEN 'r' THEN ' FOR SELECT' WHEN 'a' THEN ' FOR INSERT' WHEN 'w' THEN ' FOR UPDATE' WHEN 'd' THEN ' FOR DELETE' ELSE '' END
		       || CASE WHEN p.polroles = '{0}' THEN '' ELSE ' TO ' || (SELECT string_agg(CASE WHEN o = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(o)) END, ', ')
		              FROM unnest(p.polroles) o) END
		       || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
		       || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
		FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE `+userSchema+` ORDER BY p.oid`)
	if err != nil {
		return err
	}
	for _, p := range found {
		if r := c.rels[p.Rel]; r != nil && c.skipped[p.Rel] == nil {
			c.addTo(objRef{pgClassClass, p.Rel}, objRef{pgPolicyClass, p.Oid}, &node{phase: inFinish, kind: "policy", object: r.display() + "." + p.Name,
				sql: []string{"CREATE POLICY " + ident(p.Name) + " ON " + r.sql() + p.SQL}})
		}
	}
	for _, r := range c.order {
		if c.skipped[r.Oid] != nil || !r.RowSecurity && !r.ForceSecurity {
			continue
		}
		n := &node{phase: inFinish, kind: "row security", object: r.display(), deps: []*node{c.byRef[objRef{pgClassClass, r.Oid}]}}
		if r.RowSecurity {
			n.sql = append(n.sql, "ALTER TABLE "+r.sql()+" ENABLE ROW LEVEL SECURITY")
		}
		if r.ForceSecurity {
			n.sql = append(n.sql, "ALTER TABLE ONLY "+r.sql()+" FORCE ROW LEVEL SECURITY")
		}
		c.addTo(objRef{pgClassClass, r.Oid}, objRef{}, n)
	}
	return nil
}
