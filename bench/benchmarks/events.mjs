// What events and counts cost while nobody listens: this package, and a copy of it without them, in
// the same process.

import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { compare, needsTaskset, reportOf } from './against.mjs'

const require = createRequire(import.meta.url)
const root = fileURLToPath(new URL('../..', import.meta.url))

export const title = 'Events that nobody hears'
export const measures =
  'The most frequent calls in this build, and in a copy of it that asks no channel and counts nothing in JavaScript. Both take turns of some dozen calls in the same process, on one processor.'

const MOST = 1.02

export const cases = [
  'map and unmap, at an address',
  'slide, memfd',
  'source.next, memfd',
  'restore, nothing written',
  'pool, acquire and release'
].map(name => ({ name, address: 'i32' }))

export function prepare() {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'hostmap-silent-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  makeSilent(folder)
  process.env.HOSTMAP_BENCH_SILENT = folder
  return needsTaskset()
}

export const measure = (caseOf, onProgress) =>
  compare(caseOf, process.env.HOSTMAP_BENCH_SILENT, onProgress)

/** What the package has for events and counts, line by line. */
const LINES = [
  /^ *counts\[\w+\] \+= .*\n/gm,
  /^ *if \(pending\.length > 0\) tell\(\)\n/gm,
  /^ *if \(\w+ !== UNHEARD\) note\w+\(.*\)\n/gm
]

/** Copies the package without its events, and the addon, since one path is loaded once. */
function makeSilent(folder) {
  const { builtFile } = require(path.join(root, 'lib/platform/place.js'))
  const { target } = require(path.join(root, 'lib/platform/platform.js'))
  const binary = builtFile(target())
  cpSync(binary, path.join(folder, path.basename(binary)))
  for (const name of ['index.js', 'package.json']) {
    cpSync(path.join(root, name), path.join(folder, name))
  }
  cpSync(path.join(root, 'lib'), path.join(folder, 'lib'), { recursive: true })
  let removed = 0
  for (const name of readdirSync(path.join(folder, 'lib'), { recursive: true })) {
    if (!name.endsWith('.js')) continue
    const file = path.join(folder, 'lib', name)
    const text = readFileSync(file, 'utf8')
    const silent = LINES.reduce((left, line) => left.replaceAll(line, '\n'), text)
    if (silent !== text) removed += 1
    writeFileSync(file, silent)
  }
  const events = path.join(folder, 'lib/observe/events.js')
  const text = readFileSync(events, 'utf8')
  const deaf = text.replace(/^ *if \(!channel\.hasSubscribers\) return UNHEARD$/m, 'return UNHEARD')
  if (deaf === text || removed < 5) throw new Error('lib/ has its events in another form now')
  writeFileSync(events, deaf)
}

export const report = results =>
  reportOf({
    cases,
    results,
    id: 'events',
    title: 'Ratio to the copy without events',
    most: MOST,
    other: 'without events'
  })
