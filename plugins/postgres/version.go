package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
)

const (
	// oldestMajor is the oldest server that Drover reads from or writes to: 12 has neither the snapshots that coverage is made of
	// nor publications that leave partitions to themselves.
	oldestMajor = 13
	// newestMajor is the newest one that the tests have met.
	newestMajor = 18
)

// majorOf is the version of the server behind a session.
func majorOf(pc *pgconn.PgConn) int { return majorIn(pc.ParameterStatus("server_version")) }

// majorIn reads "15.4 (Debian…)" and "18beta1"; 0 for anything else.
func majorIn(version string) int {
	n := 0
	for _, r := range version {
		if r < '0' || r > '9' {
			break
		}
		n = n*10 + int(r-'0')
	}
	return n
}

// older is what queries of the catalog say that servers before a version do not know, and what is true there instead.
var older = []struct {
	before int
	words  *strings.Replacer
}{
	{15, strings.NewReplacer(
		"datlocprovider = 'c'", "true",
		"datlocprovider = 'b'", "false",
		"has_parameter_privilege('session_replication_role', 'SET')", "r.rolsuper",
		publishedColumns, "''",
		publishedRows, "''",
		publishedSchemas, "NULL",
	)},
	{14, strings.NewReplacer(
		"a.attcompression::text", "''",
		"t.typsubscript::oid = 'array_subscript_handler'::regproc", "t.typelem <> 0",
		"t.typsubscript::oid <> 0", "false",
		"t.typsubscript::text", "''",
		" OR r.rngmultitypid = t.oid", "",
		"|| ', multirange_type_name = ' || format_type(r.rngmultitypid, NULL)", "",
		"t.oid = r.rngmultitypid", "false",
		"r.rngmultitypid", "0::oid",
		"l.waitstart < clock_timestamp() - interval '1 s'", "true",
	)},
}

// onVersion writes a query as a server of that version understands it.
func onVersion(major int, sql string) string {
	for _, o := range older {
		if major > 0 && major < o.before {
			sql = o.words.Replace(sql)
		}
	}
	return sql
}

// settle refuses servers that are too old, and frees a session of time limits that not every version knows: one in a startup
// packet would look like a failed login there.
func settle(ctx context.Context, pc *pgconn.PgConn, where string) error {
	major := majorOf(pc)
	var sql string
	switch {
	case major > 0 && major < oldestMajor:
		return diag.TooOld.New(where, nil, "it is PostgreSQL %d, the oldest that works is %d", major, oldestMajor)
	case major >= 17:
		sql = "SET transaction_timeout = 0; SET idle_session_timeout = 0"
	case major >= 14:
		sql = "SET idle_session_timeout = 0"
	default:
		return nil
	}
	_, err := pc.Exec(ctx, sql).ReadAll()
	return mapError(err, where)
}
