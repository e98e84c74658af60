package postgres

import (
	"context"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// theirs is what a database holds, as the statements that would make it: by kind and object, as steps name them.
type theirs map[string][]string

func stepName(st *connectorv1.SchemaStep) string { return st.Kind + "\x00" + st.Object }

// readTheirs reads a database the way Discover reads a source: equal objects give equal statements.
func readTheirs(ctx context.Context, tx pgx.Tx) (theirs, error) {
	if _, err := tx.Exec(ctx, "SET LOCAL search_path = pg_catalog"); err != nil { // so that names are printed whole
		return nil, err
	}
	c, err := readCatalog(ctx, tx, &connectorv1.DiscoverRequest{})
	if err != nil {
		return nil, err
	}
	out := theirs{}
	for _, st := range c.steps() {
		out[stepName(st)] = st.Sql
	}
	return out, nil
}

// table is what stands in the place of a table's step.
func (t theirs) table(st *connectorv1.SchemaStep) (sql []string, there bool) {
	for _, kind := range []string{"table", "partitioned table"} {
		if sql, there = t[kind+"\x00"+st.Object]; there {
			return sql, true
		}
	}
	return nil, false
}

// anything tells cheaply whether somebody has made something in a database; schemas alone do not count.
const anythingSQL = `SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ` + userSchema + `)
	OR EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE ` + userSchema + `)
	OR EXISTS (SELECT FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE ` + userSchema + `)
	OR EXISTS (SELECT FROM pg_opfamily f WHERE f.oid >= 16384) OR EXISTS (SELECT FROM pg_am a WHERE a.oid >= 16384)
	OR EXISTS (SELECT FROM pg_foreign_data_wrapper)`

// compared are kinds of steps whose object must not be there in another form. Tables are judged by tableDiffers
// instead; what is left out may be done twice.
var compared = map[string]bool{
	"sequence": true, "enum": true, "domain": true, "domain check": true, "range type": true, "composite type": true, "base type": true,
	"collation": true, "function": true, "C function": true, "procedure": true, "aggregate": true, "operator": true, "cast": true,
	"operator family": true, "operator family members": true, "operator class": true, "conversion": true, "transform": true,
	"text search dictionary": true, "text search configuration": true, "text search parser": true, "text search template": true,
	"language": true, "access method": true, "foreign data wrapper": true, "foreign server": true, "user mapping": true, "foreign table": true,
	"index": true, "primary key": true, "unique constraint": true, "exclusion constraint": true, "foreign key": true, "check": true, "not null": true, "foreign table check": true,
	"statistics": true, "view": true, "materialised view": true, "trigger": true, "rule": true, "policy": true, "event trigger": true, "publication": true,
}

// qualifier is a name before the name of a column, or of an object of a schema.
var qualifier = regexp.MustCompile(`(?:"(?:[^"]|"")+"|[A-Za-z_][\w$]*)\.`)

// plain leaves the names of tables before those of columns out of a query: since PostgreSQL 16 they are not written where there is
// but one table.
func (t theirs) plain(sql string) string {
	return qualifier.ReplaceAllStringFunc(sql, func(q string) string {
		name := strings.TrimSuffix(q, ".")
		_, isSchema := t["schema\x00"+strings.ReplaceAll(strings.Trim(name, `"`), `""`, `"`)]
		if isSchema || name == "pg_catalog" {
			return q
		}
		return ""
	})
}

// querying are kinds whose statements hold a query as the server writes it.
var querying = map[string]bool{"view": true, "materialised view": true, "rule": true}

// differs reports whether the object of a step exists, and not as the step would make it.
func (t theirs) differs(st *connectorv1.SchemaStep) (there, differs bool) {
	sql, there := t[stepName(st)]
	differs = there && made(sql[0]) != made(st.Sql[0])
	if differs && (querying[st.Kind] || strings.Contains(st.Sql[0], "BEGIN ATOMIC")) {
		differs = t.plain(made(sql[0])) != t.plain(made(st.Sql[0]))
	}
	return there, differs
}

// made says nothing of the shape that a view replaces: which views have one is not the view's own.
func made(sql string) string { return strings.Replace(sql, "CREATE OR REPLACE VIEW", "CREATE VIEW", 1) }
