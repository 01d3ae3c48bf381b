// A suite of tests on PGlite, with a reset between each, in three ways. One process runs one way:
// `node pg-resets.mjs WAY TESTS` prints what it took as JSON.

import { createHash } from 'node:crypto'
import fs from 'node:fs'
import { fileURLToPath } from 'node:url'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { PGlite } from '@electric-sql/pglite'
import { checkpoint } from 'wasm-hostmap/pglite'
import { dump } from './pg-dump.mjs'
import { DAMAGES, SCHEMA, SESSION } from './pg-scene.mjs'

const hash = text => createHash('sha1').update(text).digest('hex')

const create = async () => {
  const pg = await PGlite.create()
  await pg.exec(SCHEMA)
  await pg.exec(SESSION)
  return pg
}

/** Each way gives `{ pg, reset }`: the first instance, and how to get the next clean one. */
const WAYS = {
  'checkpoint(pg)': async () => {
    const pg = await create()
    const clean = await checkpoint(pg)
    const reset = async () => {
      await clean.restore()
      return pg
    }
    return { pg, reset }
  },
  'pg.clone()': async () => {
    const origin = await PGlite.create()
    await origin.exec(SCHEMA)
    const reset = async last => {
      await last?.close()
      const pg = await origin.clone()
      await pg.exec(SESSION)
      return pg
    }
    return { pg: await reset(), reset }
  },
  'a new instance': async () => {
    const reset = async last => {
      await last.close()
      return create()
    }
    return { pg: await create(), reset }
  }
}

const pssBytes = () =>
  1024 * Number(/^Pss:\s+(\d+)/m.exec(fs.readFileSync('/proc/self/smaps_rollup', 'utf8'))[1])

async function run(way, tests) {
  let { pg, reset } = await WAYS[way]()
  const damages = Object.entries(DAMAGES)
  const times = []
  const contents = new Set()
  for (let i = 0; i < tests; i++) {
    await damages[i % damages.length][1](pg)
    const started = performance.now()
    pg = await reset(pg)
    times.push(performance.now() - started)
    contents.add(hash(await dump(pg)))
    // What the dump left behind is not a part of the next test.
    if (way === 'checkpoint(pg)') pg = await reset(pg)
  }
  times.sort((a, b) => a - b)
  const at = share => times[Math.min(times.length - 1, Math.floor(times.length * share))]
  return { way, tests, median: at(0.5), p99: at(0.99), contents: [...contents], pss: pssBytes() }
}

export const ways = Object.keys(WAYS)

/** Runs one way in a process of its own. */
export async function measure(way, tests) {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [fileURLToPath(import.meta.url), way, String(tests)],
    { maxBuffer: 2 ** 24 }
  )
  return JSON.parse(stdout.trim().split('\n').at(-1))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log(JSON.stringify(await run(process.argv[2], Number(process.argv[3]))))
  process.exit()
}
