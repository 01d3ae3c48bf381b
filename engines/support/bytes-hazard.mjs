// What becomes of an engine when its region is taken away or its file gets shorter under it, in a
// process of its own: the process is to live whatever happens.
//
//   node bytes-hazard.mjs ENGINE HAZARD FILE      prints one line of JSON

import { truncateSync } from 'node:fs'
import { HostRegion } from 'wasm-hostmap'
import { engines } from './bytes-engines.mjs'

const [, , name, hazard, path] = process.argv
const { load, open, answer, scan } = engines[name]

const hazards = {
  close: region => region.close(),
  detach: region => region.close({ views: 'detach' }),
  truncate: () => truncateSync(path, 4096),
  seal: region => region.seal()
}

const outcomeOf = async call => {
  try {
    return { result: await call() }
  } catch (error) {
    return { error: `${error?.name ?? 'Error'}: ${error?.message ?? String(error)}` }
  }
}

process.on('warning', () => {})
const region = hazard === 'seal' ? await HostRegion.load(path) : HostRegion.open(path)
const handle = await open(await load(), region.bytes())
const before = await answer(handle)
hazards[hazard](region)
const outcome = {
  before,
  answer: await outcomeOf(() => answer(handle)),
  scan: await outcomeOf(() => scan(handle)),
  faults: region.faults,
  strayWrites: region.strayWrites,
  found: await outcomeOf(() => region.checkFaults())
}
// Engines may hold threads and timers.
process.stdout.write(`\n${JSON.stringify(outcome)}\n`, () => process.exit(0))
