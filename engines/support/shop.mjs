// A shop's database, for questions whose answers the native SQLite knows: see queries.mjs. All of
// it follows from the numbers of rows, the same each time.

import { sentences } from '../../examples/support/prose.mjs'
import { NativeSqlite } from './native-sqlite.mjs'

const CUSTOMERS = 2000
const PRODUCTS = 400
const ORDERS = 10_000
const EVENTS = 6000
const TEXTS = 3000
const BLOBS = 60
export const SIZES = { CUSTOMERS, PRODUCTS, ORDERS, EVENTS, TEXTS, BLOBS }

const FILLER_ROW = 64 * 2 ** 20
const PAGE = 4096

const schema = `
  PRAGMA page_size = ${PAGE};
  PRAGMA journal_mode = OFF;
  PRAGMA synchronous = OFF;
  CREATE TABLE customer (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL COLLATE NOCASE,
    country TEXT NOT NULL,
    born INTEGER,
    invited_by INTEGER REFERENCES customer,
    note TEXT
  );
  CREATE TABLE product (
    id INTEGER PRIMARY KEY,
    sku TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    cents INTEGER NOT NULL,
    weight REAL, -- in 64ths, so that sums are exact in any order
    attributes TEXT NOT NULL,
    code TEXT NOT NULL COLLATE RTRIM
  );
  CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customer,
    placed_at INTEGER NOT NULL,
    status TEXT NOT NULL
  );
  CREATE TABLE item (
    order_id INTEGER NOT NULL,
    line INTEGER NOT NULL,
    product_id INTEGER NOT NULL,
    quantity INTEGER NOT NULL,
    PRIMARY KEY (order_id, line)
  ) WITHOUT ROWID;
  CREATE TABLE event (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, payload TEXT NOT NULL);
  CREATE TABLE picture (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
  CREATE TABLE filler (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
  CREATE VIRTUAL TABLE search5 USING fts5(title, body);
  CREATE VIRTUAL TABLE search4 USING fts4(title, body);
  CREATE TEMP TABLE sentence (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
`

const numbers = `WITH RECURSIVE number(n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?2)`
const text = factor => `(SELECT text FROM sentence WHERE id = (n * ${factor} >> 7) % ${TEXTS})`

// Multiplications by large primes scatter values over the rows.
const inserts = {
  customer: `${numbers} INSERT INTO customer SELECT n,
    CASE n % 3 WHEN 0 THEN upper(printf('customer %d', n * 7919 % 2003))
      ELSE printf('Customer %d', n * 7919 % 2003) END,
    substr('ATBRCADEFRGBINJPMXNGNZPLSEUSZA', 1 + (n * 2654435761 >> 5) % 15 * 2, 2),
    CASE WHEN n % 11 = 0 THEN NULL ELSE 1930 + (n * 40503 >> 3) % 80 END,
    CASE WHEN n < 10 OR n % 7 = 0 THEN NULL ELSE (n * 40503 >> 4) % n END,
    CASE n % 5 WHEN 0 THEN NULL ELSE ${text(2246822519)} END FROM number`,
  product: `${numbers} INSERT INTO product SELECT n, printf('SKU-%05d', n * 7919 % 100003),
    printf('product %d', n), 99 + (n * 2654435761 >> 6) % 7000,
    CASE WHEN n % 13 = 0 THEN NULL ELSE ((n * 40503 >> 2) % 6400) / 64.0 END,
    json_object('color', substr('red   green blue  black ', 1 + n % 4 * 6, 6), 'sizes',
      json_array(n % 5, n % 7, n % 9), 'box', json_object('wide', n % 50, 'high', n % 30),
      'tags', json(CASE n % 3 WHEN 0 THEN '[]' ELSE '["new","sale"]' END)),
    printf('%d   ', n % 100) FROM number`,
  orders: `${numbers} INSERT INTO orders SELECT n, (n * 2654435761 >> 9) % ${CUSTOMERS},
    1600000000 + n * 4013 + (n * 40503 >> 3) % 3000,
    CASE (n * 2246822519 >> 8) % 7 WHEN 0 THEN 'open' WHEN 1 THEN 'returned' WHEN 2 THEN 'lost'
      ELSE 'done' END FROM number`,
  item: `${numbers} INSERT INTO item SELECT n, line, (n * 2654435761 + line * 40503 >> 4) % ${PRODUCTS - 5},
    1 + (n + line * 3) % 5 FROM number
    JOIN (SELECT 0 AS line UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4)
    WHERE line <= n % 5`,
  event: `${numbers} INSERT INTO event SELECT n, 1600000000 + n * 997, json_object(
    'kind', substr('viewopensendfail', 1 + n % 4 * 4, 4), 'user', (n * 40503 >> 4) % ${CUSTOMERS},
    'ms', n * 7919 % 1000, 'path', json_array('shop', n % 20, n % 3)) FROM number`,
  search5: `${numbers} INSERT INTO search5 (rowid, title, body) SELECT n + 1, ${text(3266489917)},
    ${text(668265263)} || ' ' || ${text(374761393)} FROM number`,
  search4: `${numbers} INSERT INTO search4 (rowid, title, body) SELECT n + 1, ${text(3266489917)},
    ${text(668265263)} || ' ' || ${text(374761393)} FROM number`
}
const ROWS = {
  customer: CUSTOMERS,
  product: PRODUCTS,
  orders: ORDERS,
  item: ORDERS,
  event: EVENTS,
  search5: TEXTS,
  search4: TEXTS
}

const indexes = `
  CREATE INDEX order_by_customer ON orders (customer_id, placed_at);
  CREATE INDEX order_open ON orders (placed_at) WHERE status = 'open';
  CREATE INDEX item_by_product ON item (product_id);
  CREATE INDEX customer_by_name ON customer (name);
  CREATE INDEX event_by_kind ON event (json_extract(payload, '$.kind'));
`

/**
 * Makes the database. The first half of each table comes before `filler` bytes of blobs, the other
 * half and the indexes behind them. 1,000 free pages follow, so that updates need not grow it.
 */
export async function makeShop(path, filler = 0) {
  const native = new NativeSqlite(path)
  try {
    await native.script(schema)
    await native.all('BEGIN')
    const sentence = sentences(7)
    const texts = Array.from({ length: TEXTS }, (_, id) => [id, sentence()])
    await native.many('INSERT INTO sentence VALUES (?, ?)', texts)
    const half = async which => {
      for (const [table, rows] of Object.entries(ROWS)) {
        const middle = rows >> 1
        await native.all(inserts[table], which === 0 ? [0, middle] : [middle, rows])
      }
      for (let id = which; id < BLOBS; id += 2) await native.all(insertPicture, [id, pictureOf(id)])
    }
    await half(0)
    for (let done = 0; done < filler; done += FILLER_ROW) {
      const row = Math.min(FILLER_ROW, filler - done)
      await native.all('INSERT INTO filler (data) VALUES (zeroblob(?))', [row])
    }
    await half(1)
    await native.all('COMMIT')
    await native.script(indexes)
    await native.script(`CREATE TABLE spare (data); INSERT INTO spare VALUES (zeroblob(4096000));
      DROP TABLE spare`)
  } finally {
    await native.close()
  }
}

// A blob of up to 180 KB, in hex: on a chain of overflow pages.
const insertPicture = `INSERT INTO picture SELECT ?1, CAST(?2 AS BLOB)`
const pictureOf = id =>
  Array.from({ length: 3000 * (1 + (id % 60)) }, (_, at) => (id * 7 + at) % 10).join('')

/** `count` updates of all kinds, none of which grows the database by more than its free pages. */
export function* updates(count, search) {
  for (let n = 0; n < count; n++) {
    const key = (n * 7919) % 1_000_003
    switch (n % 10) {
      case 0:
        yield ['UPDATE customer SET note = ? WHERE id = ?', [`note ${key}`, key % CUSTOMERS]]
        break
      case 1:
        yield [
          'UPDATE orders SET status = ? WHERE id = ?',
          [key % 2 ? 'open' : 'done', key % ORDERS]
        ]
        break
      case 2:
        yield [
          'UPDATE item SET quantity = quantity + 1, product_id = ? WHERE order_id = ? AND line = 0',
          [key % PRODUCTS, key % ORDERS]
        ]
        break
      case 3:
        yield [
          `UPDATE product SET cents = cents + 1, attributes = json_set(attributes, '$.box.wide', ?)
           WHERE id = ?`,
          [key % 97, key % PRODUCTS]
        ]
        break
      case 4:
        yield ['DELETE FROM event WHERE id = ?', [key % EVENTS]]
        break
      case 5:
        yield [
          `INSERT OR REPLACE INTO event VALUES (?, ?, json_object('kind', 'send', 'user', ?, 'ms', ?))`,
          [key % (2 * EVENTS), 1_700_000_000 + n, key % CUSTOMERS, key % 1000]
        ]
        break
      case 6:
        yield [
          'UPDATE orders SET customer_id = ? WHERE id = ?',
          [(key * 3) % CUSTOMERS, key % ORDERS]
        ]
        break
      case 7:
        yield [
          `UPDATE ${search} SET title = title || ' amended' WHERE rowid = ?`,
          [1 + (key % TEXTS)]
        ]
        break
      case 8:
        yield ['DELETE FROM item WHERE order_id = ? AND line = 2', [key % ORDERS]]
        break
      default:
        yield ['UPDATE customer SET name = name || ? WHERE id = ?', [`${n % 10}`, key % CUSTOMERS]]
    }
  }
}
