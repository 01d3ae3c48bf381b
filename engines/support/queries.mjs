// A hundred questions to the database of shop.mjs. Their answers follow from the data alone: rows
// in a full order, exact sums, and no function that differs between versions of SQLite.
//
// Full-text search has two spellings: sql.js is built with FTS4, sqlite-wasm with FTS5.

import { SIZES } from './shop.mjs'

const { CUSTOMERS, ORDERS, BLOBS } = SIZES
const questions = []
const ask = (sql, ...bind) => questions.push({ sql, bind })
/** One question for each of the lists of parameters. */
const askEach = (sql, ...lists) => lists.forEach(bind => ask(sql, ...bind))

// Keys, ranges and orders.
askEach('SELECT * FROM customer WHERE id = ?', [0], [CUSTOMERS - 1], [CUSTOMERS + 5])
askEach(
  'SELECT * FROM orders WHERE id BETWEEN ? AND ? ORDER BY id',
  [10, 30],
  [ORDERS - 20, ORDERS]
)
askEach('SELECT sku, name FROM product WHERE sku >= ? ORDER BY sku LIMIT 7', ['SKU-0'], ['SKU-5'])
ask('SELECT count(*) FROM customer')
ask('SELECT count(*), sum(quantity), max(product_id), min(line) FROM item')
ask('SELECT id FROM customer ORDER BY born DESC NULLS LAST, id LIMIT 12 OFFSET 1500')
ask('SELECT id, placed_at FROM orders ORDER BY placed_at DESC LIMIT 9 OFFSET ?', ORDERS - 20)
ask('SELECT DISTINCT country FROM customer ORDER BY country')
ask("SELECT count(*) FROM orders WHERE status IN ('open', 'lost')")
ask('SELECT id FROM customer WHERE note IS NULL AND born IS NULL ORDER BY id LIMIT 25')
ask("SELECT placed_at FROM orders WHERE status = 'open' ORDER BY placed_at LIMIT 10")
ask("SELECT id, name FROM customer WHERE name LIKE 'CUSTOMER 19%' ORDER BY id")
ask("SELECT id FROM customer WHERE note GLOB '*[aeiou]nd.' ORDER BY id LIMIT 30")
ask('SELECT id, cents FROM product WHERE cents > (SELECT 2 * min(cents) FROM product) ORDER BY id')
ask('SELECT max(length(note)), min(length(note)), sum(length(note)) FROM customer')

// Aggregates.
ask('SELECT country, count(*), avg(born), min(name) FROM customer GROUP BY country ORDER BY 1')
ask('SELECT status, count(*), count(DISTINCT customer_id) FROM orders GROUP BY 1 ORDER BY 1')
ask('SELECT born / 10, count(*) FROM customer GROUP BY 1 HAVING count(*) > 100 ORDER BY 1')
ask('SELECT line, sum(quantity), total(quantity) / count(*) FROM item GROUP BY line ORDER BY line')
ask('SELECT sum(weight), avg(weight), count(weight), max(weight) FROM product')
ask(
  "SELECT strftime('%Y-%m', placed_at, 'unixepoch') AS month, count(*) FROM orders GROUP BY 1 ORDER BY 1"
)
ask(
  'SELECT count(*) FILTER (WHERE born < 1960), count(*) FILTER (WHERE born >= 1960) FROM customer'
)
ask('SELECT product_id, sum(quantity) FROM item GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 15')
ask('SELECT group_concat(id) FROM (SELECT id FROM orders ORDER BY placed_at DESC LIMIT 40)')

// Joins.
askEach(
  `SELECT c.name, o.id, o.status FROM customer c JOIN orders o ON o.customer_id = c.id
   WHERE c.country = ? AND o.status = ? ORDER BY o.id LIMIT 20`,
  ['DE', 'lost'],
  ['JP', 'open'],
  ['ZA', 'returned']
)
ask(`SELECT country, sum(quantity * cents) FROM item JOIN orders o ON o.id = order_id
     JOIN customer c ON c.id = customer_id JOIN product p ON p.id = product_id
     GROUP BY country ORDER BY country`)
ask(`SELECT p.id, p.name FROM product p LEFT JOIN item i ON i.product_id = p.id
     WHERE i.order_id IS NULL ORDER BY p.id`)
ask(`SELECT c.id, count(o.id) FROM customer c LEFT JOIN orders o ON o.customer_id = c.id
     GROUP BY c.id ORDER BY 2 DESC, 1 LIMIT 20`)
ask(`SELECT c.id FROM orders o RIGHT JOIN customer c ON o.customer_id = c.id AND o.status = 'lost'
     WHERE o.id IS NULL ORDER BY c.id LIMIT 40`)
ask(`SELECT count(*) FROM customer c FULL JOIN product p ON p.id = c.id`)
ask(`SELECT a.id, b.id FROM product a JOIN product b ON b.cents = a.cents AND a.id < b.id
     ORDER BY 1, 2 LIMIT 30`)
ask(`SELECT guest.name, host.name FROM customer guest JOIN customer host ON host.id = guest.invited_by
     WHERE host.country = guest.country ORDER BY guest.id LIMIT 25`)
ask(`SELECT count(*) FROM orders a JOIN orders b ON a.customer_id = b.customer_id
     AND b.placed_at > a.placed_at AND b.placed_at < a.placed_at + 20000000`)
ask(
  'SELECT count(*), sum(a.cents - b.cents) FROM product a CROSS JOIN product b WHERE a.id % 9 = b.id % 7'
)
ask(`SELECT id FROM customer c WHERE EXISTS (SELECT 1 FROM orders o JOIN item i ON i.order_id = o.id
     WHERE o.customer_id = c.id AND i.product_id = 77) ORDER BY id`)
ask(`SELECT count(*), min(id) FROM customer WHERE id NOT IN
     (SELECT customer_id FROM orders WHERE status = 'lost')`)
ask(`SELECT name, (SELECT max(placed_at) FROM orders WHERE customer_id = customer.id) FROM customer
     WHERE id % 97 = 3 ORDER BY id`)
ask(`SELECT customer_id FROM orders WHERE status = 'open'
     INTERSECT SELECT customer_id FROM orders WHERE status = 'lost' ORDER BY 1 LIMIT 50`)
ask(`SELECT customer_id FROM orders WHERE status = 'done'
     EXCEPT SELECT customer_id FROM orders WHERE status = 'returned' ORDER BY 1 LIMIT 50`)
ask(`SELECT 'customer', count(*) FROM customer UNION ALL SELECT 'product', count(*) FROM product
     UNION ALL SELECT 'item', count(*) FROM item ORDER BY 1`)

// Window functions.
ask(`SELECT id, cents, rank() OVER (ORDER BY cents DESC), dense_rank() OVER (ORDER BY cents / 100)
     FROM product ORDER BY id LIMIT 40`)
ask(`SELECT id, row_number() OVER (PARTITION BY country ORDER BY name, id) AS place, country
     FROM customer ORDER BY country, place LIMIT 60`)
ask(`SELECT id, placed_at - lag(placed_at) OVER (PARTITION BY customer_id ORDER BY placed_at)
     FROM orders ORDER BY id LIMIT 50`)
ask(`SELECT id, sum(cents) OVER (ORDER BY id ROWS BETWEEN 3 PRECEDING AND CURRENT ROW)
     FROM product ORDER BY id LIMIT 50 OFFSET 100`)
ask(`SELECT DISTINCT customer_id, first_value(id) OVER w, last_value(id) OVER w FROM orders
     WHERE customer_id < 40 WINDOW w AS (PARTITION BY customer_id ORDER BY placed_at
     ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) ORDER BY 1`)
ask(`SELECT quarter, count(*), sum(cents) FROM (SELECT cents, ntile(4) OVER (ORDER BY cents, id)
     AS quarter FROM product) GROUP BY quarter ORDER BY quarter`)
ask(`SELECT id, nth_value(sku, 3) OVER (ORDER BY id), lead(sku, 2, '-') OVER (ORDER BY id)
     FROM product ORDER BY id LIMIT 20`)
ask(`SELECT id, sum(cents) OVER (ORDER BY cents GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING
     EXCLUDE CURRENT ROW) FROM product ORDER BY id LIMIT 30`)
ask(`SELECT id, count(*) OVER (ORDER BY placed_at RANGE BETWEEN 100000 PRECEDING AND CURRENT ROW)
     FROM orders ORDER BY id LIMIT 30 OFFSET 5000`)

// Common table expressions.
ask(`WITH RECURSIVE host(id, depth) AS (SELECT id, 0 FROM customer WHERE invited_by IS NULL
     UNION ALL SELECT c.id, depth + 1 FROM customer c JOIN host ON c.invited_by = host.id)
     SELECT depth, count(*), min(id) FROM host GROUP BY depth ORDER BY depth`)
askEach(
  `WITH RECURSIVE host(id, depth) AS (SELECT ?, 0 UNION ALL
   SELECT invited_by, depth + 1 FROM customer JOIN host USING (id) WHERE invited_by IS NOT NULL)
   SELECT id, depth FROM host ORDER BY depth`,
  [CUSTOMERS - 2],
  [CUSTOMERS - 3]
)
ask(`WITH RECURSIVE day(at) AS (SELECT 1600000000 UNION ALL SELECT at + 86400 FROM day LIMIT 60)
     SELECT at, (SELECT count(*) FROM orders WHERE placed_at >= at AND placed_at < at + 86400)
     FROM day ORDER BY at`)
ask(`WITH big AS MATERIALIZED (SELECT order_id, sum(quantity) AS pieces FROM item GROUP BY 1)
     SELECT pieces, count(*) FROM big GROUP BY pieces ORDER BY pieces`)
ask(`WITH spent(id, cents) AS NOT MATERIALIZED (SELECT customer_id, sum(quantity * p.cents)
     FROM orders o JOIN item ON order_id = o.id JOIN product p ON p.id = product_id GROUP BY 1)
     SELECT id, cents FROM spent ORDER BY cents DESC, id LIMIT 10`)
ask(`WITH RECURSIVE f(n, a, b) AS (VALUES (0, 0, 1) UNION ALL SELECT n + 1, b, a + b FROM f
     WHERE n < 60) SELECT n, a FROM f WHERE n % 6 = 0`)

// JSON.
ask("SELECT json_extract(payload, '$.kind'), count(*) FROM event GROUP BY 1 ORDER BY 1")
askEach(
  `SELECT id, payload ->> '$.ms' FROM event WHERE json_extract(payload, '$.kind') = ?
   ORDER BY id LIMIT 20`,
  ['view'],
  ['fail']
)
ask(
  "SELECT id, attributes -> '$.sizes', attributes ->> '$.box.wide' FROM product ORDER BY id LIMIT 25"
)
ask(
  `SELECT value, count(*) FROM product, json_each(attributes, '$.sizes') GROUP BY value ORDER BY value`
)
ask(`SELECT key, type, count(*) FROM product, json_each(attributes) GROUP BY 1, 2 ORDER BY 1, 2`)
ask(`SELECT fullkey, count(*) FROM product, json_tree(attributes) WHERE atom IS NOT NULL
     GROUP BY fullkey ORDER BY fullkey`)
ask(
  'SELECT json_group_array(id) FROM (SELECT id FROM product WHERE cents < 3000 ORDER BY id LIMIT 99)'
)
ask(
  "SELECT json_set(payload, '$.seen', 1), json_type(payload, '$.path') FROM event ORDER BY id LIMIT 5"
)
ask(
  "SELECT count(*), sum(json_array_length(payload, '$.path')) FROM event WHERE json_valid(payload)"
)
ask('SELECT json_patch(attributes, \'{"box":null}\') FROM product ORDER BY id LIMIT 6')

// Collations, text and blobs.
ask('SELECT id, name FROM customer ORDER BY name, id LIMIT 25')
ask('SELECT id, name FROM customer ORDER BY name COLLATE BINARY, id LIMIT 25')
ask("SELECT id FROM customer WHERE name = 'cUsToMeR 77' ORDER BY id")
ask("SELECT count(*) FROM customer WHERE name > 'Customer' COLLATE BINARY")
ask("SELECT id FROM product WHERE code = '42' ORDER BY id")
ask('SELECT count(DISTINCT name), count(DISTINCT name COLLATE BINARY) FROM customer')
ask(
  "SELECT id, upper(substr(note, 3, 9)), instr(note, 'a'), replace(note, ' ', '') FROM customer WHERE note IS NOT NULL ORDER BY id LIMIT 15"
)
ask(
  "SELECT id, printf('%08d|%-6s|%x', cents, code, id), quote(sku), hex(sku) FROM product ORDER BY id LIMIT 15"
)
askEach(
  'SELECT length(data), substr(data, ?, 40) FROM picture WHERE id = ?',
  [1, 3],
  [90_001, BLOBS - 1]
)
askEach('SELECT hex(substr(data, -16)), typeof(data) FROM picture WHERE id = ?', [0], [BLOBS - 2])
ask('SELECT id, length(data) FROM picture ORDER BY length(data) DESC, id LIMIT 10')
ask("SELECT id, instr(substr(data, 5000), CAST('90123' AS BLOB)) FROM picture ORDER BY id")
ask('SELECT count(*), sum(length(data)) FROM filler')
ask('SELECT rowid FROM filler ORDER BY rowid DESC LIMIT 1')
ask(
  'SELECT type, name, tbl_name FROM sqlite_schema WHERE name NOT LIKE ? ORDER BY name',
  'sqlite_%'
)

// Full-text search.
const search = (sql, ...bind) =>
  questions.push({
    sql: { fts5: sql.replaceAll('SEARCH', 'search5'), fts4: sql.replaceAll('SEARCH', 'search4') },
    bind
  })
const WORDS = ['b', 'ch', 'gr']
search('SELECT rowid, title FROM SEARCH WHERE SEARCH MATCH ? ORDER BY rowid LIMIT 20', 'amended')
WORDS.forEach(word =>
  search('SELECT count(*), min(rowid), max(rowid) FROM SEARCH WHERE SEARCH MATCH ?', `${word}*`)
)
search("SELECT count(*) FROM SEARCH WHERE SEARCH MATCH 'title:g*'")
search("SELECT rowid FROM SEARCH WHERE SEARCH MATCH 'pl* AND sta*' ORDER BY rowid LIMIT 30")
search("SELECT count(*) FROM SEARCH WHERE SEARCH MATCH 'ba* OR ho*'")
search("SELECT count(*) FROM SEARCH WHERE SEARCH MATCH 'ba* NOT ho*'")
search(`SELECT o.id, o.status FROM SEARCH s JOIN orders o ON o.id = s.rowid
        WHERE s.title MATCH 'tr*' ORDER BY o.id LIMIT 20`)
search('SELECT title, body FROM SEARCH WHERE rowid IN (1, 1500, 2999) ORDER BY rowid')

export const queries = questions

/** The spelling of a question for an engine with that full-text search. */
export const spelling = ({ sql }, fts) => (typeof sql === 'string' ? sql : sql[fts])

const plain = value =>
  value instanceof Uint8Array ? { blob: Buffer.from(value).toString('hex') } : value
const plainRows = rows => rows.map(row => row.map(plain))

/** All answers, of each kind of SQLite: as many lists of rows as there are questions. */
export async function answersOfNative(native, fts) {
  const answers = []
  for (const query of queries) answers.push(await native.all(spelling(query, fts), query.bind))
  return answers
}

export const answersOfSqliteWasm = db =>
  queries.map(query => plainRows(db.selectArrays(spelling(query, 'fts5'), query.bind)))

export const answersOfSqljs = db =>
  queries.map(query => plainRows(db.exec(spelling(query, 'fts4'), query.bind)[0]?.values ?? []))
