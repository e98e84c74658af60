package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// findings collects problems and counts what was looked at.
type findings struct {
	connectorv1.CheckResponse
	side string
}

// check counts one check; bad adds its problem.
func (f *findings) check(bad bool, code diag.Code, object, reason string, fix ...string) {
	f.Checks++
	if bad {
		f.Problems = append(f.Problems, problem(code, f.side, object, reason, fix...))
	}
}

// sourceFacts is what one query tells about the source server and our role.
type sourceFacts struct {
	WalLevel             string
	Standby              bool
	Replication          bool
	Slots, MaxSlots      int32
	Senders, MaxSenders  int32
	KeepSize, IdleLimit  string
	Role, Database       string
	CanCreate, SuperUser bool
	SlotExists           bool
	Encoding             string
	// Locks is how many the server plans for, LocksEach the setting behind it.
	Locks, LocksEach int32
}

const sourceFactsSQL = `
	SELECT current_setting('wal_level'), pg_is_in_recovery(), r.rolreplication OR r.rolsuper,
	       (SELECT count(*) FROM pg_replication_slots)::int4, current_setting('max_replication_slots')::int4,
	       (SELECT count(*) FROM pg_stat_get_wal_senders())::int4, current_setting('max_wal_senders')::int4,
	       current_setting('max_slot_wal_keep_size'), coalesce(current_setting('idle_replication_slot_timeout', true), '0'), current_user::text, current_database()::text,
	       has_database_privilege(current_database(), 'CREATE'), r.rolsuper,
	       EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1), current_setting('server_encoding'),
	       current_setting('max_locks_per_transaction')::int4 * (current_setting('max_connections')::int4 + current_setting('max_prepared_transactions')::int4),
	       current_setting('max_locks_per_transaction')::int4
	FROM pg_roles r WHERE r.rolname = current_user`

// Check looks at everything that would stop the source side, and changes nothing.
func (s *Source) Check(ctx context.Context, req *connectorv1.CheckRequest) (*connectorv1.CheckResponse, error) {
	conn, err := connect(ctx, s.cfg, "check", connectorv1.Role_ROLE_SOURCE)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	f := &findings{side: "source"}
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		facts, err := list[sourceFacts](ctx, tx, sourceFactsSQL, slotName(req.Pipeline))
		if err != nil {
			return err
		}
		if len(facts) == 1 {
			f.sourceServer(facts[0], req)
		}
		return f.sourceTables(ctx, tx, facts[0], req)
	})
	if err != nil {
		return nil, mapError(err, "source")
	}
	return &f.CheckResponse, nil
}

func (f *findings) sourceServer(s *sourceFacts, req *connectorv1.CheckRequest) {
	f.check(s.Encoding == "SQL_ASCII", diag.NoEncoding, "database "+s.Database, "its encoding is SQL_ASCII: bytes that are not UTF-8 will be refused",
		"Look for text that is not UTF-8, such as: SELECT … FROM table WHERE column::bytea <> convert_to(convert_from(column::bytea, 'UTF8'), 'UTF8');")
	if !req.Follow {
		return
	}
	f.check(s.Standby, diag.Standby, "server", "it is in recovery")
	f.check(s.WalLevel != "logical", diag.WalLevel, "wal_level", "it is "+s.WalLevel,
		"ALTER SYSTEM SET wal_level = 'logical';  -- then restart the server")
	f.check(!s.Replication, diag.NoReplication, "role "+s.Role, "it lacks the attribute REPLICATION",
		"ALTER ROLE "+ident(s.Role)+" REPLICATION;")
	f.check(!s.SlotExists && s.Slots >= s.MaxSlots, diag.NoSlotFree, "max_replication_slots",
		fmt.Sprintf("%d of %d slots are in use", s.Slots, s.MaxSlots),
		fmt.Sprintf("ALTER SYSTEM SET max_replication_slots = %d;  -- then restart the server", s.MaxSlots+4))
	f.check(s.Senders >= s.MaxSenders, diag.NoWalsender, "max_wal_senders",
		fmt.Sprintf("%d of %d WAL senders are in use", s.Senders, s.MaxSenders),
		fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = %d;  -- then restart the server", s.MaxSenders+4))
	f.check(s.KeepSize != "-1", diag.RetainLimit, "max_slot_wal_keep_size", "it is "+s.KeepSize,
		"ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf();")
	f.check(s.IdleLimit != "0", diag.RetainLimit, "idle_replication_slot_timeout", "it is "+s.IdleLimit+": a pipeline that pauses for longer loses its slot",
		"ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();")
	f.check(!s.CanCreate && !s.SlotExists, diag.NoCreate, "database "+s.Database, "role "+s.Role+" has no CREATE on it",
		"GRANT CREATE ON DATABASE "+ident(s.Database)+" TO "+ident(s.Role)+";")
}

// checkedTable is what one query tells about every table.
type checkedTable struct {
	Schema, Name     string
	Unlogged         bool
	Identity         bool
	Hidden           bool
	Readable, Usable bool
	Owned            bool
	Owner            string
	Keyless          bool
}

const sourceTablesSQL = `
	SELECT n.nspname, c.relname, c.relpersistence = 'u',
	       CASE c.relreplident WHEN 'f' THEN true WHEN 'n' THEN false
	            WHEN 'd' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid)
	            ELSE EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident) END,
	       row_security_active(c.oid), has_table_privilege(c.oid, 'SELECT'), has_schema_privilege(n.oid, 'USAGE'),
	       pg_has_role(c.relowner, 'USAGE'), pg_get_userbyid(c.relowner)::text,
	       NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
	            AND i.indimmediate AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND ` + mayBeNull + `
	                AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])))
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND `

func (f *findings) sourceTables(ctx context.Context, tx pgx.Tx, s *sourceFacts, req *connectorv1.CheckRequest) error {
	tables, err := list[checkedTable](ctx, tx, sourceTablesSQL+userSchema+" AND "+notMember("pg_class", "c.oid")+` ORDER BY 1, 2`)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, t := range req.Tables {
		wanted[ident(t.Source.Schema, t.Source.Name)] = true
	}
	chosen, err := newFilter(req.Include, req.Exclude)
	if err != nil {
		return err
	}
	theirs, err := strangers(ctx, tx) // Discover refuses them; a pattern may name them
	if err != nil {
		return err
	}
	for _, t := range theirs {
		chosen.match("drover", t.Table)
	}
	n := int32(0)
	for _, t := range tables {
		if len(wanted) > 0 && !wanted[ident(t.Schema, t.Name)] || !chosen.match(t.Schema, t.Name) {
			continue
		}
		n++
		f.sourceTable(t, s, req.Follow)
	}
	f.check(n > s.Locks, diag.ManyTables, "max_locks_per_transaction", fmt.Sprintf("%d tables are locked together, the server plans for %d locks", n, s.Locks),
		fmt.Sprintf("ALTER SYSTEM SET max_locks_per_transaction = %d;  -- then restart the server", 1+s.LocksEach*(1+n/s.Locks)))
	f.Problems = append(f.Problems, chosen.unmatched()...)
	return nil
}

func (f *findings) sourceTable(t *checkedTable, s *sourceFacts, follow bool) {
	name, object := ident(t.Schema, t.Name), "table "+display(t.Schema, t.Name)
	f.check(!t.Usable || !t.Readable, diag.NoRight, object, "role "+s.Role+" may not read it",
		"GRANT USAGE ON SCHEMA "+ident(t.Schema)+" TO "+ident(s.Role)+"; GRANT SELECT ON "+name+" TO "+ident(s.Role)+";")
	f.check(t.Hidden, diag.RowSecurity, object, "its policies apply to role "+s.Role, "ALTER ROLE "+ident(s.Role)+" BYPASSRLS;")
	if !follow {
		return
	}
	f.check(t.Unlogged, diag.Unlogged, object, "it is unlogged: loaded once, and not followed", "ALTER TABLE "+name+" SET LOGGED;")
	f.check(!t.Unlogged && !t.Identity, diag.NoIdentity, object, "its UPDATE and DELETE would fail once it is published",
		"ALTER TABLE "+name+" REPLICA IDENTITY FULL;")
	f.check(t.Keyless && t.Identity, diag.NoKey, object, "no unique index without nulls", "ALTER TABLE "+name+" ADD PRIMARY KEY (…);")
	f.check(!t.Owned && !s.SuperUser, diag.NoCreate, object, "role "+s.Role+" does not own it, so it may not publish it",
		"GRANT "+ident(t.Owner)+" TO "+ident(s.Role)+";")
}
