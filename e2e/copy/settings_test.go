package copy_test

import (
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// What a setting can read or write otherwise: constants with backslashes, NULL in arrays, XML that is no document, x = NULL. The
// rows of lines move as text. And rows of a view that needs a key.
const settable = `
CREATE TABLE lines (id int PRIMARY KEY, path text DEFAULT 'C:\new\table', words text[] DEFAULT '{NULL,"a\\b"}', x xml DEFAULT 'no <a/> document',
  may aclitem, b bytea DEFAULT '\x00ff', at timestamptz DEFAULT '2020-02-01 03:04:05.123456+02', every interval DEFAULT '-1 day 02:03:04', m money, f float8,
  CONSTRAINT no_slash CHECK (path <> '\' AND path !~ '\d\\$'), n int GENERATED ALWAYS AS (length('\\' || path)) STORED);
INSERT INTO lines (id, m, f) VALUES (1, 1234.56, 0.1::float8 + 0.2); INSERT INTO lines VALUES (2, 'it''s \''', '{NULL,NULL}', '<a/>', 'postgres=r/postgres', '\x5c', '-infinity', '1 mon', -1, 'NaN');
CREATE INDEX odd ON lines (replace(path, '\', '/')) WHERE path LIKE '%\\%'; COMMENT ON TABLE lines IS 'C:\it''s';
CREATE FUNCTION body(t text DEFAULT '\n') RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT regexp_replace(t, '\\', E'\\', 'g') WHERE t = NULL $$;
CREATE FUNCTION parsed(t text) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN t = NULL OR t = '\';
CREATE VIEW slashes AS SELECT id, path || '\' AS p, path = NULL AS never, '{NULL}'::text[] AS a, xmlcomment('\') AS x FROM lines WHERE path ~ '\w';
CREATE MATERIALIZED VIEW kept AS SELECT id, p, a, x FROM slashes; CREATE TYPE slash AS ENUM ('\', '\\'); CREATE TABLE of_type (s slash DEFAULT '\'); INSERT INTO of_type VALUES ('\\');
CREATE POLICY own ON lines USING (path <> '\'); CREATE RULE r AS ON INSERT TO slashes DO INSTEAD INSERT INTO lines (id, path) VALUES (new.id, '\');
CREATE TABLE parts (k text) PARTITION BY LIST (k); CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN ('\', NULL); INSERT INTO parts VALUES ('\'), (NULL);
CREATE VIEW by_key AS SELECT id, path FROM lines GROUP BY id; CREATE TABLE of_key (v by_key, n int PRIMARY KEY); INSERT INTO of_key SELECT v, id FROM by_key v`

// hostile is what ALTER DATABASE … SET can do to a session that does not know it.
const hostile = `DO $x$ DECLARE s text; BEGIN FOREACH s IN ARRAY ARRAY['standard_conforming_strings = off', 'array_nulls = off', 'xmloption = document', 'quote_all_identifiers = on',
	'transform_null_equals = on', 'backslash_quote = off', 'xmlbinary = hex', 'bytea_output = escape', 'datestyle = German', 'intervalstyle = sql_standard', 'extra_float_digits = -10',
	'timezone = ''Asia/Kathmandu''', 'default_transaction_isolation = serializable', 'check_function_bodies = on', 'row_security = off', 'search_path = nowhere',
	'default_tablespace = none', 'statement_timeout = ''1ms''', 'lock_timeout = ''1ms''', 'client_min_messages = debug1']
	LOOP EXECUTE format('ALTER DATABASE %I SET ', current_database()) || s; END LOOP; END $x$`

const gentle = `DO $x$ BEGIN EXECUTE format('ALTER DATABASE %I RESET ALL', current_database()); END $x$`

// Settings of a database, at either side, change neither definitions nor rows.
func TestCopy_SettingsOfASideChangeNothing(t *testing.T) {
	for _, c := range []struct {
		name           string
		source, target bool
	}{{"source", true, false}, {"target", false, true}, {"both", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			source, target := dev.Database(t), dev.TargetDatabase(t)
			dev.MustExec(t, source, settable)
			for at, set := range map[string]bool{source: c.source, target: c.target} {
				if set {
					dev.MustExec(t, at, hostile)
				}
			}
			harness.MustRun(t, "copy", source, target, "--data", t.TempDir())
			for _, at := range []string{source, target} {
				dev.MustExec(t, at+"&statement_timeout=0&lock_timeout=0", gentle)
			}
			harness.RequireEqual(t, source, target, harness.CompareOptions{})
		})
	}
}
