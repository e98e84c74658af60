package dev

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

// CreateDatabase creates an empty database.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	return s.Exec(ctx, "postgres", "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE template0")
}

// DropDatabase drops a database with its replication slots and sessions. A missing one is no error.
func (s *Server) DropDatabase(ctx context.Context, name string) error {
	lit := "'" + strings.ReplaceAll(name, "'", "''") + "'"
	free := `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL AND database = ` + lit
	drop := `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE active_pid IS NULL AND database = ` + lit
	for range 100 {
		if err := s.Exec(ctx, "postgres", free); err != nil {
			return err
		}
		if err := s.Exec(ctx, "postgres", drop); err != nil {
			return err
		}
		left, err := Query(ctx, s.URL("postgres"), `SELECT count(*)::text FROM pg_replication_slots WHERE database = `+lit)
		if err != nil {
			return err
		}
		if left == "0" {
			break
		}
	}
	return s.Exec(ctx, "postgres", "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
}

// Exec runs SQL, several statements if need be, in a session of its own.
func (s *Server) Exec(ctx context.Context, db, sql string) error { return Exec(ctx, s.URL(db), sql) }

// PgDumpSchema is DumpSchema for one database of this server.
func (s *Server) PgDumpSchema(ctx context.Context, db string, args ...string) (string, error) {
	return DumpSchema(ctx, s.URL(db), args...)
}

// Exec runs SQL, several statements if need be, in a session of its own.
func Exec(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("dev: exec: %w", err)
	}
	return nil
}

// Query runs one statement and returns its text: columns parted by tabs, rows by newlines, NULL as \N.
func Query(ctx context.Context, url, sql string) (string, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", fmt.Errorf("dev: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", fmt.Errorf("dev: query: %w", err)
	}
	var lines []string
	for _, result := range results {
		for _, row := range result.Rows {
			cells := make([]string, len(row))
			for i, cell := range row {
				if cells[i] = string(cell); cell == nil {
					cells[i] = `\N`
				}
			}
			lines = append(lines, strings.Join(cells, "\t"))
		}
	}
	return strings.Join(lines, "\n"), nil
}

// DumpSchema is a database's schema as pg_dump writes it, without what differs between equal databases: comments, blank
// lines, \restrict keys, publications, subscriptions and Drover's own schema.
func DumpSchema(ctx context.Context, url string, args ...string) (string, error) {
	program, err := pgDump()
	if err != nil {
		return "", err
	}
	args = append([]string{"--schema-only", "--exclude-schema=drover", "--no-publications", "--no-subscriptions",
		"--dbname=" + url}, args...)
	cmd := exec.CommandContext(ctx, program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("dev: pg_dump: %w: %s", err, stderr.String())
	}
	return normalise(string(out)), nil
}

func normalise(dump string) string {
	if os.Getenv(targetVar) != "" {
		dump = acrossVersions(dump)
	}
	var b strings.Builder
	for line := range strings.Lines(dump) {
		line = strings.TrimRight(line, "\n")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "--") ||
			strings.HasPrefix(line, `\restrict`) || strings.HasPrefix(line, `\unrestrict`) {
			continue
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.String()
}

var (
	// Before PostgreSQL 18 a column is NOT NULL without a constraint, whose name would say so.
	namedNotNull = regexp.MustCompile(` CONSTRAINT (?:"(?:[^"]|"")+"|[\w$]+) NOT NULL`)
	// Since 16 the server does not write the table of a column where there is but one.
	qualifier = regexp.MustCompile(`(?:"(?:[^"]|"")+"|[A-Za-z_][\w$]*)\.`)
	// Before 14 a range had no multirange; a newer server makes one and chooses its name.
	multiranges = regexp.MustCompile(`(?m)^ +multirange_type_name = \S*_multirange,\n`)
	// Until 14 the schema public was the first superuser's, since then it is whose database it is in.
	publicOwner = regexp.MustCompile(`(?m)^ALTER SCHEMA public OWNER TO .*\n`)
	// Since 17 an owner that was deprived of a right still has that to maintain the table.
	maintains = regexp.MustCompile(`,MAINTAIN\b`)
	revokes   = regexp.MustCompile(`(?m)^REVOKE [A-Z,]+ ON TABLE `)
)

// acrossVersions takes out of a dump what servers of two versions write otherwise about the same object.
func acrossVersions(dump string) string {
	dump = multiranges.ReplaceAllString(publicOwner.ReplaceAllString(dump, ""), "")
	statements := strings.Split(dump, ";\n")
	for i, s := range statements {
		s = revokes.ReplaceAllString(s, "REVOKE ALL ON TABLE ")
		s = maintains.ReplaceAllString(namedNotNull.ReplaceAllString(s, " NOT NULL"), "")
		body := strings.TrimLeft(s, "\n")
		for strings.HasPrefix(body, "--") {
			_, body, _ = strings.Cut(body, "\n")
			body = strings.TrimLeft(body, "\n")
		}
		for _, head := range []string{"CREATE VIEW ", "CREATE MATERIALIZED VIEW ", "CREATE RULE "} {
			if strings.HasPrefix(body, head) || strings.Contains(body, "BEGIN ATOMIC") {
				s = qualifier.ReplaceAllString(s, "")
			}
		}
		statements[i] = s
	}
	return strings.Join(statements, ";\n")
}
