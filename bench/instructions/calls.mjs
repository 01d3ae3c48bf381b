// The hot calls of bench/lib/hot-calls.mjs, for a program that watches: see `count.mjs`. A call of
// getpriority(2) is the mark between what is counted and what is not.
//
//   node bench/instructions/calls.mjs ROUNDS SAMPLES

import os from 'node:os'
import { setImmediate } from 'node:timers/promises'
import * as build from '../../index.mjs'
import { OPERATIONS, cleanUp } from '../lib/hot-calls.mjs'

const [rounds, samples] = process.argv.slice(2, 4).map(Number)
// Inline caches and lists are as they stay after that.
const ROUNDS_BEFORE = 20

async function run(round, count, isAsync) {
  for (let i = 0; i < count; i++) {
    if (isAsync) await round()
    else round()
  }
}

async function sampleAll(make) {
  const { round, isAsync = false, close } = await make(build, 'i32')
  await run(round, ROUNDS_BEFORE, isAsync)
  for (let sample = 0; sample < samples; sample++) {
    os.getPriority()
    await run(round, rounds, isAsync)
    os.getPriority()
  }
  await close?.()
}

for (const { make } of Object.values(OPERATIONS)) {
  await sampleAll(make)
  // Under valgrind there is room for a dozen memories.
  await setImmediate()
  globalThis.gc()
}
cleanUp()
