package postgres

import (
	"context"
	"strings"
)

// thisDatabase stands in statements for the name of the database they are run in. It cannot occur in a name.
const thisDatabase = "\x00"

// onDatabase runs a statement that has to name the database it is run in.
func onDatabase(sql string) string { return "DO " + literal("BEGIN "+executes(sql)+" END") }

func executes(sql string) string {
	format := strings.ReplaceAll(strings.ReplaceAll(sql, "%", "%%"), thisDatabase, "%I")
	return "EXECUTE pg_catalog.format(" + literal(format) + ", pg_catalog.current_database());"
}

// withheld are settings that would keep the copy itself from working, or that only make sense beside the source's files.
var withheld = map[string]string{
	"default_transaction_read_only": "it would make the target read-only for whoever writes there after the switch",
	"session_replication_role":      "it would change what triggers do while changes are applied",
	"role":                          "it would change who makes the copy",
	"session_authorization":         "it would change who makes the copy",
	"session_preload_libraries":     "nobody could log in if the library were not there",
	"local_preload_libraries":       "nobody could log in if the library were not there",
	"default_tablespace":            "tablespaces are not carried",
	"temp_tablespaces":              "tablespaces are not carried",
}

type setting struct {
	// Role is empty for the database's own.
	Role, Name, Value string
	Secret            bool
}

// settingsSQL is what ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET have said.
const settingsSQL = `
	SELECT coalesce(r.rolname, ''), x.name, substr(c, length(x.name) + 2), x.name ~* ` + secretive + `
	FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) c, split_part(c, '=', 1) x(name)
	WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1, 2`

// readSettings carries what ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET say. They act on every new session, Drover's
// too, so they come last. What the target has set itself is kept: somebody meant it, and Check names the difference.
func (c *catalog) readSettings(ctx context.Context) error {
	found, err := list[setting](ctx, c.tx, settingsSQL)
	for _, s := range found {
		why := withheld[s.Name]
		if s.Name == "default_transaction_read_only" && s.Value != "on" && s.Value != "true" {
			why = ""
		}
		note := ""
		if s.Secret {
			why, s.Value, note = "it may be a secret", "…", "  -- with the value in place of …"
		}
		if why != "" {
			c.leave("setting", s.object(), why, onDatabase(s.sql(thisDatabase))+";"+note)
			continue
		}
		c.add(objRef{}, &node{phase: inCutover, kind: "setting", object: s.object(), value: s.Value, sql: []string{s.unlessSet()}})
	}
	return err
}

func (s *setting) object() string {
	if s.Role == "" {
		return "database: " + s.Name
	}
	return s.Role + ": " + s.Name
}

func (s *setting) sql(database string) string {
	value := literal(s.Value)
	if s.Name == "search_path" {
		value = literals(s.Value)
	}
	sql := "DATABASE " + database + " SET " + ident(s.Name) + " TO " + value
	if s.Role == "" {
		return "ALTER " + sql
	}
	return "ALTER ROLE " + ident(s.Role) + " IN " + sql
}

// unlessSet is the statement for a database that has no such setting of its own.
func (s *setting) unlessSet() string {
	role := "0"
	if s.Role != "" {
		role = "(SELECT oid FROM pg_catalog.pg_roles WHERE rolname = " + literal(s.Role) + ")"
	}
	return "DO " + literal("BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) c WHERE s.setrole = "+role+
		" AND s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"+
		" AND pg_catalog.lower(pg_catalog.split_part(c, '=', 1)) = "+literal(strings.ToLower(s.Name))+") THEN "+executes(s.sql(thisDatabase))+" END IF; END")
}

// literals writes a list of names, which the catalog keeps as identifiers, as SET wants to hear it.
func literals(list string) string {
	var parts []string
	var b strings.Builder
	quoted := false
	for _, r := range list + "," {
		switch {
		case r == '"':
			if quoted = !quoted; quoted && b.Len() > 0 {
				b.WriteRune(r) // a doubled quote inside
			}
		case r == ',' && !quoted:
			parts = append(parts, literal(strings.TrimSpace(b.String())))
			b.Reset()
		case r == ' ' && !quoted:
		default:
			b.WriteRune(r)
		}
	}
	return strings.Join(parts, ", ")
}
