'use strict'

// Processes that show one opened snapshot, and the memory that they take together.

const { fork } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const { GuardedMemory, Snapshot } = require('../..')

const WRITTEN_BYTES = 64 * 4096

/**
 * What the mappings of a file take in one process, and in so many at once, each of which has read
 * all of it and written a few pages. Proportional set sizes, in bytes.
 */
async function pssOf(file, count) {
  const children = []
  const start = async () => {
    const child = fork(__filename, [file])
    children.push(child)
    await once(child, 'message')
  }
  const measure = async () => {
    let pss = 0
    for (const child of children) {
      child.send('measure')
      pss += (await once(child, 'message'))[0]
    }
    return pss
  }
  try {
    await start()
    const one = await measure()
    for (let i = 1; i < count; i++) await start()
    return { one, six: await measure(), written: WRITTEN_BYTES }
  } finally {
    for (const child of children) child.kill()
  }
}

/** The proportional set size of all mappings of a file. */
function pssHere(file) {
  let isFile = false
  let kib = 0
  for (const line of fs.readFileSync('/proc/self/smaps', 'latin1').split('\n')) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) isFile = line.endsWith(` ${file}`)
    else if (isFile && line.startsWith('Pss:')) kib += Number(line.match(/\d+/)[0])
  }
  return kib * 1024
}

async function serve(file) {
  const snapshot = await Snapshot.open(file)
  const guarded = new GuardedMemory({ initial: snapshot.byteLength / 65536 })
  guarded.restore(snapshot)
  const bytes = Buffer.from(guarded.buffer)
  let sum = 0
  for (let at = 0; at < bytes.length; at += 4096) sum += bytes[at]
  bytes.fill(1, 0, WRITTEN_BYTES)
  // What is collected shares nothing: those that were asked before would have had more sharers.
  globalThis.kept = { snapshot, guarded, bytes }
  process.on('message', () => process.send(pssHere(file)))
  process.send(sum)
}

if (require.main === module) serve(process.argv[2])

module.exports = { pssOf }
