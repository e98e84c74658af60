INSERT INTO k_composite SELECT md5((i % 40)::text)::uuid, i % 25 - 12, 'ä' || i, i, 'v' || i FROM generate_series(1, 3000) i;
INSERT INTO k_include SELECT i * 1000003::bigint % 1000000007, i, repeat('v', i % 90) FROM generate_series(1, 3000) i;
INSERT INTO k_not_null_unique SELECT i, -i, 'v' FROM generate_series(1, 1500) i;
INSERT INTO k_other_identity SELECT i, md5(i::text)::uuid, i, 'v' FROM generate_series(1, 1500) i;
INSERT INTO k_full_with_key SELECT i, i, repeat('v', i % 50) FROM generate_series(1, 1500) i;
INSERT INTO bare SELECT i % 7, NULLIF('v' || i % 3, 'v0'), (ARRAY['NaN', '-0', '0', '1e-300', '-Infinity'])[1 + i % 5]::float8, CASE WHEN i % 4 > 0 THEN '{"a": [1, null]}'::jsonb END FROM generate_series(1, 900) i;
INSERT INTO bare_wide SELECT (ARRAY['NaN', '1.0', '1.00', '-Infinity', '1e100'])[1 + i % 5]::numeric, decode(md5((i % 9)::text), 'hex'), repeat('big', 40000 * (1 - sign(i % 30)::int) + 1) FROM generate_series(1, 300) i; -- since 14
INSERT INTO bare_wide SELECT (ARRAY['NaN', '1.0', '1.00', '-1e999', '1e100'])[1 + i % 5]::numeric, decode(md5((i % 9)::text), 'hex'), repeat('big', 40000 * (1 - sign(i % 30)::int) + 1) FROM generate_series(1, 300) i; -- before 14
INSERT INTO bare_loose SELECT (ARRAY['a', 'A', 'ä', NULL])[1 + i % 4], (ARRAY['-0', '0'])[1 + i % 2]::float8, (ARRAY['1', '1.0', '1.00'])[1 + i % 3]::numeric FROM generate_series(1, 400) i;
INSERT INTO bare_nothing SELECT FROM generate_series(1, 3);
INSERT INTO toast SELECT i, i, CASE WHEN i % 3 = 0 THEN (SELECT string_agg(md5(i::text || g), '') FROM generate_series(1, 3200) g) END, repeat('plain', i % 5 * 5000), jsonb_build_object('k', repeat('x', 3000)) FROM generate_series(1, 240) i;
INSERT INTO toast_full SELECT i, i, (SELECT string_agg(md5(i::text || g), '') FROM generate_series(1, 300) g), repeat('plain', i % 5 * 2000) FROM generate_series(1, 150) i;
INSERT INTO toast_unit SELECT 'W' || md5(i::text), i, decode(repeat(md5(i::text), 700), 'hex') FROM generate_series(1, 200) i;
INSERT INTO types (i2, i8, f4, f8, num, num2, m, t, vc, ch, nm, qc, by, ts, tz, d, ti, tt, iv, bo, b1, vb, e, dom, j, jb, x, u, ip, net, mac, mac8,
  p, li, ls, bx, pa, po, ci, h, cit, lt, lq, tv, tq, r4, rn, rt, rf, mr, c, ai, at, an, ae, ac, ad, ah, ar, ads, o, rc, lsn, xid8, jp, n, v)
SELECT i - 32768, -9223372036854775808 + i, (ARRAY['NaN', '-0', 'Infinity', '1.17549e-38', '3.4e38'])[1 + i % 5]::real,
  (ARRAY['NaN', '-0', '-Infinity', '5e-324', '1.7976931348623157e308', '0.1'])[1 + i % 6]::float8,
  (ARRAY['NaN', 'Infinity', '-Infinity', '0', '1e-1000', '-9e900', '123456789.000000000000000001', '1.10'])[1 + i % 8]::numeric, -- since 14
  (ARRAY['NaN', '1e999', '-1e999', '0', '1e-1000', '-9e900', '123456789.000000000000000001', '1.10'])[1 + i % 8]::numeric, -- before 14
  i / 7.0, (i / 100.0)::numeric::money,
  E'tab\t nl\n back\\ quote'' "dq" \u00e4 😀 \\N' || i, left('vc ' || i, 20), 'c' || i % 99, 'name' || i, chr(65 + i % 50)::"char", decode(md5(i::text) || '00ff5c', 'hex'),
  (ARRAY['infinity', '-infinity', '4713-01-01 00:00:00 BC', '294246-12-31 23:59:59.999999', '2000-01-01'])[1 + i % 5]::timestamp,
  (ARRAY['infinity', '-infinity', '0044-03-15 12:00:00+00 BC', '1999-12-31 23:59:59.9996+00'])[1 + i % 4]::timestamptz,
  (ARRAY['infinity', '-infinity', '4713-01-01 BC', '5874897-12-31', '0001-12-31 BC'])[1 + i % 5]::date, (ARRAY['00:00', '24:00:00', '23:59:59.999999'])[1 + i % 3]::time,
  (ARRAY['00:00+15:59', '24:00:00-15:59:59', '12:00+00'])[1 + i % 3]::timetz, (ARRAY['-178000000 years', '1 mon -1 day 00:00:00.000001', '0', '1 year 2 mons -3 days -04:05:06.7'])[1 + i % 4]::interval,
  CASE i % 3 WHEN 0 THEN true WHEN 1 THEN false END, (i % 32)::bit(5), (repeat('10', i % 20))::varbit, (enum_range(NULL::mood))[1 + i % 5], i,
  '{"b" : 1,  "a":[ ] , "b":2}', jsonb_build_object('n', i, 'x', NULL, 'deep', jsonb_build_array('ü', 1e30, false)), ('<a b="' || i || '">ü</a>')::xml, md5(i::text)::uuid,
  (ARRAY['10.1.2.3/8', '::1', '2001:db8::/32'])[1 + i % 3]::inet, '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05',
  point(i, -i / 3.0), '{1,2,3}', '[(0,0),(1,1)]', '(1,1),(0,0)', '((0,0),(1,1),(2,0))', '((0,0),(1,1),(2,0))', '<(1,2),3>',
  hstore(ARRAY['k "q"', 'n=>', i::text], ARRAY['v', NULL, '']), 'CiText' || i, ('Top.n' || i)::ltree, '*.n1|n2.*', to_tsvector('simple', 'a fat cat ' || i), 'fat & (rat | cat:*)',
  CASE i % 4 WHEN 0 THEN 'empty' WHEN 1 THEN '(,)' ELSE int4range(i, i + 5) END, numrange(NULL, i, '(]'), tstzrange('-infinity', 'infinity', '[]'), floats(i, i + 0.5),
  '{[1,3),[5,7)}', -- since 14
  '[1,3)', -- before 14
  ROW(i, 'x,"(' || i, 'sad')::pair, ARRAY[i, NULL, 3], ARRAY[['a"b', NULL], ['c,d', '{}']], ARRAY['NaN', 1.50, NULL]::numeric[], ARRAY['sad', NULL, '😀']::mood[], ARRAY[ROW(1, NULL, 'new')::pair, NULL],
  '[-1:1]={2000-01-01,infinity,0044-03-15 BC}', ARRAY['a=>1'::hstore], ARRAY[int4range(1, 2), NULL], ARRAY['c', 'd'], i, 'pg_class', '16/B374D848', (i * 3)::text::xid8, '$.a[*] ? (@ > 1)', i, 'v'
FROM generate_series(1, 400) i;
INSERT INTO types DEFAULT VALUES;
INSERT INTO "Sch.ema ""q"" 😀"."Tab.le ""x"", it's; DROP 😀" SELECT i, 'a' || i, 'sad', i, i, 'v' FROM generate_series(1, 800) i;
INSERT INTO "a23456789012345678901234567890123456789012345678901234567890123" SELECT i, 'a' || i, i FROM generate_series(1, 800) i;
INSERT INTO "drover" SELECT i, 'I', i, '\x00', i, '\xff', i, i FROM generate_series(1, 800) i;
INSERT INTO part SELECT i, '2019-06-01'::date + i % 1500, i, 'v' || i FROM generate_series(1, 3000) i; INSERT INTO part VALUES (0, '-infinity', 0, 'old'), (0, 'infinity', 0, 'new');
INSERT INTO part_bare SELECT (ARRAY['a', 'A', 'b', 'zz', NULL])[1 + i % 5], i % 11 FROM generate_series(1, 500) i;
INSERT INTO parent SELECT i, i FROM generate_series(1, 300) i; INSERT INTO heir SELECT i, i, 'v' FROM generate_series(1000, 1300) i;
INSERT INTO always (n, v) SELECT i, 'v' FROM generate_series(1, 1000) i;
INSERT INTO generated (n, id, v) SELECT i, i, 'v' || i FROM generate_series(1, 1000) i;
INSERT INTO deferred SELECT i, i, i, 'v' FROM generate_series(1, 500) i;
INSERT INTO uniques SELECT i, i, 'B' || i, i % 3, i % 2 FROM generate_series(1, 500) i;
INSERT INTO excluded SELECT i, int4range(i * 10, i * 10 + 5), i FROM generate_series(1, 300) i;
INSERT INTO customer SELECT i, 'c' || i, i FROM generate_series(1, 300) i;
INSERT INTO orders SELECT i, 1 + i % 300, NULLIF(i / 2, 0), i, 'v' FROM generate_series(1, 1500) i;
INSERT INTO emptied SELECT i, i, 'before' FROM generate_series(1, 2000) i;
INSERT INTO dropped (id, n, v) SELECT i, i, 'v' FROM generate_series(1, 500) i;
INSERT INTO scratch SELECT i, 'v' FROM generate_series(1, 100) i;
INSERT INTO wide (id, n, c1, c2, c299, c300) SELECT i, i, 'a', i % 2 = 0, '2020-01-01', i FROM generate_series(1, 300) i;
SELECT nextval('loose_one'), nextval('loose_one');
ANALYZE;
CREATE EVENT TRIGGER nosy ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'CREATE INDEX', 'ALTER TABLE') EXECUTE FUNCTION nosy();
