// One way of one case, in a process of its own. Does what its parent asks for, one step at a time,
// and says how long it took and what this process then uses.
//
//   node --expose-gc child.mjs CASE WAY DATASET

import { readFileSync } from 'node:fs'
import { pssBytes } from '../../../bench/lib/machine.mjs'

const [, , url, name, dataset] = process.argv
const way = (await import(url)).ways[name]
let context
let handle

const steps = {
  prepare: async () => {
    context = await way.prepare()
  },
  open: async () => {
    handle = await way.open(context, dataset)
  },
  answer: () => way.answer(handle),
  scan: () => way.scan(handle),
  close: () => way.close(handle)
}

/**
 * Bytes of the dataset that this process has mapped and read: its share of pages of the file,
 * without those that were written, which are the process's own. A memfd may hold a copy: it counts
 * as the engine's.
 */
function readBytes() {
  let sum = 0
  let counts = false
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    const [, field, kibibytes] = /^(\w+): +(\d+) kB$/.exec(line) ?? []
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) counts = line.endsWith(` ${dataset}`)
    else if (counts && field === 'Pss') sum += Number(kibibytes) * 1024
    else if (counts && field === 'Anonymous') sum -= Number(kibibytes) * 1024
  }
  return sum
}

async function run(step) {
  const started = performance.now()
  const result = await steps[step]()
  const milliseconds = performance.now() - started
  if (step === 'scan' || step === 'close') return { milliseconds, result }
  return { milliseconds, result, ...memory() }
}

/** What is garbage is not in use. */
function memory() {
  gc()
  gc()
  return { pss: pssBytes(), read: readBytes() }
}

process.on('message', async step => {
  try {
    const answer = step === 'memory' ? memory() : await run(step)
    // As JSON gives it back: results of two ways are compared like that.
    process.send({ answer })
  } catch (error) {
    process.send({ error: String(error?.message ?? error) })
  }
})
process.send({ answer: 'ready' })
