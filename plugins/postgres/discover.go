package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// discoverPage is how many tables or steps one page holds: far below any message limit.
const discoverPage = 1000

// Discover reads the whole catalog in one snapshot, with a fixed number of queries whatever the number of
// tables. Repeating it gives the same indexes and ids as long as nobody changes the schema.
func (s *Source) Discover(ctx context.Context, req *connectorv1.DiscoverRequest, emit func(*connectorv1.DiscoverResponse) error) error {
	conn, err := connect(ctx, s.cfg, "discover", connectorv1.Role_ROLE_SOURCE)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return mapError(err, "source")
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // read only
	c, err := readCatalog(ctx, tx, req)
	if err != nil {
		return mapError(err, "source › catalog")
	}
	return emitPages(c, emit)
}

// catalog collects what the queries find. Readers fill nodes; link joins them by pg_depend.
type catalog struct {
	tx      pgx.Tx
	filter  *filter
	types   map[uint32]*pgType
	rels    map[uint32]*pgRel
	order   []*pgRel
	columns map[uint32][]*column
	arrayOf map[uint32]uint32
	// owned are the sequences of a table's columns; onSequence the steps that set values.
	owned  map[uint32][]*sequence
	checks map[uint32][]*tableCheck
	// shells are types that have to be announced before their functions; foreign what only foreign tables have.
	shells     map[uint32]*node
	foreign    map[uint32]*foreignTable
	onSequence map[uint32]*node
	nodes      []*node
	owners     []*node
	byRef      map[objRef]*node
	tables     []*rowv1.Table
	left       []*connectorv1.NotCarried
	problem    []*connectorv1.Problem
	// skipped are tables the patterns leave out, by oid.
	skipped map[uint32]*pgRel
	// keyIndex holds the indexes that identify rows: they are built before the load.
	keyIndex map[uint32]bool
	// spaces holds, by tablespace, the statements that would move there what lies there at the source.
	spaces map[string][]string
}

func readCatalog(ctx context.Context, tx pgx.Tx, req *connectorv1.DiscoverRequest) (*catalog, error) {
	f, err := newFilter(req.Include, req.Exclude)
	if err != nil {
		return nil, err
	}
	c := &catalog{
		tx: tx, filter: f, types: map[uint32]*pgType{}, rels: map[uint32]*pgRel{}, columns: map[uint32][]*column{},
		arrayOf: map[uint32]uint32{}, owned: map[uint32][]*sequence{}, onSequence: map[uint32]*node{}, byRef: map[objRef]*node{},
		skipped: map[uint32]*pgRel{}, keyIndex: map[uint32]bool{}, shells: map[uint32]*node{}, checks: map[uint32][]*tableCheck{}, foreign: map[uint32]*foreignTable{},
		spaces: map[string][]string{},
	}
	if req.ValuesOnly {
		return c, c.readSequences(ctx)
	}
	if req.NamesOnly {
		return c, c.readRelations(ctx)
	}
	for _, read := range []struct {
		what string
		f    func(context.Context) error
	}{
		{"types", c.readTypes}, {"tables", c.readRelations}, {"columns", c.readColumns}, {"keys", c.readKeys},
		{"schemas", c.readSchemas}, {"type definitions", c.readTypeSteps}, {"functions", c.readFunctions}, {"operators", c.readBuilt},
		{"operator classes", c.readOperatorClasses}, {"handlers", c.readHandled}, {"foreign tables", c.readForeignTables}, {"sequences", c.readSequences}, {"table definitions", c.readTableSteps}, {"indexes", c.readIndexes},
		{"constraints", c.readConstraints}, {"statistics", c.readStatistics}, {"views", c.readViews},
		{"rules and triggers", c.readTriggers}, {"policies", c.readPolicies},
		{"event triggers and publications", c.readCutover}, {"settings", c.readSettings}, {"dependencies", c.link},
		{"comments", c.readComments}, {"security labels", c.readLabels}, {"owners", c.readOwners}, {"privileges", c.readGrants},
		{"other objects", c.readLeft},
	} {
		if err := read.f(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", read.what, err)
		}
	}
	c.problem = append(c.problem, f.unmatched()...)
	return c, nil
}

// emitPages sends tables first, so that a reader may plan while steps still arrive.
func emitPages(c *catalog, emit func(*connectorv1.DiscoverResponse) error) error {
	for i := 0; i < len(c.tables); i += discoverPage {
		page := c.tables[i:min(i+discoverPage, len(c.tables))]
		if err := emit(&connectorv1.DiscoverResponse{Tables: page}); err != nil {
			return err
		}
	}
	steps := c.steps()
	for i := 0; i < len(steps); i += discoverPage {
		page := steps[i:min(i+discoverPage, len(steps))]
		if err := emit(&connectorv1.DiscoverResponse{Steps: page}); err != nil {
			return err
		}
	}
	return emit(&connectorv1.DiscoverResponse{NotCarried: c.left, Problems: c.problem})
}

func (c *catalog) major() int { return majorOf(c.tx.Conn().PgConn()) }

func (c *catalog) leave(kind, object, reason, todo string) {
	c.left = append(c.left, &connectorv1.NotCarried{Kind: kind, Object: object, Reason: reason, Todo: todo})
}

// list runs a query whose columns are the fields of T in order.
func list[T any](ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]*T, error) {
	rows, err := tx.Query(ctx, onVersion(majorOf(tx.Conn().PgConn()), sql), args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[T])
}

// Conditions that recur in catalog queries. foreign to us: the system's schemas, our own, and what belongs to an extension.
const userSchema = ` n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'drover') `

func notMember(class, oid string) string {
	return ` NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = '` + class + `'::regclass AND x.objid = ` + oid + ` AND x.deptype = 'e') `
}

// mayBeNull: nothing keeps NULL out of a column (a). Since PostgreSQL 18 NOT NULL may not have been checked for older rows.
const mayBeNull = ` NOT (a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint nn WHERE nn.conrelid = a.attrelid AND nn.contype = 'n' AND NOT nn.convalidated
	AND a.attnum = ANY (nn.conkey))) `

// display is how messages name an object: as people write it.
func display(schema, name string) string { return schema + "." + name }
