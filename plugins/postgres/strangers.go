package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// stranger is an object in a schema named drover that Drover did not make. Table is the name of one that holds rows.
type stranger struct{ Kind, Object, Table string }

// strangersSQL knows Drover's own by name and columns, which every version of it has had, and the domains that the sink makes.
const strangersSQL = `
	WITH own(name, cols) AS (VALUES ('pipeline', '{name,version,memo,created}'::name[]), ('stream', '{pipeline,epoch,position,updated}'), ('chunk', '{pipeline,chunk,epoch,written,coverage}'),
		('step', '{pipeline,step,done}'), ('key_coverage', '{pipeline,tbl,key,coverage}'), ('aside', '{pipeline,tbl,reason}'))
	SELECT i.type, i.identity, coalesce(c.relname, '')
	FROM pg_namespace n JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.deptype = 'n' AND d.objsubid = 0
	CROSS JOIN pg_identify_object(d.classid, d.objid, 0) i
	LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind IN ('r', 'p')
	WHERE n.nspname = 'drover' AND i.identity IS NOT NULL
	  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = d.classid AND x.objid = d.objid AND (x.deptype = 'e'
		OR x.deptype IN ('a', 'i') AND x.refclassid = 'pg_class'::regclass AND d.classid = 'pg_class'::regclass))
	  AND NOT EXISTS (SELECT FROM own o WHERE o.name = c.relname AND o.cols <@ ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid))
	  AND NOT EXISTS (SELECT FROM pg_type t WHERE d.classid = 'pg_type'::regclass AND t.oid = d.objid AND t.typtype = 'd' AND t.typname ~ '^array_[0-9]+$')
	ORDER BY c.relname IS NULL, 1, 2`

func strangers(ctx context.Context, tx pgx.Tx) ([]*stranger, error) {
	return list[stranger](ctx, tx, strangersSQL)
}

// listed names some of them for a message.
func listed(found []*stranger) string {
	const shown = 5
	var names []string
	for _, s := range found[:min(len(found), shown)] {
		names = append(names, s.Kind+" "+s.Object)
	}
	if len(found) > shown {
		names = append(names, fmt.Sprintf("%d more", len(found)-shown))
	}
	return strings.Join(names, ", ")
}

const renameTheirs = "ALTER SCHEMA drover RENAME TO …;"

// strangersHere refuses a source that keeps things of its user's where Drover keeps its own, and nobody would copy them. What the
// patterns leave out is listed as everything else that they leave out.
func (c *catalog) strangersHere(ctx context.Context) error {
	found, err := strangers(ctx, c.tx)
	var wanted []*stranger
	for _, s := range found {
		if c.filter.match("drover", s.Table) {
			wanted = append(wanted, s)
			continue
		}
		c.leave(s.Kind, s.Object, "the patterns leave it out, and nothing of a schema named drover is copied", renameTheirs+"  -- if it is wanted")
	}
	if len(wanted) > 0 {
		c.problem = append(c.problem, problem(diag.SchemaTaken, "source", "schema drover", "it holds "+listed(wanted)+", which Drover did not make and would not copy", renameTheirs,
			"-- or leave it out with --exclude 'drover.*'"))
	}
	return err
}

// strangers refuses a target that keeps other things where Drover would keep its own, before it mixes the two. What came later stays.
func (f *findings) strangers(ctx context.Context, tx pgx.Tx, resuming bool) error {
	if resuming {
		return nil
	}
	found, err := strangers(ctx, tx)
	if err == nil {
		f.check(len(found) > 0, diag.SchemaTaken, "schema drover", "it holds "+listed(found)+", which Drover did not make", renameTheirs)
	}
	return err
}

// dropOwn removes what Drover keeps, and the schema too if it holds nothing else. A view over Drover's tables goes with them.
func dropOwn(ctx context.Context, tx pgx.Tx, resp *connectorv1.ReleaseResponse) error {
	found, err := strangers(ctx, tx)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		_, err = tx.Exec(ctx, "DROP SCHEMA drover CASCADE")
		resp.Removed = append(resp.Removed, "schema drover")
		return err
	}
	_, err = tx.Exec(ctx, "DROP TABLE drover.pipeline, drover.stream, drover.chunk, drover.step, drover.key_coverage, drover.aside CASCADE")
	resp.Removed = append(resp.Removed, "Drover's tables in schema drover, which holds "+listed(found)+" too")
	return err
}
