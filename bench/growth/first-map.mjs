// What `profile.mjs` watches: `map` of a gigabyte into memories that have to grow for it.
//
//   node --expose-gc bench/growth/first-map.mjs TURNS

import { setTimeout } from 'node:timers/promises'
import { GuardedMemory, HostRegion } from '../../index.mjs'
import { GiB, WASM_PAGE } from '../lib/dataset.mjs'
import { collectGarbage, summarize, timeOnce } from '../lib/measure.mjs'

const turns = Number(process.argv[2])
// Longer than V8's threads sweep after a collection: what waits for them would count.
const REST_MS = 30

const region = HostRegion.allocate(GiB).seal()

// Its name is in the profile.
function firstMapOfGigabyte(guarded) {
  guarded.map(region)
}

// As many calls as a program makes that maps at all: V8 interprets the first ones.
const small = HostRegion.allocate(WASM_PAGE).seal()
const roomy = new GuardedMemory({ initial: 1, room: 16 })
for (let i = 0; i < 500; i++) roomy.map(small).unmap()

const times = []
for (let turn = 0; turn < turns; turn++) {
  const guarded = new GuardedMemory({ initial: 1 })
  times.push(timeOnce(() => firstMapOfGigabyte(guarded)))
  await collectGarbage()
  await setTimeout(REST_MS)
}
console.log(JSON.stringify({ pid: process.pid, ...summarize(times) }))
