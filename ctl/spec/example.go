package spec

// Example is a pipeline file with every key; the reference prints it, and a test reads it.
const Example = `version: 1
name: shop
labels: {team: payments}
mode: full-load-and-cdc
source:
  url: postgres://repl@old.example.com:5432/shop
  password: env:SHOP_SOURCE_PASSWORD
target:
  type: postgres
  url: postgres://loader@new.example.com:5432/shop
  password: file:/run/secrets/shop-target
tables:
  include: ["public.*", "billing.invoice_*"]
  exclude: ["public.tmp_*"]
schema:
  create: true
load:
  when_not_empty: fail
  chunk: {target: 16MiB}
  parallel: auto
  lane: native
cdc:
  apply: transactional
  heartbeat: 10s
verify:
  after_load: checksum
`
