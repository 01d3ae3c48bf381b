// Reads files much larger than memory through a window: every byte of a sparse file, while watching
// the process's memory; then a larger file and a memfd, reading only the marks at both ends and on
// both sides of each border between chunks.
//
//   node __test__/soak/stream.mjs    64 GiB in full, and 1 TiB twice, through 1 GiB
//   --full GIB                       how much to read in full
//   --over GIB                       how much to slide over
//   --window GIB                     the size of the window
//   --directory PATH                 where to make the sparse files (default: the system's
//                                    temporary directory)
//   --no-read-ahead                  without readahead
//
// Exits with code 1 if a mark or the sum was wrong, or the process's memory grew. The directory
// must be on a disk: on a tmpfs, holes would take memory when they are read.

import { mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'

const require = createRequire(import.meta.url)
const { streamInFull, slideOver, growth } = require('./large-windows.js')

const MiB = 2 ** 20
const GiB = 2 ** 30
const TMPFS_MAGIC = 0x01021994

const { values: options } = parseArgs({
  options: {
    full: { type: 'string', default: '64' },
    over: { type: 'string', default: '1024' },
    window: { type: 'string', default: '1' },
    directory: { type: 'string', default: os.tmpdir() },
    'no-read-ahead': { type: 'boolean', default: false }
  }
})
const windowBytes = Number(options.window) * GiB
const readAhead = options['no-read-ahead'] ? false : undefined

const directory = mkdtempSync(path.join(options.directory, 'wasm-hostmap-stream-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
if (statfsSync(directory).type === TMPFS_MAGIC) {
  console.error(`${options.directory} is a tmpfs; give another one by --directory`)
  process.exit(2)
}

const line = cells => console.log(cells.map(cell => String(cell).padStart(14)).join(''))
const inMiB = byteLength => (byteLength / MiB).toFixed(1)
let failed = false

/** Whether all was found that should be. */
function check({ found, expected }) {
  const names = Object.keys(expected).filter(name => found[name] !== expected[name])
  for (const name of names) console.log(`${name}: ${found[name]} instead of ${expected[name]}`)
  if (names.length > 0) failed = true
  return `${found.chunks} chunks, ${found.wrong} wrong marks`
}

console.log(
  `${options.full} GiB in full, by a window of ${options.window} GiB, Node.js ${process.version}`
)
line(['read GiB', 'RSS MiB', 'PSS MiB', 'tables MiB'])
const fullBytes = Number(options.full) * GiB
let nextLine = 0
const full = await streamInFull({
  directory,
  byteLength: fullBytes,
  windowBytes,
  readAhead,
  onSample({ position, rss, pss, pageTables }) {
    if (position < nextLine) return
    nextLine += fullBytes / 16
    line([(position / GiB).toFixed(1), inMiB(rss), inMiB(pss), inMiB(pageTables)])
  }
})
console.log(
  `${check(full)}, the sum of all bytes is ${full.found.sum}; ${(fullBytes / full.seconds / 1e9).toFixed(2)} GB/s`
)
for (const { name, most, drift, isConstant } of growth(full, windowBytes)) {
  console.log(
    `${name}: at most ${inMiB(most)} MiB more than before, last quarter against second ${inMiB(drift)} MiB: ${isConstant ? 'constant' : 'NOT constant'}`
  )
  if (!isConstant) failed = true
}

for (const backing of ['file', 'memfd']) {
  const over = await slideOver({
    directory,
    backing,
    byteLength: Number(options.over) * GiB,
    windowBytes
  })
  console.log(
    `\n${options.over} GiB of a sparse ${backing} slid over: ${check(over)}; ${over.seconds.toFixed(3)} s, ${inMiB(over.heldBytes)} MiB held`
  )
}
process.exit(failed ? 1 : 0)
