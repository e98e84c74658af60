package postgres

import "context"

// secretive are names of options and settings whose values are neither carried nor stored or shown: they may be passwords. Every
// wrapper chooses its own names.
const secretive = `'pass|pwd|secret|token|cred|dsn|conn.*str|^auth|(^|api|access|private|ssl|account)_?key$'`

// optionList writes options as OPTIONS wants to hear them, NULL if there are none.
func optionList(options, which string) string {
	return `(SELECT string_agg(quote_ident(x.option_name) || ' ' || quote_literal(x.option_value), ', ')
	        FROM pg_options_to_table(` + options + `) x WHERE ` + which + `)`
}

// openOptions are those that may be told.
func openOptions(options string) string { return optionList(options, `x.option_name !~* `+secretive) }

// secretOptionsSQL finds the others: of what, its name in ALTER, the option.
const secretOptionsSQL = `
	SELECT o.what, o.name, x.option_name FROM (
		SELECT 'FOREIGN DATA WRAPPER' AS what, quote_ident(fdwname) AS name, fdwoptions AS options FROM pg_foreign_data_wrapper
		UNION ALL SELECT 'SERVER', quote_ident(srvname), srvoptions FROM pg_foreign_server
		UNION ALL SELECT 'FOREIGN TABLE', ftrelid::regclass::text, ftoptions FROM pg_foreign_table) o, pg_options_to_table(o.options) x
	WHERE x.option_name ~* ` + secretive + ` ORDER BY 1, 2, 3`

func (c *catalog) leaveSecretOptions(ctx context.Context) error {
	found, err := list[struct{ What, Name, Option string }](ctx, c.tx, secretOptionsSQL)
	for _, o := range found {
		c.leave("option", o.Name+"."+o.Option, "it may be a secret", "ALTER "+o.What+" "+o.Name+" OPTIONS (ADD "+ident(o.Option)+" '…');")
	}
	return err
}

// userMapping says who is who on a foreign server. Open: it holds only options that everybody may know.
type userMapping struct {
	Oid           uint32
	Role, Server  string
	Options       string
	Visible, Open bool
}

// Only superusers and those concerned see a mapping's options; to others it looks as if it had none.
var userMappingsSQL = `
	SELECT m.umid, CASE WHEN m.umuser = 0 THEN 'PUBLIC' ELSE quote_ident(m.usename) END, quote_ident(m.srvname), coalesce(` + optionList("m.umoptions", "true") + `, ''),
	       m.umuser <> 0 AND m.usename = current_user OR m.umuser = 0 AND pg_has_role(s.srvowner, 'USAGE') OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
	       NOT EXISTS (SELECT FROM pg_options_to_table(m.umoptions) x WHERE x.option_name NOT IN ('user', 'username', 'password_required'))
	FROM pg_user_mappings m JOIN pg_foreign_server s ON s.oid = m.srvid ORDER BY m.umid`

func (c *catalog) readUserMappings(ctx context.Context) error {
	found, err := list[userMapping](ctx, c.tx, userMappingsSQL)
	for _, m := range found {
		object, sql := m.Role+" on "+m.Server, "CREATE USER MAPPING FOR "+m.Role+" SERVER "+m.Server
		switch {
		case !m.Visible:
			c.leave("user mapping", object, "the role may not see its options", sql+" OPTIONS (…);")
		case !m.Open:
			c.leave("user mapping", object, "its options may hold a password", sql+" OPTIONS (…);")
		default:
			if m.Options != "" {
				sql += " OPTIONS (" + m.Options + ")"
			}
			c.add(objRef{pgUserMappingClass, m.Oid}, &node{phase: inFinish, kind: "user mapping", object: object, sql: []string{sql}})
		}
	}
	return err
}

// foreignTable is what a foreign table says beyond other tables; columns are options of columns by number.
type foreignTable struct {
	server, options string
	columns         map[int16]string
}

var foreignTablesSQL = `
	SELECT f.ftrelid, quote_ident(s.srvname), coalesce(` + openOptions("f.ftoptions") + `, '') FROM pg_foreign_table f JOIN pg_foreign_server s ON s.oid = f.ftserver`

func (c *catalog) readForeignTables(ctx context.Context) error {
	found, err := list[struct {
		Rel             uint32
		Server, Options string
	}](ctx, c.tx, foreignTablesSQL)
	if err != nil {
		return err
	}
	for _, f := range found {
		c.foreign[f.Rel] = &foreignTable{server: f.Server, options: f.Options, columns: map[int16]string{}}
	}
	columns, err := list[struct {
		Rel     uint32
		Num     int16
		Options string
	}](ctx, c.tx, `SELECT a.attrelid, a.attnum, coalesce(`+openOptions("a.attfdwoptions")+`, '') FROM pg_attribute a WHERE a.attfdwoptions IS NOT NULL`)
	for _, col := range columns {
		if f := c.foreign[col.Rel]; f != nil && col.Options != "" {
			f.columns[col.Num] = col.Options
		}
	}
	return err
}

// sql is the end of CREATE FOREIGN TABLE.
func (f *foreignTable) sql() string {
	s := " SERVER " + f.server
	if f.options != "" {
		s += " OPTIONS (" + f.options + ")"
	}
	return s
}
