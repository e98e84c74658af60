package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// logged leaves out unlogged tables: the server refuses to publish what is not in its log. They are loaded once. One that is logged
// by now is left out until it is loaded again: to publish it in silence would hide what the log has never had.
func logged(ctx context.Context, conn *pgx.Conn, tables []*rowv1.Table, anew []uint32) ([]*rowv1.Table, error) {
	rows, err := conn.Query(ctx, `SELECT w.at - 1 FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(s, t, at)
		JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t
		WHERE c.relpersistence = 'u'`, sourceSchemas(tables), sourceNames(tables))
	if err != nil {
		return nil, mapError(err, "source")
	}
	unlogged, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, mapError(err, "source")
	}
	var out []*rowv1.Table
	for i, t := range tables {
		if !slices.Contains(unlogged, int64(i)) && (!t.GetNotLogged() || slices.Contains(anew, t.GetIndex())) {
			out = append(out, t)
		}
	}
	return out, nil
}

// checkIdentity refuses tables whose updates and deletes would fail at the source once they are published.
func checkIdentity(ctx context.Context, conn *pgx.Conn, tables []*rowv1.Table) error {
	rows, err := conn.Query(ctx, `SELECT n.nspname || '.' || c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
		FROM unnest($1::text[], $2::text[]) AS w(s, t)
		JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t
		WHERE c.relreplident = 'n'
		   OR c.relreplident = 'd' AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
		   OR c.relreplident = 'i' AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident)
		ORDER BY 1`, sourceSchemas(tables), sourceNames(tables))
	if err != nil {
		return mapError(err, "source")
	}
	var names, fixes []string
	var name, quoted string
	_, err = pgx.ForEachRow(rows, []any{&name, &quoted}, func() error {
		names = append(names, name)
		fixes = append(fixes, "ALTER TABLE "+quoted+" REPLICA IDENTITY FULL;")
		return nil
	})
	if err != nil {
		return mapError(err, "source")
	}
	if len(names) > 0 {
		return diag.NoIdentity.New("source › table "+names[0], nil, "%d tables: %s", len(names), strings.Join(names, ", ")).WithFix(fixes...)
	}
	return nil
}

func sourceSchemas(tables []*rowv1.Table) []string {
	out := make([]string, len(tables))
	for i, t := range tables {
		out[i] = t.GetSource().GetSchema()
	}
	return out
}

func sourceNames(tables []*rowv1.Table) []string {
	out := make([]string, len(tables))
	for i, t := range tables {
		out[i] = t.GetSource().GetName()
	}
	return out
}

// publish makes the publication hold exactly the tables. ONLY, because children of an inheritance tree and
// partitions are tables of their own here.
func publish(ctx context.Context, conn *pgx.Conn, name string, tables []*rowv1.Table) error {
	list := make([]string, len(tables))
	for i, t := range tables {
		list[i] = "ONLY " + ident(t.GetSource().GetSchema(), t.GetSource().GetName())
	}
	const options = "publish = 'insert, update, delete, truncate', publish_via_partition_root = false"
	var exists, same, plain bool
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_publication WHERE pubname = $1),
		EXISTS (SELECT 1 FROM pg_publication WHERE pubname = $1 AND pubinsert AND pubupdate AND pubdelete AND pubtruncate AND NOT pubviaroot),
		(SELECT coalesce(array_agg(schemaname || '.' || tablename ORDER BY 1), '{}') FROM
			(SELECT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = $1) p) =
		(SELECT coalesce(array_agg(s || '.' || t ORDER BY 1), '{}') FROM unnest($2::text[], $3::text[]) w(s, t))`,
		name, sourceSchemas(tables), sourceNames(tables)).Scan(&exists, &plain, &same)
	if err != nil {
		return mapError(err, "source › publication "+name)
	}
	var sql []string
	switch {
	case !exists && len(list) == 0:
		sql = append(sql, "CREATE PUBLICATION "+ident(name)+" WITH ("+options+")")
	case !exists:
		sql = append(sql, "CREATE PUBLICATION "+ident(name)+" FOR TABLE "+strings.Join(list, ", ")+" WITH ("+options+")")
	default:
		if !plain {
			sql = append(sql, "ALTER PUBLICATION "+ident(name)+" SET ("+options+")")
		}
		if !same && len(list) > 0 {
			sql = append(sql, "ALTER PUBLICATION "+ident(name)+" SET TABLE "+strings.Join(list, ", "))
		}
	}
	for _, q := range sql {
		if _, err := conn.PgConn().Exec(ctx, q).ReadAll(); err != nil {
			return publishError(ctx, err, conn, name, tables)
		}
	}
	return nil
}

// stillPublished refuses to publish again in silence what should have been published all the time.
func stillPublished(ctx context.Context, conn *pgx.Conn, name string, tables []*rowv1.Table, anew []uint32) error {
	w := newWatch(name, nil)
	for _, t := range tables {
		if !slices.Contains(anew, t.GetIndex()) {
			w.expect(t)
		}
	}
	return w.ensure(ctx, conn)
}

// afterRunning waits until every transaction that runs now has ended. A commit that is in the log, and may be passed by a
// token, but that no snapshot sees yet, is one of them; so is one that changed a table before that was published.
func afterRunning(ctx context.Context, conn *pgx.Conn, where string) error {
	var end int64
	if err := conn.QueryRow(ctx, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").Scan(&end); err != nil {
		return mapError(err, where)
	}
	for pause := retakeFirst; ; pause = min(2*pause, retakeMax) {
		var ended bool
		if err := conn.QueryRow(ctx, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= $1", end).Scan(&ended); err != nil || ended {
			return mapError(err, where)
		}
		select {
		case <-ctx.Done():
			return diag.CallCancelled.New(where, ctx.Err(), "transactions that began before a table was published have not ended")
		case <-time.After(pause):
		}
	}
}

func publishError(ctx context.Context, err error, conn *pgx.Conn, name string, tables []*rowv1.Table) error {
	var pe *pgconn.PgError
	where := "source › publication " + name
	switch {
	case !errors.As(err, &pe):
	case pe.Code == "42501":
		user, db := conn.Config().User, conn.Config().Database
		return diag.NoCreate.New(where, serverError{pe}, "role %s", user).
			WithFix("GRANT CREATE ON DATABASE "+ident(db)+" TO "+ident(user)+";", "-- and let "+ident(user)+" own the tables it is to follow")
	case noTable(pe):
		return aboutMissing(ctx, conn, err, tables)
	}
	return mapError(err, where)
}
