-- swap unique values whose check is deferred
UPDATE deferred SET pos = CASE id WHEN a THEN (SELECT pos FROM deferred WHERE id = b) ELSE (SELECT pos FROM deferred WHERE id = a) END
FROM (SELECT min(id) AS a, max(id) AS b FROM (SELECT id FROM deferred ORDER BY random() LIMIT 2) x) two WHERE id IN (a, b);
-- rotate all unique values within a range
UPDATE deferred SET pos = pos + 1 WHERE pos BETWEEN 100 AND 150; UPDATE deferred SET pos = 100 WHERE pos = 151 AND id = (SELECT id FROM deferred WHERE pos = 151 ORDER BY ctid DESC LIMIT 1);
-- swap unique values that are checked at once, over a third one
DO $$ DECLARE x int; y int; BEGIN SELECT id INTO x FROM uniques ORDER BY random() LIMIT 1; SELECT id INTO y FROM uniques WHERE id <> x ORDER BY random() LIMIT 1;
UPDATE uniques u SET a = -1 - u.a FROM (SELECT a FROM uniques WHERE id = x) o WHERE u.id = y AND u.a > 0; UPDATE uniques SET a = (SELECT -1 - a FROM uniques WHERE id = y) WHERE id = x AND a > 0;
END $$;
-- a chain: each row takes the value the next one gives up
DO $$ DECLARE free int; r record; BEGIN SELECT max(a) + 1 INTO free FROM uniques;
FOR r IN SELECT id, a FROM uniques ORDER BY a DESC LIMIT 5 LOOP UPDATE uniques SET a = free WHERE id = r.id; free := r.a; END LOOP; END $$;
-- a unique value moves from a deleted row to a new one
WITH gone AS (DELETE FROM uniques WHERE id = (SELECT id FROM uniques ORDER BY random() LIMIT 1) RETURNING a, b, c, n) SELECT * INTO TEMP moved FROM gone;
INSERT INTO uniques SELECT 1000000 + (random() * 1e9)::int, a, b, c, n FROM moved; DROP TABLE moved;
-- exclusion: two ranges change places
DO $$ DECLARE x int; y int; rx int4range; ry int4range; BEGIN SELECT id, during INTO x, rx FROM excluded ORDER BY random() LIMIT 1; SELECT id, during INTO y, ry FROM excluded WHERE id <> x ORDER BY random() LIMIT 1;
SET CONSTRAINTS no_overlap DEFERRED; UPDATE excluded SET during = ry WHERE id = x; UPDATE excluded SET during = rx WHERE id = y; END $$;
-- delete and insert again within a transaction
DO $$ DECLARE r k_include; BEGIN DELETE FROM k_include WHERE a = (SELECT a FROM k_include ORDER BY random() LIMIT 1) RETURNING * INTO r; IF FOUND THEN r.v := 'again'; INSERT INTO k_include SELECT r.*; END IF; END $$;
-- insert and delete again within a transaction
INSERT INTO k_include VALUES (-5, 1, 'never seen'); DELETE FROM k_include WHERE a = -5;
-- a key goes away and comes back
DO $$ DECLARE k bigint; BEGIN SELECT a INTO k FROM k_include ORDER BY random() LIMIT 1; UPDATE k_include SET a = -a - 10 WHERE a = k; UPDATE k_include SET a = k, n = n + 1 WHERE a = -k - 10; END $$;
-- two keys change places over a third
DO $$ DECLARE x bigint; y bigint; BEGIN SELECT a INTO x FROM k_include ORDER BY random() LIMIT 1; SELECT a INTO y FROM k_include WHERE a <> x ORDER BY random() LIMIT 1;
UPDATE k_include SET a = -9999 WHERE a = x; UPDATE k_include SET a = x WHERE a = y; UPDATE k_include SET a = y WHERE a = -9999; END $$;
-- many keys move at once, across every chunk
UPDATE k_include SET a = 1000000007 - a WHERE a % 37 = (random() * 36)::int AND NOT EXISTS (SELECT FROM k_include o WHERE o.a = 1000000007 - k_include.a);
-- a composite key changes in its second part only
UPDATE k_composite SET c = c || 'x' WHERE (a, b, c) = (SELECT a, b, c FROM k_composite WHERE length(c) < 40 ORDER BY random() LIMIT 1);
-- an error inside savepoints undoes everything
BEGIN; UPDATE k_composite SET n = -1 WHERE a = 3; SAVEPOINT one; DELETE FROM k_composite WHERE a = 3; SAVEPOINT two; INSERT INTO k_composite VALUES (NULL, 3, 'not null fails');
-- more savepoints
BEGIN; SAVEPOINT a; UPDATE k_composite SET n = n + 1 WHERE a = 4; SAVEPOINT b; DELETE FROM k_composite WHERE a = 4; ROLLBACK TO b; UPDATE k_composite SET v = 'kept' WHERE a = 4; RELEASE a; SAVEPOINT c; DELETE FROM bare; ROLLBACK TO c; COMMIT;
-- a transaction over many tables, aborted
BEGIN; UPDATE customer SET n = n + 1; DELETE FROM orders; TRUNCATE emptied; ROLLBACK;
-- a transaction over many tables, with a cascade
BEGIN; DELETE FROM customer WHERE id = (SELECT id FROM customer ORDER BY random() LIMIT 1); INSERT INTO customer VALUES (1000000 + (random() * 1e9)::int, 'new', 1); UPDATE parent SET n = n + 1 WHERE id % 50 = 0; UPDATE bare SET a = a + 1 WHERE a = 3; COMMIT;
-- child before parent, as a deferred key allows
BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO orders VALUES (2000000 + (random() * 1e9)::int, 777777, NULL, 1, 'early'); INSERT INTO customer VALUES (777777, 'late', 1) ON CONFLICT DO NOTHING; COMMIT;
-- a row out of line changes elsewhere
UPDATE toast SET n = n + 1 WHERE id % 10 = (random() * 9)::int;
-- its key changes and the wide values stay
UPDATE toast SET id = id + 1000000 WHERE id = (SELECT id FROM toast WHERE id < 1000000 ORDER BY random() LIMIT 1);
-- its key changes twice, then the wide value is replaced
DO $$ DECLARE k int; BEGIN SELECT id INTO k FROM toast ORDER BY random() LIMIT 1; UPDATE toast SET id = -k - 1 WHERE id = k; UPDATE toast SET id = -k - 2000000, n = 5 WHERE id = -k - 1; UPDATE toast SET plain = repeat('new', 9000) WHERE id = -k - 2000000; END $$;
-- a wide value is replaced, then the key changes
DO $$ DECLARE k int; BEGIN SELECT id INTO k FROM toast ORDER BY random() LIMIT 1; UPDATE toast SET big = (SELECT string_agg(md5(random()::text || g), '') FROM generate_series(1, 3200) g) WHERE id = k; UPDATE toast SET id = (random() * 2e9)::int WHERE id = k; END $$;
-- wide rows change places
DO $$ DECLARE x int; y int; BEGIN SELECT id INTO x FROM toast ORDER BY random() LIMIT 1; SELECT id INTO y FROM toast WHERE id <> x ORDER BY random() LIMIT 1;
UPDATE toast SET id = -2147483648 WHERE id = x; UPDATE toast SET id = x WHERE id = y; UPDATE toast SET id = y WHERE id = -2147483648; END $$;
-- a wide row takes the key of a deleted one
DO $$ DECLARE x int; y int; BEGIN SELECT id INTO x FROM toast ORDER BY random() LIMIT 1; SELECT id INTO y FROM toast WHERE id <> x ORDER BY random() LIMIT 1; DELETE FROM toast WHERE id = x; UPDATE toast SET id = x WHERE id = y; END $$;
INSERT INTO toast VALUES ((random() * 2e9)::int, 1, (SELECT string_agg(md5(random()::text || g), '') FROM generate_series(1, 3200) g), NULL, NULL);
-- the same with the whole old row in the log
UPDATE toast_full SET id = id + 100000, n = n + 1 WHERE id = (SELECT id FROM toast_full ORDER BY random() LIMIT 1); UPDATE toast_full SET n = n + 1 WHERE id % 7 = 1;
-- and where the table is gated as a whole
UPDATE toast_unit SET w = upper(w) || 'x' WHERE w = (SELECT w FROM toast_unit WHERE length(w) < 60 ORDER BY random() LIMIT 1); UPDATE toast_unit SET n = n + 1 WHERE n % 9 = 4;
-- rows without key: one of many, all of a kind, and the same again
DELETE FROM bare WHERE ctid = (SELECT ctid FROM bare ORDER BY random() LIMIT 1);
UPDATE bare SET a = a + 1 WHERE ctid = ANY (ARRAY(SELECT ctid FROM bare ORDER BY random() LIMIT 3));
INSERT INTO bare SELECT * FROM bare ORDER BY random() LIMIT 4;
UPDATE bare SET b = NULL, f = '-0' WHERE a = 5; INSERT INTO bare VALUES (NULL, NULL, NULL, NULL), (NULL, NULL, NULL, NULL); DELETE FROM bare WHERE ctid = (SELECT ctid FROM bare WHERE a IS NULL LIMIT 1);
UPDATE bare_wide SET a = CASE WHEN a = 1 THEN '1.00' ELSE a END WHERE ctid = (SELECT ctid FROM bare_wide ORDER BY random() LIMIT 1); INSERT INTO bare_wide SELECT * FROM bare_wide ORDER BY random() LIMIT 1;
DELETE FROM bare_wide WHERE ctid = (SELECT ctid FROM bare_wide ORDER BY random() LIMIT 1);
UPDATE bare_loose SET a = CASE a WHEN 'a' THEN 'A' ELSE 'a' END, z = -z, n = n * 1.0 WHERE ctid = ANY (ARRAY(SELECT ctid FROM bare_loose WHERE scale(n) < 9 ORDER BY random() LIMIT 3));
DELETE FROM bare_loose WHERE ctid = (SELECT ctid FROM bare_loose ORDER BY random() LIMIT 1); INSERT INTO bare_loose VALUES ('A', 0, 1.000);
INSERT INTO bare_nothing DEFAULT VALUES;
-- rows move between partitions
UPDATE part SET at = '2019-06-01'::date + (random() * 1500)::int WHERE id % 300 = (random() * 299)::int; UPDATE part_bare SET k = (ARRAY['a', 'b', 'q', NULL])[1 + (random() * 3)::int] WHERE n = (random() * 10)::int;
-- generated columns follow their sources; a key too
UPDATE generated SET n = n + 1, v = v || 'x' WHERE id % 90 = (random() * 89)::int; UPDATE generated SET id = id + 1000000 WHERE id = (SELECT id FROM generated WHERE id < 1000000 ORDER BY random() LIMIT 1);
-- an identity that nobody may set is given anew
UPDATE always SET id = DEFAULT WHERE id = (SELECT id FROM always ORDER BY random() LIMIT 1); INSERT INTO always (n) VALUES (1);
-- values that look like others
UPDATE types SET f8 = CASE f8 WHEN '-0' THEN '0' ELSE '-0'::float8 END, num = CASE num WHEN 0 THEN 0.000 ELSE 'NaN'::numeric END, cit = upper(cit), tz = 'infinity', d = '-infinity', h = '', ai = '{}', c = NULL, rt = 'empty' WHERE id % 60 = (random() * 59)::int;
-- large numbers of changes to one row
DO $$ BEGIN FOR i IN 1..200 LOOP UPDATE wide SET n = n + 1 WHERE id = 7; END LOOP; END $$;
-- one statement that changes a whole table
UPDATE wide SET n = n + 1;
-- rows come and go where unique values and exclusions are deferrable
INSERT INTO deferred SELECT m + 1, m + 1, 0, 'new' FROM (SELECT max(greatest(id, pos)) AS m FROM deferred) x; DELETE FROM deferred WHERE id = (SELECT id FROM deferred ORDER BY random() LIMIT 1);
DO $$ DECLARE r int4range; BEGIN DELETE FROM excluded WHERE id = (SELECT id FROM excluded ORDER BY random() LIMIT 1) RETURNING during INTO r; INSERT INTO excluded SELECT max(id) + 1, r, 1 FROM excluded; END $$;
