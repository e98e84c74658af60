package postgres

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// Config is what Open was given.
type Config struct {
	// URL never holds a password.
	URL string
	// Password overrides what the URL, PGPASSWORD, .pgpass and service files say; empty: they decide.
	Password string
	// Pipeline names the sessions in pg_stat_activity.
	Pipeline string
	// Owner is under whom the sink writes; empty: nobody asks.
	Owner   string
	Options map[string]string
	// Budget is how many bytes may be held in buffers; 0 means defaultBudget.
	Budget int64
}

const (
	defaultBudget  = 64 << 20
	connectTimeout = 15 * time.Second
	// idleInTransaction ends a sink session whose process was frozen, so that its locks do not outlive it.
	idleInTransaction = "60s"
)

// pinned makes the text form of every value and definition independent of the server, the database and the role, and what
// such text means when it is read. Nothing here changes what a function of the user's sees later: only Drover's sessions.
func pinned() map[string]string {
	return map[string]string{
		"client_encoding":    "UTF8",
		"datestyle":          "ISO,YMD",
		"intervalstyle":      "postgres",
		"extra_float_digits": "3",
		"bytea_output":       "hex",
		"timezone":           "UTC",
		"lc_monetary":        "C",
		"statement_timeout":  "0",
		"lock_timeout":       "0",
		// The server writes constants of definitions by this setting and never says E'': both sides have to have the same.
		"standard_conforming_strings": "on",
		// Off, {NULL} is read as text; document, no XML but a whole document is.
		"array_nulls": "on",
		"xmloption":   "content",
		// Equal definitions read equal, and x = NULL stays what somebody wrote.
		"quote_all_identifiers": "off",
		"transform_null_equals": "off",
		// A fence is read after a lock was waited for, so a statement has to see what was committed meanwhile.
		"default_transaction_isolation": "read committed",
		// Whoever switches over makes the source read-only by default; slot and publication are still to be removed.
		"default_transaction_read_only": "off",
	}
}

// connect opens a regular session. Role sink makes it a writer: triggers silent (session_replication_role =
// replica), commits durable, and an end to transactions that nobody continues. Role source resolves no name
// but the system's, so that everything the server prints is qualified. Unspecified: pinned settings only.
func connect(ctx context.Context, cfg Config, what string, role connectorv1.Role) (*pgx.Conn, error) {
	c, err := pgx.ParseConfig(cfg.URL)
	if err != nil {
		return nil, urlError(err)
	}
	settings(&c.Config, cfg, what)
	// The server ends idle-in-transaction sessions of some hosts by default; our snapshot holders must stay.
	c.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	switch role {
	case connectorv1.Role_ROLE_SOURCE:
		c.RuntimeParams["search_path"] = "pg_catalog"
		c.RuntimeParams["row_security"] = "off" // a policy that would hide rows is an error, also one made after Check
	case connectorv1.Role_ROLE_SINK:
		c.RuntimeParams["idle_in_transaction_session_timeout"] = idleInTransaction
		c.RuntimeParams["synchronous_commit"] = "on"
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, mapError(err, place(&c.Config))
	}
	if err := settle(ctx, conn.PgConn(), place(&c.Config)); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	if role == connectorv1.Role_ROLE_SINK {
		if err := silenceTriggers(ctx, conn); err != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
			return nil, err
		}
	}
	return conn, nil
}

// silenceTriggers is not a startup parameter, because a refusal there would look like a failed login.
func silenceTriggers(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.PgConn().Exec(ctx, "SET session_replication_role = replica").ReadAll()
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == "42501" {
		cc := conn.Config()
		return diag.ReplicaRole.New(place(&cc.Config), nil, "role %s may not set session_replication_role", cc.User).
			WithFix(letSilence(majorOf(conn.PgConn()), cc.User))
	}
	return mapError(err, "target")
}

// letSilence is the SQL that lets a role silence triggers.
func letSilence(major int, role string) string {
	if major < 15 {
		return "ALTER ROLE " + ident(role) + " SUPERUSER;  -- before PostgreSQL 15 nobody else may"
	}
	return "GRANT SET ON PARAMETER session_replication_role TO " + ident(role) + ";"
}

// connectReplication opens a walsender session on the database of the URL, which sends text in the given encoding.
func connectReplication(ctx context.Context, cfg Config, what, encoding string) (*pgconn.PgConn, error) {
	c, err := pgconn.ParseConfig(cfg.URL)
	if err != nil {
		return nil, urlError(err)
	}
	settings(c, cfg, what)
	c.RuntimeParams["replication"] = "database"
	c.RuntimeParams["client_encoding"] = encoding
	c.RuntimeParams["search_path"] = "pg_catalog"
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, mapError(err, place(c))
	}
	if err := settle(ctx, conn, place(c)); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return conn, nil
}

func settings(c *pgconn.Config, cfg Config, what string) {
	if cfg.Password != "" {
		c.Password = cfg.Password
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	for k, v := range pinned() {
		c.RuntimeParams[k] = v
	}
	c.RuntimeParams["application_name"] = appName(cfg.Pipeline, what)
}

// appName fits the 63 bytes that PostgreSQL keeps of application_name.
func appName(pipeline, what string) string {
	const limit = 63
	room := limit - len("drover//") - len(what)
	if len(pipeline) > room {
		pipeline = pipeline[:max(room, 0)]
	}
	return "drover/" + pipeline + "/" + what
}

// place names a database without secrets.
func place(c *pgconn.Config) string {
	if strings.HasPrefix(c.Host, "/") { // a socket's folder, which is no part of a path
		return "host=" + c.Host + " port=" + portOf(c.Port) + " dbname=" + c.Database
	}
	return net.JoinHostPort(c.Host, portOf(c.Port)) + "/" + c.Database
}

// ident quotes an identifier; several parts are joined with dots.
func ident(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

// literal quotes a string constant; standard_conforming_strings need not be on.
func literal(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}
