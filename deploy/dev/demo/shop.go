package main

// shop is the schema of the demonstration: about a million rows in ordinary tables with keys,
// indexes, a foreign key, a view and a sequence.
const shop = `
CREATE TYPE status AS ENUM ('new', 'paid', 'sent');
CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, email text UNIQUE, since timestamptz NOT NULL DEFAULT now());
CREATE TABLE products (id int PRIMARY KEY, name text NOT NULL, price numeric(10,2) NOT NULL CHECK (price >= 0), tags text[], spec jsonb);
CREATE TABLE orders (id bigserial PRIMARY KEY, customer bigint NOT NULL REFERENCES customers, status status NOT NULL DEFAULT 'new',
  total numeric(12,2) NOT NULL, placed timestamptz NOT NULL DEFAULT now(), note text);
CREATE TABLE items (orders bigint NOT NULL, line int NOT NULL, product int NOT NULL REFERENCES products, amount int NOT NULL, PRIMARY KEY (orders, line));
CREATE INDEX orders_customer ON orders (customer, placed DESC);
CREATE INDEX items_product ON items (product);
CREATE VIEW open_orders AS SELECT o.id, c.name, o.total FROM orders o JOIN customers c ON c.id = o.customer WHERE o.status = 'new';

INSERT INTO customers (name, email) SELECT 'customer ' || i, 'c' || i || '@example.com' FROM generate_series(1, 100000) i;
INSERT INTO products SELECT i, 'product ' || i, (i % 1000) / 10.0, ARRAY['t' || i % 7, 't' || i % 3], jsonb_build_object('weight', i % 50) FROM generate_series(1, 10000) i;
INSERT INTO orders (customer, total, note) SELECT 1 + (i * 7) % 100000, (i % 5000) / 100.0, repeat('note ', i % 8) FROM generate_series(1, 290000) i;
INSERT INTO items SELECT i, l, 1 + (i * 31 + l) % 10000, 1 + i % 5 FROM generate_series(1, 300000) i, generate_series(1, 2) l;
ANALYZE;`

// writes are what the shop does all day; $1 is a random number.
var writes = []string{
	`INSERT INTO orders (customer, total) VALUES (1 + $1::int % 100000, $1::int % 1000)`,
	`UPDATE orders SET status = 'paid', note = note || '+' WHERE id = 1 + $1::int % 290000`,
	`UPDATE products SET price = price + 0.01 WHERE id = 1 + $1::int % 10000`,
	`DELETE FROM items WHERE orders = 1 + $1::int % 300000 AND line = 2`,
	`INSERT INTO items VALUES (1 + $1::int % 300000, 3, 1 + $1::int % 10000, 1) ON CONFLICT DO NOTHING`,
	`UPDATE items SET line = 4 WHERE orders = 1 + $1::int % 300000 AND line = 3`,
	`INSERT INTO customers (name) VALUES ('new customer ' || $1::int)`,
}
