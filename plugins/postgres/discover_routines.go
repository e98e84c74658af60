package postgres

import (
	"context"
	"fmt"
	"strings"
)

type routine struct {
	Oid          uint32
	Schema, Name string
	Kind         string
	Identity     string
	SQL          string
}

func (c *catalog) readFunctions(ctx context.Context) error {
	if err := c.readCollations(ctx); err != nil {
		return err
	}
	found, err := list[routine](ctx, c.tx, `
		SELECT p.oid, n.nspname, p.proname, CASE WHEN l.lanname IN ('c', 'internal') THEN 'C function' WHEN p.prokind = 'p' THEN 'procedure' ELSE 'function' END,
		       pg_get_function_identity_arguments(p.oid), pg_get_functiondef(p.oid)
		FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
		WHERE p.prokind IN ('f', 'p', 'w') AND `+userSchema+` AND `+notMember("pg_proc", "p.oid")+`
		  AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass AND i.objid = p.oid AND i.deptype = 'i')
		ORDER BY p.oid`)
	if err != nil {
		return err
	}
	for _, r := range found {
		c.add(objRef{pgProcClass, r.Oid}, &node{phase: inTables, kind: r.Kind, sql: []string{r.SQL},
			object: display(r.Schema, r.Name) + "(" + r.Identity + ")"})
	}
	return c.readAggregates(ctx)
}

func (c *catalog) readCollations(ctx context.Context) error {
	found, err := list[named](ctx, c.tx, `
		SELECT o.oid, n.nspname, o.collname, 'provider = ' || CASE o.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END
		       || CASE WHEN to_jsonb(o) ->> 'colliculocale' IS NOT NULL OR to_jsonb(o) ->> 'colllocale' IS NOT NULL
		               THEN ', locale = ' || quote_literal(coalesce(to_jsonb(o) ->> 'colliculocale', to_jsonb(o) ->> 'colllocale'))
		               WHEN o.collprovider = 'i' THEN ', locale = ' || quote_literal(o.collcollate)
		               ELSE ', lc_collate = ' || quote_literal(o.collcollate) || ', lc_ctype = ' || quote_literal(o.collctype) END
		       || coalesce(', rules = ' || quote_literal(to_jsonb(o) ->> 'collicurules'), '')
		       || CASE WHEN o.collisdeterministic THEN '' ELSE ', deterministic = false' END
		FROM pg_collation o JOIN pg_namespace n ON n.oid = o.collnamespace
		WHERE `+userSchema+` AND `+notMember("pg_collation", "o.oid")+` ORDER BY o.oid`)
	for _, o := range found {
		c.add(objRef{pgCollationClass, o.Oid}, &node{phase: inTables, kind: "collation", object: display(o.Schema, o.Name),
			sql: []string{"CREATE COLLATION " + ident(o.Schema, o.Name) + " (" + o.SQL + ")"}})
	}
	return err
}

type aggregate struct {
	Oid                   uint32
	Schema, Name          string
	Args, Kind            string
	SFunc, SType          string
	Space, MSpace         int32
	Final, Combine        string
	Serial, Deserial      string
	MSFunc, MInv, MSType  string
	MFinal                string
	FinalExtra, MExtra    bool
	FinalModify, MModify  string
	Init, MInit           *string
	SortOp, Parallel      string
	DefFinal, DefFinalMov string
}

const aggregatesSQL = `
	SELECT p.oid, n.nspname, p.proname, pg_get_function_arguments(p.oid), a.aggkind::text,
	       a.aggtransfn::text, format_type(a.aggtranstype, NULL), a.aggtransspace, a.aggmtransspace,
	       a.aggfinalfn::text, a.aggcombinefn::text, a.aggserialfn::text, a.aggdeserialfn::text,
	       a.aggmtransfn::text, a.aggminvtransfn::text, CASE WHEN a.aggmtranstype = 0 THEN '' ELSE format_type(a.aggmtranstype, NULL) END,
	       a.aggmfinalfn::text, a.aggfinalextra, a.aggmfinalextra, a.aggfinalmodify::text, a.aggmfinalmodify::text,
	       a.agginitval, a.aggminitval,
	       CASE WHEN a.aggsortop = 0 THEN '' ELSE (SELECT 'OPERATOR(' || quote_ident(on_.nspname) || '.' || o.oprname || ')'
	         FROM pg_operator o JOIN pg_namespace on_ ON on_.oid = o.oprnamespace WHERE o.oid = a.aggsortop) END, p.proparallel::text,
	       CASE WHEN a.aggkind = 'n' THEN 'r' ELSE 'w' END, CASE WHEN a.aggkind = 'n' THEN 'r' ELSE 'w' END
	FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid JOIN pg_namespace n ON n.oid = p.pronamespace
	WHERE `

func (c *catalog) readAggregates(ctx context.Context) error {
	found, err := list[aggregate](ctx, c.tx, aggregatesSQL+userSchema+" AND "+notMember("pg_proc", "p.oid")+" ORDER BY p.oid")
	for _, a := range found {
		c.add(objRef{pgProcClass, a.Oid}, &node{phase: inTables, kind: "aggregate",
			object: display(a.Schema, a.Name) + "(" + a.Args + ")", sql: []string{a.sql()}})
	}
	return err
}

func (a *aggregate) sql() string {
	parts := []string{"SFUNC = " + a.SFunc, "STYPE = " + a.SType}
	put := func(name, value string) {
		if value != "" && value != "-" {
			parts = append(parts, name+" = "+value)
		}
	}
	flag := func(name string, on bool) {
		if on {
			parts = append(parts, name)
		}
	}
	modify := map[string]string{"r": "READ_ONLY", "s": "SHAREABLE", "w": "READ_WRITE"}
	quote := func(s *string) string {
		if s == nil {
			return ""
		}
		return strings.TrimSpace(literal(*s))
	}
	number := func(n int32) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprint(n)
	}
	put("SSPACE", number(a.Space))
	put("FINALFUNC", a.Final)
	flag("FINALFUNC_EXTRA", a.FinalExtra)
	if a.Final != "-" && a.FinalModify != a.DefFinal {
		put("FINALFUNC_MODIFY", modify[a.FinalModify])
	}
	put("COMBINEFUNC", a.Combine)
	put("SERIALFUNC", a.Serial)
	put("DESERIALFUNC", a.Deserial)
	put("INITCOND", quote(a.Init))
	put("MSFUNC", a.MSFunc)
	put("MINVFUNC", a.MInv)
	put("MSTYPE", a.MSType)
	put("MSSPACE", number(a.MSpace))
	put("MFINALFUNC", a.MFinal)
	flag("MFINALFUNC_EXTRA", a.MExtra)
	if a.MFinal != "-" && a.MModify != a.DefFinalMov {
		put("MFINALFUNC_MODIFY", modify[a.MModify])
	}
	put("MINITCOND", quote(a.MInit))
	put("SORTOP", a.SortOp)
	put("PARALLEL", map[string]string{"s": "SAFE", "r": "RESTRICTED"}[a.Parallel])
	flag("HYPOTHETICAL", a.Kind == "h")
	args := a.Args
	if args == "" {
		args = "*"
	}
	return "CREATE AGGREGATE " + ident(a.Schema, a.Name) + "(" + args + ") (" + strings.Join(parts, ", ") + ")"
}
