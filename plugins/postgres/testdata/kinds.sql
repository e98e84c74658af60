-- One of every kind of object that pg_dump of PostgreSQL 15 writes, as far as one database can hold it without a
-- compiler: C functions are those of the server's own libraries. hostile.sql holds the hard cases of the common kinds.
CREATE SCHEMA k; COMMENT ON SCHEMA public IS 'ours now'; REVOKE USAGE ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO pg_monitor;
CREATE EXTENSION hstore WITH SCHEMA k; CREATE EXTENSION bloom; CREATE EXTENSION postgres_fdw;
REVOKE EXECUTE ON FUNCTION k.akeys(k.hstore) FROM PUBLIC; GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO pg_monitor;
COMMENT ON EXTENSION hstore IS 'comment of our own';

-- Types made of C functions, alone and in a range.
CREATE TYPE k.empty_shell;
CREATE TYPE k.whole;
CREATE FUNCTION k.whole_in(cstring) RETURNS k.whole LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'int8in';
CREATE FUNCTION k.whole_out(k.whole) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'int8out';
CREATE FUNCTION k.whole_recv(internal) RETURNS k.whole LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'int8recv';
CREATE FUNCTION k.whole_send(k.whole) RETURNS bytea LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'int8send';
CREATE TYPE k.whole (INPUT = k.whole_in, OUTPUT = k.whole_out, RECEIVE = k.whole_recv, SEND = k.whole_send, LIKE = bigint, CATEGORY = 'N', DEFAULT = '7');
COMMENT ON TYPE k.whole IS 'a base type'; GRANT USAGE ON TYPE k.whole TO pg_monitor;
CREATE TYPE k."Odd, one";
CREATE FUNCTION k.odd_in(cstring) RETURNS k."Odd, one" LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION k.odd_out(k."Odd, one") RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE FUNCTION k.odd_mod(cstring[]) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'varchartypmodin';
CREATE FUNCTION k.odd_show(int) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'varchartypmodout';
CREATE TYPE k."Odd, one" (INPUT = k.odd_in, OUTPUT = k.odd_out, TYPMOD_IN = k.odd_mod, TYPMOD_OUT = k.odd_show, INTERNALLENGTH = VARIABLE, STORAGE = extended,
  ALIGNMENT = int4, CATEGORY = 'S', PREFERRED = false, DELIMITER = ';', COLLATABLE = true);
CREATE CAST (bigint AS k.whole) WITHOUT FUNCTION AS IMPLICIT; CREATE CAST (k.whole AS bigint) WITHOUT FUNCTION; COMMENT ON CAST (bigint AS k.whole) IS 'binary';
CREATE TYPE k.steps; CREATE FUNCTION k.steps_canonical(k.steps) RETURNS k.steps LANGUAGE internal IMMUTABLE STRICT AS 'int8range_canonical';
CREATE TYPE k.steps AS RANGE (SUBTYPE = bigint, CANONICAL = k.steps_canonical, MULTIRANGE_TYPE_NAME = k.many_steps); -- since 14
CREATE TYPE k.steps AS RANGE (SUBTYPE = bigint, CANONICAL = k.steps_canonical); CREATE DOMAIN k.many_steps AS int; -- before 14
CREATE DOMAIN k.late AS int CONSTRAINT sure CHECK (VALUE > 0); ALTER DOMAIN k.late ADD CONSTRAINT unsure CHECK (VALUE < 100) NOT VALID; COMMENT ON CONSTRAINT unsure ON DOMAIN k.late IS 'not valid';

-- Operators, families and classes: of the type above, in its own class, loose in its family, and in a family of the server's.
CREATE FUNCTION k.lt(k.whole, k.whole) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int8lt';
CREATE FUNCTION k.le(k.whole, k.whole) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int8le';
CREATE FUNCTION k.eq(k.whole, k.whole) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int8eq';
CREATE FUNCTION k.ge(k.whole, k.whole) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int8ge';
CREATE FUNCTION k.gt(k.whole, k.whole) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int8gt';
CREATE FUNCTION k.cmp(k.whole, k.whole) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'btint8cmp';
CREATE FUNCTION k.hash(k.whole) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'hashint8';
CREATE FUNCTION k.eq84(k.whole, int) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int84eq';
CREATE FUNCTION k.cmp84(k.whole, int) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'btint84cmp';
CREATE OPERATOR k.< (FUNCTION = k.lt, LEFTARG = k.whole, RIGHTARG = k.whole, COMMUTATOR = OPERATOR(k.>), NEGATOR = OPERATOR(k.>=), RESTRICT = scalarltsel, JOIN = scalarltjoinsel);
CREATE OPERATOR k.<= (FUNCTION = k.le, LEFTARG = k.whole, RIGHTARG = k.whole, COMMUTATOR = OPERATOR(k.>=), NEGATOR = OPERATOR(k.>));
CREATE OPERATOR k.= (FUNCTION = k.eq, LEFTARG = k.whole, RIGHTARG = k.whole, COMMUTATOR = OPERATOR(k.=), RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES);
CREATE OPERATOR k.>= (FUNCTION = k.ge, LEFTARG = k.whole, RIGHTARG = k.whole, COMMUTATOR = OPERATOR(k.<=), NEGATOR = OPERATOR(k.<));
CREATE OPERATOR k.> (FUNCTION = k.gt, LEFTARG = k.whole, RIGHTARG = k.whole, COMMUTATOR = OPERATOR(k.<), NEGATOR = OPERATOR(k.<=));
CREATE OPERATOR k.= (FUNCTION = k.eq84, LEFTARG = k.whole, RIGHTARG = int);
CREATE OPERATOR FAMILY k.whole_fam USING btree; COMMENT ON OPERATOR FAMILY k.whole_fam USING btree IS 'family';
CREATE OPERATOR CLASS k.whole_ops DEFAULT FOR TYPE k.whole USING btree FAMILY k.whole_fam AS OPERATOR 1 k.<, OPERATOR 2 k.<=, OPERATOR 3 k.=, OPERATOR 4 k.>=, OPERATOR 5 k.>,
  FUNCTION 1 k.cmp(k.whole, k.whole); COMMENT ON OPERATOR CLASS k.whole_ops USING btree IS 'class';
ALTER OPERATOR FAMILY k.whole_fam USING btree ADD OPERATOR 3 k.= (k.whole, int), FUNCTION 1 (k.whole, int) k.cmp84(k.whole, int);
CREATE OPERATOR CLASS k.whole_hash DEFAULT FOR TYPE k.whole USING hash AS OPERATOR 1 k.=, FUNCTION 1 k.hash(k.whole);
CREATE OPERATOR CLASS k.arr FOR TYPE int[] USING gin AS OPERATOR 1 && (anyarray, anyarray), FUNCTION 1 btint4cmp(int, int), FUNCTION 2 ginarrayextract(anyarray, internal, internal),
  FUNCTION 3 ginqueryarrayextract(anyarray, internal, smallint, internal, internal, internal, internal),
  FUNCTION 4 ginarrayconsistent(internal, smallint, anyarray, int, internal, internal, internal, internal), STORAGE int;
CREATE FUNCTION k.eq_text(k.whole, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1::bigint::text = $2'; CREATE OPERATOR k.= (FUNCTION = k.eq_text, LEFTARG = k.whole, RIGHTARG = text);
ALTER OPERATOR FAMILY pg_catalog.integer_ops USING btree ADD OPERATOR 3 k.= (k.whole, text);
CREATE OPERATOR FAMILY k.alone USING gist;

-- What has a handler: languages, transforms, access methods, foreign data, conversions, text search.
CREATE FUNCTION k.pl_call() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE FUNCTION k.pl_inline(internal) RETURNS void LANGUAGE c STRICT AS '$libdir/plpgsql', 'plpgsql_inline_handler';
CREATE FUNCTION k.pl_check(oid) RETURNS void LANGUAGE c STRICT AS '$libdir/plpgsql', 'plpgsql_validator';
CREATE TRUSTED LANGUAGE ourpl HANDLER k.pl_call INLINE k.pl_inline VALIDATOR k.pl_check; COMMENT ON LANGUAGE ourpl IS 'language'; REVOKE USAGE ON LANGUAGE ourpl FROM PUBLIC;
CREATE FUNCTION k.in_ourpl(n int) RETURNS int LANGUAGE ourpl AS 'BEGIN RETURN n + 1; END';
CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal)); COMMENT ON TRANSFORM FOR int LANGUAGE sql IS 'transform';
CREATE FUNCTION k.transformed(int) RETURNS int LANGUAGE sql TRANSFORM FOR TYPE int AS 'SELECT $1';
CREATE FUNCTION k.bloom_too(internal) RETURNS index_am_handler LANGUAGE c AS '$libdir/bloom', 'blhandler';
CREATE ACCESS METHOD bloom2 TYPE INDEX HANDLER k.bloom_too; CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler; COMMENT ON ACCESS METHOD heap2 IS 'method';
CREATE OPERATOR CLASS k.bloom_int DEFAULT FOR TYPE int USING bloom2 AS OPERATOR 1 = (int, int), FUNCTION 1 hashint4(int);
CREATE CONVERSION k.from_latin FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8; CREATE DEFAULT CONVERSION k.to_latin FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;
COMMENT ON CONVERSION k.from_latin IS 'conversion';
CREATE TEXT SEARCH PARSER k.words (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, HEADLINE = prsd_headline, LEXTYPES = prsd_lextype); COMMENT ON TEXT SEARCH PARSER k.words IS 'parser';
CREATE TEXT SEARCH TEMPLATE k.plain (INIT = dsimple_init, LEXIZE = dsimple_lexize); COMMENT ON TEXT SEARCH TEMPLATE k.plain IS 'template';
CREATE TEXT SEARCH DICTIONARY k.dict (TEMPLATE = k.plain, stopwords = english); CREATE TEXT SEARCH CONFIGURATION k.conf (PARSER = k.words); ALTER TEXT SEARCH CONFIGURATION k.conf ADD MAPPING FOR asciiword WITH k.dict;
CREATE FUNCTION k.fdw() RETURNS fdw_handler LANGUAGE c STRICT AS '$libdir/file_fdw', 'file_fdw_handler';
CREATE FUNCTION k.fdw_check(text[], oid) RETURNS void LANGUAGE c STRICT AS '$libdir/file_fdw', 'file_fdw_validator';
CREATE FOREIGN DATA WRAPPER files HANDLER k.fdw VALIDATOR k.fdw_check; COMMENT ON FOREIGN DATA WRAPPER files IS 'wrapper'; GRANT USAGE ON FOREIGN DATA WRAPPER files TO pg_monitor;
CREATE FOREIGN DATA WRAPPER nothing OPTIONS (one '1', "Two ""2" 'it''s\x');
CREATE SERVER here FOREIGN DATA WRAPPER files; COMMENT ON SERVER here IS 'server'; GRANT USAGE ON FOREIGN SERVER here TO pg_monitor;
CREATE SERVER "There it is" TYPE 'a''b' VERSION '1.2' FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'db.invalid', dbname 'x''y\z', port '5433');
CREATE USER MAPPING FOR PUBLIC SERVER "There it is" OPTIONS (user 'reader'); CREATE USER MAPPING FOR pg_monitor SERVER "There it is" OPTIONS (user 'reader', password 'hush-hush-1'); CREATE USER MAPPING FOR CURRENT_USER SERVER here;
CREATE SERVER tokens FOREIGN DATA WRAPPER nothing OPTIONS (url 'https://x.invalid', api_key 'hush-hush-2');
CREATE FOREIGN TABLE k.lines (a text OPTIONS (force_not_null 'true') COLLATE "C" NOT NULL DEFAULT 'x', b int CHECK (b > 0), c text GENERATED ALWAYS AS (a || '!') STORED) SERVER here OPTIONS (filename '/dev/null', format 'csv');
ALTER FOREIGN TABLE k.lines ALTER a SET STATISTICS 44, ALTER a SET (n_distinct = 5), ALTER a SET STORAGE external; COMMENT ON FOREIGN TABLE k.lines IS 'foreign'; COMMENT ON COLUMN k.lines.a IS 'foreign column'; GRANT SELECT ON k.lines TO pg_monitor;
ALTER FOREIGN TABLE k.lines ADD CONSTRAINT late CHECK (b < 1000) NOT VALID;
CREATE VIEW k.over_lines AS SELECT * FROM k.lines; CREATE MATERIALIZED VIEW k.mat_lines AS SELECT count(*) AS n FROM k.over_lines;
CREATE FUNCTION k.noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER lt BEFORE INSERT ON k.lines FOR EACH ROW EXECUTE FUNCTION k.noop();

-- Tables of all that, and the settings of columns and relations.
CREATE TABLE k.t (id k.whole PRIMARY KEY, o k."Odd, one"(20), s k.steps, ms k.many_steps, l k.late, arr int[], n int, txt text COMPRESSION pglz, w k.whole[]) USING heap2 WITH (fillfactor = 60);
ALTER TABLE k.t ALTER txt SET STORAGE main, ALTER n SET STATISTICS 33, ALTER n SET (n_distinct = 9, n_distinct_inherited = 8); ALTER TABLE k.t REPLICA IDENTITY FULL; ALTER TABLE k.t CLUSTER ON t_pkey;
INSERT INTO k.t SELECT i::bigint, k.odd_in(('o' || i)::cstring), k.steps(i, i + 5), NULL, i % 50 + 1, ARRAY[i, i + 1], i, 'text', ARRAY[i::bigint::k.whole] FROM generate_series(1, 200) i;
CREATE INDEX t_hash ON k.t USING hash (id k.whole_hash); CREATE INDEX t_gin ON k.t USING gin (arr k.arr); CREATE INDEX t_bloom ON k.t USING bloom2 (n) WITH (length = 64); CREATE INDEX t_fts ON k.t USING gin (to_tsvector('k.conf', txt));
CREATE STATISTICS k.st ON n, txt FROM k.t; ALTER STATISTICS k.st SET STATISTICS 11;
CREATE TABLE k.parent (a text, b text, c int) WITH (autovacuum_enabled = false); ALTER TABLE k.parent ALTER a SET COMPRESSION pglz, ALTER b SET STORAGE external;
CREATE TABLE k.heir (d int) INHERITS (k.parent); ALTER TABLE k.heir ALTER b SET STORAGE extended, ALTER c SET STATISTICS 5;
CREATE FOREIGN TABLE k.far_heir () INHERITS (k.parent) SERVER here OPTIONS (filename '/dev/null');
CREATE TABLE k.split (id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id); CREATE TABLE k.split_1 PARTITION OF k.split FOR VALUES FROM (0) TO (100) WITH (fillfactor = 50);
CREATE TABLE k.whole_list (w k.whole) PARTITION BY LIST (w); CREATE FOREIGN TABLE k.far_part PARTITION OF k.whole_list FOR VALUES IN ('1') SERVER here OPTIONS (filename '/dev/null'); CREATE TABLE k.near_part PARTITION OF k.whole_list DEFAULT;
CREATE UNLOGGED TABLE k.quick (id serial, i int GENERATED ALWAYS AS IDENTITY); ALTER TABLE k.quick REPLICA IDENTITY NOTHING; 
CREATE UNLOGGED SEQUENCE k.quick_seq; ALTER SEQUENCE k.quick_id_seq SET LOGGED; -- since 15
CREATE SEQUENCE k.quick_seq; -- before 15
CREATE MATERIALIZED VIEW k.mv AS SELECT n, txt FROM k.t; ALTER MATERIALIZED VIEW k.mv ALTER n SET STATISTICS 22, ALTER txt SET STORAGE external, ALTER n SET (n_distinct = 3), ALTER txt SET COMPRESSION pglz; ALTER TABLE k.mv REPLICA IDENTITY FULL;
CREATE INDEX mv_n ON k.mv (n); ALTER MATERIALIZED VIEW k.mv CLUSTER ON mv_n; COMMENT ON COLUMN k.mv.n IS 'mv column';
CREATE VIEW k.v WITH (security_invoker = true) AS SELECT id, n FROM k.t; -- since 15
CREATE VIEW k.v AS SELECT id, n FROM k.t; -- before 15
CREATE RULE v_ins AS ON INSERT TO k.v DO INSTEAD NOTHING; COMMENT ON RULE v_ins ON k.v IS 'rule';
ALTER TABLE k.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p ON k.t TO pg_monitor, pg_read_all_data USING (n > 0);
GRANT SELECT (n), UPDATE (txt) ON k.t TO pg_monitor; GRANT ALL ON SEQUENCE k.quick_seq TO pg_monitor;
CREATE COLLATION k.num (provider = icu, locale = 'en-u-kn-true'); COMMENT ON COLLATION k.num IS 'collation';
CREATE AGGREGATE k.total(bigint) (SFUNC = int8_sum, STYPE = numeric, PARALLEL = SAFE); COMMENT ON AGGREGATE k.total(bigint) IS 'aggregate';
CREATE PROCEDURE k.go() LANGUAGE plpgsql AS 'BEGIN NULL; END';

-- What needs itself: a default and checks of functions that take the rows, and a domain's that takes the domain.
CREATE TABLE k.ring (id int, v int); CREATE FUNCTION k.ring_ok(k.ring) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1.v > 0'; ALTER TABLE k.ring ADD CONSTRAINT fine CHECK (k.ring_ok(ring.*)), ADD CHECK (v < 100);
CREATE FUNCTION k.next_ring() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT coalesce(max(id), 0) + 1 FROM k.ring; END; ALTER TABLE k.ring ALTER id SET DEFAULT k.next_ring(); INSERT INTO k.ring (v) VALUES (1), (2);
CREATE DOMAIN k.self AS int; CREATE FUNCTION k.self_ok(k.self) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1::int > 0'; ALTER DOMAIN k.self ADD CONSTRAINT ok CHECK (k.self_ok(VALUE)); CREATE TABLE k.selves (s k.self DEFAULT 5);

-- Owners of every kind, and what a role makes later.
ALTER SCHEMA k OWNER TO pg_monitor; ALTER TYPE k.whole OWNER TO pg_monitor; ALTER OPERATOR FAMILY k.whole_fam USING btree OWNER TO pg_monitor; ALTER OPERATOR CLASS k.whole_ops USING btree OWNER TO pg_monitor;
ALTER OPERATOR k.<(k.whole, k.whole) OWNER TO pg_monitor; ALTER LANGUAGE ourpl OWNER TO pg_monitor; ALTER CONVERSION k.from_latin OWNER TO pg_monitor; ALTER TEXT SEARCH DICTIONARY k.dict OWNER TO pg_monitor;
ALTER TEXT SEARCH CONFIGURATION k.conf OWNER TO pg_monitor; ALTER SERVER here OWNER TO pg_monitor; ALTER FOREIGN TABLE k.lines OWNER TO pg_monitor; ALTER STATISTICS k.st OWNER TO pg_monitor; ALTER COLLATION k.num OWNER TO pg_monitor;
ALTER DEFAULT PRIVILEGES FOR ROLE pg_monitor IN SCHEMA k GRANT EXECUTE ON FUNCTIONS TO pg_read_all_data; ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO pg_monitor; ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;

-- What belongs to the database itself, what acts later, what cannot move.
CREATE FUNCTION k.on_drop() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER et ON sql_drop EXECUTE FUNCTION k.on_drop(); COMMENT ON EVENT TRIGGER et IS 'event';
CREATE PUBLICATION pub FOR TABLE k.split_1 (id) WITH (publish = 'insert'); -- since 15
CREATE PUBLICATION pub FOR TABLE k.split_1 WITH (publish = 'insert'); -- before 15
COMMENT ON PUBLICATION pub IS 'pub'; ALTER PUBLICATION pub OWNER TO pg_monitor;
SELECT lo_from_bytea(0, 'large');
DO $x$ BEGIN
  EXECUTE format($$COMMENT ON DATABASE %1$I IS 'data''base'; GRANT CREATE ON DATABASE %1$I TO pg_monitor; REVOKE TEMPORARY ON DATABASE %1$I FROM PUBLIC$$, current_database());
  EXECUTE format($$ALTER DATABASE %1$I SET work_mem = '5MB'; ALTER DATABASE %1$I SET search_path = "$user", public, "My, Schema"; ALTER ROLE CURRENT_USER IN DATABASE %1$I SET our.setting = 'it''s'; ALTER DATABASE %1$I SET default_transaction_read_only = on$$, current_database());
END $x$;
