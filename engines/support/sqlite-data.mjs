// The database of the benchmarks and examples of SQLite: an archive of messages, with an index.
// The native SQLite makes it, the same each time.

import { mkdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { sentences } from '../../examples/support/prose.mjs'
import { NativeSqlite } from './native-sqlite.mjs'

const AUTHORS = 5000
const SENTENCES = 8192
const MESSAGES_PER_BATCH = 50_000
const PAGE_SIZE = 4096

// What a writer needs in case of a crash takes time, and nothing here outlives one.
const schema = `
  PRAGMA page_size = ${PAGE_SIZE};
  PRAGMA journal_mode = OFF;
  PRAGMA synchronous = OFF;
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
  WITH RECURSIVE number(n) AS (
    SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < $authors
  )
  INSERT INTO author
  SELECT
    n,
    printf('author %d', n),
    substr('ATBRCADEFRGBINJPMXNGNZPLSEUSZA', 1 + n * n % 15 * 2, 2)
  FROM number`

// Multiplications by large primes scatter authors and sentences over the messages.
const insertMessages = `
  WITH RECURSIVE number(n) AS (
    SELECT $first UNION ALL SELECT n + 1 FROM number WHERE n + 1 < $first + $count
  )
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

/**
 * Makes the database in this directory, unless it is there, and returns its path.
 *
 * @param byteLength It has at least that size, and a few MiB more at most.
 */
export async function messagesDatabase(directory, byteLength) {
  const path = join(directory, `messages-${byteLength}.sqlite`)
  if (statSync(path, { throwIfNoEntry: false })?.isFile()) return path
  mkdirSync(directory, { recursive: true })
  // It gets its name once it is complete.
  const unfinished = `${path}.${process.pid}.part`
  try {
    await make(unfinished, byteLength)
    renameSync(unfinished, path)
  } finally {
    rmSync(unfinished, { force: true })
  }
  return path
}

async function make(path, byteLength) {
  const native = new NativeSqlite(path)
  try {
    await native.script(schema)
    await native.all('BEGIN')
    const sentence = sentences(2)
    const texts = Array.from({ length: SENTENCES }, (_, id) => [id, sentence()])
    await native.many('INSERT INTO sentence VALUES (?, ?)', texts)
    await native.all(insertAuthors, { authors: AUTHORS })
    await native.all('COMMIT')

    // A small one takes small batches, so that it is not much larger than was asked for.
    const count = Math.min(MESSAGES_PER_BATCH, Math.ceil(byteLength / 4096))
    for (let first = 0; ; first += count) {
      const [[pages]] = await native.all('PRAGMA page_count')
      if (pages * PAGE_SIZE >= byteLength) break
      await native.all(insertMessages, { first, count, authors: AUTHORS, sentences: SENTENCES })
    }
  } finally {
    await native.close()
  }
}

/** Reads every message. */
export const scanQuery = 'SELECT count(*), sum(length(subject)), sum(length(body)) FROM message'

/** Small queries: by a primary key, by an index, and over the schema. */
export const answerQueries = [
  {
    name: 'one message, by its id',
    sql: `SELECT name, sent_at, subject, body FROM message JOIN author ON author.id = author_id
          WHERE message.id = $id`,
    bind: { $id: 471 }
  },
  {
    name: 'messages of an author, by index',
    sql: `SELECT id, sent_at, subject FROM message WHERE author_id = $author
          ORDER BY sent_at DESC LIMIT 20`,
    bind: { $author: 1234 }
  },
  {
    name: 'tables and indexes',
    sql: 'SELECT type, name FROM sqlite_schema ORDER BY name',
    bind: {}
  }
]
