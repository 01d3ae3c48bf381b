// The native SQLite: makes the databases that engines open, and gives the answers that theirs are
// compared with. It is the one of Python's standard library, since Node.js 20 has none.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const script = fileURLToPath(new URL('native-sqlite.py', import.meta.url))

export class NativeSqlite {
  #child
  #lines

  /** Opens a database file, and makes it if necessary. */
  constructor(path) {
    this.#child = spawn('python3', [script, path], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
    // A python3 that is missing or ends is reported by the request that gets no answer.
    this.#child.on('error', () => {})
    this.#child.stdin.on('error', () => {})
  }

  async #ask(request) {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`)
    const { value, done } = await this.#lines.next()
    if (done) throw new Error('python3, with its sqlite3 module, did not answer: is it installed?')
    const answer = JSON.parse(value)
    if (answer.error !== undefined) throw new Error(`the native SQLite says: ${answer.error}`)
    return answer
  }

  /** Runs one statement and returns its rows, as arrays. A blob is `{ blob: its bytes in hex }`. */
  async all(sql, bind = {}) {
    return (await this.#ask({ sql, bind })).rows
  }

  /** Runs one statement for each of these rows of parameters. */
  async many(sql, rows) {
    await this.#ask({ sql, many: rows })
  }

  /** Runs any number of statements without parameters. */
  async script(sql) {
    await this.#ask({ script: sql })
  }

  /** The version, and the options that it was compiled with. */
  version() {
    return this.#ask({ version: true })
  }

  async close() {
    if (this.#child.exitCode !== null) return
    const exit = once(this.#child, 'exit')
    this.#child.stdin.end()
    await exit
  }
}
