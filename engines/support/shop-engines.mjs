// How each SQLite updates the shop's database and answers the hundred questions.

import assert from 'node:assert/strict'
import { answersOfSqliteWasm, answersOfSqljs, queries, spelling } from './queries.mjs'
import { updates } from './shop.mjs'

const UPDATES = 10_000
// So many updates make a transaction.
const PER_TRANSACTION = 1000

/** Runs the updates by `exec(sql, parameters)`. */
function updateBy(exec, search) {
  let done = 0
  for (const [sql, bind] of updates(UPDATES, search)) {
    if (done % PER_TRANSACTION === 0) exec('BEGIN')
    exec(sql, bind)
    if (++done % PER_TRANSACTION === 0) exec('COMMIT')
  }
}

/** For both full-text tables: each engine has updated the one that it knows. */
export async function updateNative(native) {
  const statements = [...updates(UPDATES, 'search5')]
  await native.all('BEGIN')
  for (const [sql, bind] of statements) {
    await native.all(sql, bind)
    if (sql.includes('search5')) await native.all(sql.replace('search5', 'search4'), bind)
  }
  await native.all('COMMIT')
}

export const sqliteWasm = {
  answers: answersOfSqliteWasm,
  update: db => updateBy((sql, bind) => db.exec({ sql, bind }), 'search5')
}

export const sqljs = {
  answers: answersOfSqljs,
  update: db => updateBy((sql, bind) => db.run(sql, bind), 'search4')
}

/** Compares answers question by question, so that a failure names the question. */
export function checkAnswers(answers, expected) {
  assert.equal(answers.length, queries.length)
  queries.forEach((query, i) =>
    assert.deepEqual(answers[i], expected[i], `${spelling(query, 'fts5')} ${query.bind}`)
  )
}
