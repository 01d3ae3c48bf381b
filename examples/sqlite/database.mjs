// The example's database: an archive of messages, with an index. SQLite's own module makes it, the
// same each time.

import { writeFile } from 'node:fs/promises'
import { setImmediate } from 'node:timers/promises'
import sqlite3InitModule from '@sqlite.org/sqlite-wasm'
import { sentences } from '../support/prose.mjs'

const AUTHORS = 5000
const SENTENCES = 8192
const MESSAGES_PER_BATCH = 5000

const schema = `
  CREATE TABLE author (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    country TEXT NOT NULL
  );
  CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    author_id INTEGER NOT NULL REFERENCES author,
    sent_at INTEGER NOT NULL, -- seconds since 1970
    subject TEXT NOT NULL,
    body TEXT NOT NULL
  );
  CREATE INDEX message_by_author ON message (author_id, sent_at);
  CREATE TEMP TABLE sentence (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
`

const insertAuthors = `
  WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < $authors)
  INSERT INTO author
  SELECT n, printf('author %d', n), substr('ATBRCADEFRGBINJPMXNGNZPLSEUSZA', 1 + n * n % 15 * 2, 2) FROM number`

// Multiplications by large primes scatter authors and sentences over the messages.
const insertMessages = `
  WITH RECURSIVE number(n) AS (SELECT $first UNION ALL SELECT n + 1 FROM number WHERE n + 1 < $first + $count)
  INSERT INTO message
  SELECT
    n,
    (n * 2654435761 >> 9) % $authors,
    1200000000 + n * 401,
    (SELECT text FROM sentence WHERE id = (n * 2246822519 >> 11) % $sentences),
    (SELECT text FROM sentence WHERE id = (n * 3266489917 >> 10) % $sentences) || ' ' ||
    (SELECT text FROM sentence WHERE id = (n * 668265263 >> 8) % $sentences) || ' ' ||
    (SELECT text FROM sentence WHERE id = (n * 374761393 >> 7) % $sentences)
  FROM number`

/** Writes a database of at least this many bytes, but not many more. */
export async function makeDatabase(path, byteLength, onProgress) {
  const sqlite3 = await sqlite3InitModule()
  const db = new sqlite3.oo1.DB()
  try {
    db.exec(schema)
    db.transaction(() => {
      const sentence = sentences(2)
      const insert = db.prepare('INSERT INTO sentence VALUES (?, ?)')
      for (let id = 0; id < SENTENCES; id++) insert.bind([id, sentence()]).stepReset()
      insert.finalize()
      db.exec({ sql: insertAuthors, bind: { $authors: AUTHORS } })
    })

    const size = () => db.selectValue('PRAGMA page_count') * db.selectValue('PRAGMA page_size')
    for (let first = 0; size() < byteLength; first += MESSAGES_PER_BATCH) {
      const bind = {
        $first: first,
        $count: MESSAGES_PER_BATCH,
        $authors: AUTHORS,
        $sentences: SENTENCES
      }
      db.exec({ sql: insertMessages, bind })
      onProgress(size() / byteLength)
      await setImmediate() // Lets Ctrl-C through.
    }
    await writeFile(path, sqlite3.capi.sqlite3_js_db_export(db))
  } finally {
    db.close()
  }
}
