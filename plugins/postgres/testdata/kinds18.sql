-- What PostgreSQL 16, 17 and 18 can say and 15 cannot.
CREATE EXTENSION btree_gist;
CREATE SCHEMA n;
CREATE TABLE n.plain (id int PRIMARY KEY, v text); INSERT INTO n.plain SELECT i, 'v' || i FROM generate_series(1, 100) i;
CREATE COLLATION n.ruled (provider = icu, locale = 'und', rules = '&V << w <<< W'); CREATE TABLE n.by_rule (w text COLLATE n.ruled); -- since 16
CREATE VIEW n.made AS SELECT JSON_OBJECT('id' : id) AS o, v IS JSON AS j FROM n.plain; -- since 16
CREATE COLLATION n.code_point (provider = builtin, locale = 'C.UTF-8'); -- since 17
CREATE TABLE n.by_code (k text COLLATE n.code_point PRIMARY KEY, p text COLLATE pg_c_utf8 UNIQUE); INSERT INTO n.by_code SELECT 'é' || i, i FROM generate_series(1, 100) i; -- since 17
CREATE TABLE n.numbered (id bigint GENERATED ALWAYS AS IDENTITY (START 7 INCREMENT 3), at int, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); -- since 17
CREATE TABLE n.numbered_1 PARTITION OF n.numbered FOR VALUES FROM (0) TO (100); CREATE TABLE n.numbered_2 (id bigint NOT NULL, at int NOT NULL, v text); -- since 17
ALTER TABLE n.numbered ATTACH PARTITION n.numbered_2 FOR VALUES FROM (100) TO (200); INSERT INTO n.numbered (at, v) SELECT i, 'v' FROM generate_series(1, 199) i; -- since 17
GRANT MAINTAIN ON n.plain TO pg_monitor; GRANT ALL ON n.by_code TO pg_monitor; ALTER DEFAULT PRIVILEGES IN SCHEMA n GRANT SELECT, MAINTAIN ON TABLES TO pg_monitor; -- since 17
CREATE VIEW n.tabled AS SELECT t.a FROM JSON_TABLE('[{"a": 1}]'::jsonb, '$[*]' COLUMNS (a int PATH '$.a')) t; -- since 17
CREATE FUNCTION n.on_login() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER at_login ON login EXECUTE FUNCTION n.on_login(); -- since 17
CREATE DOMAIN n.sure AS int CONSTRAINT "there; it is" NOT NULL; COMMENT ON CONSTRAINT "there; it is" ON DOMAIN n.sure IS 'not null of a domain'; -- since 17
CREATE TABLE n.computed (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2), kept int GENERATED ALWAYS AS (a * 3) STORED); INSERT INTO n.computed (id, a) SELECT i, i FROM generate_series(1, 100) i; -- since 18
CREATE TABLE n.compute_heir (b int) INHERITS (n.computed); INSERT INTO n.compute_heir (id, a, b) VALUES (1000, 5, 6); -- since 18
CREATE TABLE n.stays (room int, during daterange, who text, PRIMARY KEY (room, during WITHOUT OVERLAPS), UNIQUE (who, during WITHOUT OVERLAPS)); -- since 18
INSERT INTO n.stays SELECT i % 10, daterange('2020-01-01'::date + i, '2020-01-01'::date + i + 5), 'w' || i FROM generate_series(1, 99) i; -- since 18
CREATE TABLE n.bills (id int PRIMARY KEY, room int, during daterange, FOREIGN KEY (room, PERIOD during) REFERENCES n.stays (room, PERIOD during)); INSERT INTO n.bills SELECT 1, room, during FROM n.stays LIMIT 1; -- since 18
CREATE TABLE n.lenient (id int PRIMARY KEY, up int REFERENCES n.plain NOT ENFORCED, c int CONSTRAINT small CHECK (c < 5) NOT ENFORCED); INSERT INTO n.lenient VALUES (1, -1, 99); COMMENT ON CONSTRAINT small ON n.lenient IS 'not enforced'; -- since 18
CREATE TABLE n.named (id int CONSTRAINT "Id; is there" NOT NULL, a int CONSTRAINT only_here NOT NULL NO INHERIT, b int, c int NOT NULL); COMMENT ON CONSTRAINT only_here ON n.named IS 'a name'; -- since 18
INSERT INTO n.named VALUES (1, 1, NULL, 1); ALTER TABLE n.named ADD CONSTRAINT b_later NOT NULL b NOT VALID; COMMENT ON CONSTRAINT b_later ON n.named IS 'not valid'; -- since 18
CREATE UNIQUE INDEX ON n.named (b); CREATE TABLE n.heir (d int CONSTRAINT d_own NOT NULL, CONSTRAINT a_own NOT NULL a) INHERITS (n.named); ALTER TABLE n.named RENAME c TO cc; -- since 18
CREATE TABLE n.parts (id int CONSTRAINT parts_say NOT NULL, r int, PRIMARY KEY (id)) PARTITION BY LIST (id); CREATE TABLE n.parts_1 PARTITION OF n.parts FOR VALUES IN (1); ALTER TABLE n.parts ADD CONSTRAINT parts_ref FOREIGN KEY (r) REFERENCES n.plain NOT VALID; -- since 18
CREATE PUBLICATION computed FOR TABLE n.computed WITH (publish_generated_columns = stored); -- since 18
ALTER DEFAULT PRIVILEGES GRANT SELECT ON LARGE OBJECTS TO pg_monitor; -- since 18
CREATE TABLE n.sorted (id uuid PRIMARY KEY DEFAULT uuidv7(), v text); INSERT INTO n.sorted (v) VALUES ('a'); CREATE UNLOGGED TABLE n.quick (id int GENERATED ALWAYS AS IDENTITY, CONSTRAINT q NOT NULL id); -- since 18
