package postgres

import (
	"cmp"
	"context"
	"regexp"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

type sinkFacts struct {
	Standby                   bool
	CanCreate, CanReplicaRole bool
	Role, Database, Encoding  string
	Version                   int32
	SuperUser, OwnsDatabase   bool
}

// The role may set session_replication_role when it may set the parameter; before 15 only superusers could.
const sinkFactsSQL = `
	SELECT pg_is_in_recovery(),
	       has_database_privilege(current_database(), 'CREATE'), has_parameter_privilege('session_replication_role', 'SET'),
	       current_user::text, current_database()::text, pg_encoding_to_char(d.encoding)::text,
	       current_setting('server_version_num')::int4, r.rolsuper, pg_has_role(d.datdba, 'USAGE')
	FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()`

// Check looks at everything that would stop the target side, and changes nothing.
func (s *Sink) Check(ctx context.Context, req *connectorv1.CheckRequest) (*connectorv1.CheckResponse, error) {
	// A plain session: a sink's own would already fail where Check has to explain.
	conn, err := connect(ctx, s.cfg, "check", connectorv1.Role_ROLE_UNSPECIFIED)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	f := &findings{side: "target"}
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		facts, err := list[sinkFacts](ctx, tx, sinkFactsSQL)
		if err != nil {
			return err
		}
		f.sinkServer(facts[0], req.SourceEncoding)
		f.sinkVersion(facts[0], req.SourceVersion)
		if err := f.sorting(ctx, tx, facts[0], req.SourceSorting); err != nil {
			return err
		}
		if err := f.strangers(ctx, tx, req.Resuming); err != nil {
			return err
		}
		if err := f.neighbours(ctx, tx, req.Pipeline); err != nil {
			return err
		}
		if err := f.sinkTables(ctx, tx, facts[0], req); err != nil {
			return err
		}
		return f.sinkSchema(ctx, tx, facts[0], req)
	})
	if err != nil {
		return nil, mapError(err, "target")
	}
	return &f.CheckResponse, nil
}

func (f *findings) sinkServer(s *sinkFacts, source string) {
	db := "database " + s.Database
	f.check(s.Standby, diag.ReadOnly, "server", "it is in recovery", "Use the address of the primary.")
	f.check(!s.CanCreate, diag.TargetRights, db, "role "+s.Role+" has no CREATE on it",
		"GRANT CREATE ON DATABASE "+ident(s.Database)+" TO "+ident(s.Role)+";")
	f.check(!s.CanReplicaRole, diag.ReplicaRole, "role "+s.Role, "it may not set session_replication_role",
		letSilence(int(s.Version)/10000, s.Role))
	f.check(!storesText(s.Encoding, source), diag.MissingObject, db, "its encoding is "+s.Encoding+" and the source's "+cmp.Or(source, "unknown")+": text would not arrive as it is",
		"CREATE DATABASE "+ident(s.Database)+" ENCODING 'UTF8' TEMPLATE template0;  -- after renaming this one")
}

// ofOneByte are encodings in which every character is a byte: through UTF-8 and back nothing is lost.
var ofOneByte = regexp.MustCompile(`^(LATIN\d+|WIN(866|874|125\d)|ISO_8859_\d|KOI8[RU])$`)

// storesText: text travels in UTF-8, which a target of the source's own encoding turns back, or, if neither knows what its bytes mean,
// leaves as it is: SQL_ASCII. Encodings of several bytes are refused, since not all of them come back as they went.
func storesText(target, source string) bool {
	return target == "UTF8" || target == source && (target == "SQL_ASCII" || ofOneByte.MatchString(target))
}

// neighbours are the other pipelines whose tables are known here.
func (f *findings) neighbours(ctx context.Context, tx pgx.Tx, pipeline string) error {
	var there bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'drover'
		AND c.relname = 'pipeline' AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))`).Scan(&there)
	if err != nil || !there {
		return err
	}
	found, err := list[struct {
		Pipeline string
		Memo     []byte
	}](ctx, tx, "SELECT name, memo FROM drover.pipeline WHERE memo IS NOT NULL AND name <> "+literal(pipeline)+" ORDER BY 1")
	for _, n := range found {
		f.Neighbours = append(f.Neighbours, &connectorv1.Neighbour{Pipeline: n.Pipeline, Memo: n.Memo})
	}
	return err
}

type sinkTable struct {
	At               int32
	Schema, Name     string
	Kind             string
	Writable, Usable bool
	Creatable        bool
	SchemaThere      bool
	Oid              uint32
}

// sinkTables looks at all tables in two round trips: what exists and may be written, and what holds rows.
func (f *findings) sinkTables(ctx context.Context, tx pgx.Tx, s *sinkFacts, req *connectorv1.CheckRequest) error {
	schemas, names := make([]string, len(req.Tables)), make([]string, len(req.Tables))
	for i, t := range req.Tables {
		schemas[i], names[i] = t.Target.Schema, t.Target.Name
	}
	found, err := list[sinkTable](ctx, tx, `
		SELECT (w.at - 1)::int4, w.s, w.t, coalesce(c.relkind::text, ''),
		       coalesce(has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'), true),
		       coalesce(has_schema_privilege(n.oid, 'USAGE'), true), coalesce(has_schema_privilege(n.oid, 'CREATE'), true), n.oid IS NOT NULL, coalesce(c.oid, 0)
		FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(s, t, at)
		LEFT JOIN pg_namespace n ON n.nspname = w.s LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t ORDER BY w.at`, schemas, names)
	if err != nil {
		return err
	}
	closed := map[string]bool{}
	var look []*sinkTable
	for _, t := range found {
		object := "table " + display(t.Schema, t.Name)
		switch {
		case t.Kind == "" && !t.Creatable:
			if !closed[t.Schema] {
				closed[t.Schema] = true
				f.check(true, diag.TargetRights, "schema "+t.Schema, "role "+s.Role+" may not create tables in it",
					"GRANT CREATE, USAGE ON SCHEMA "+ident(t.Schema)+" TO "+ident(s.Role)+";")
			}
		case t.Kind == "":
			f.Checks++
		case !t.Writable || !t.Usable:
			f.check(true, diag.TargetRights, object, "role "+s.Role+" may not read and write it",
				"GRANT USAGE ON SCHEMA "+ident(t.Schema)+" TO "+ident(s.Role)+"; GRANT ALL ON "+ident(t.Schema, t.Name)+" TO "+ident(s.Role)+";")
		case t.Kind != "r" && t.Kind != "p":
			f.check(true, diag.MissingObject, object, "something else of that name exists", "DROP it or rename it at the target.")
		default:
			look = append(look, t)
		}
	}
	if req.Resuming {
		return nil
	}
	return f.sinkRows(ctx, tx, look)
}
