// How all of it grows: what one more mapping, worker, region, request and memory costs beside very
// many, up to the limits of the machine.

import * as mappings from '../lib/scale/mappings.mjs'
import * as memories from '../lib/scale/memories.mjs'
import * as regions from '../lib/scale/regions.mjs'
import * as requests from '../lib/scale/requests.mjs'
import * as workers from '../lib/scale/workers.mjs'

export const title = 'How it grows'
export const measures =
  'One more mapping, worker, region, request or memory beside 100 and beside very many: its time, its memory here and in the kernel, and what it takes of what is limited. Each number in a process of its own.'

/** `HOSTMAP_BENCH_SCALE=mappings,workers`: these alone. */
const chosen = process.env.HOSTMAP_BENCH_SCALE?.split(',')
const MODULES = Object.entries({ mappings, workers, regions, requests, memories }).filter(
  ([name]) => chosen === undefined || chosen.includes(name)
)

export const cases = MODULES.flatMap(([name, module]) =>
  module.cases.map(each => ({ module: name, ...each }))
)

export const measure = (caseOf, onProgress) =>
  Object.fromEntries(MODULES)[caseOf.module].measure(caseOf, onProgress)

/** Whether one more costs the same beside ten times as many. */
function promisesOf(found) {
  const ones = found.filter(({ caseOf }) => caseOf.module === 'mappings' && caseOf.where === 'one')
  const at = made => ones.find(({ caseOf }) => caseOf.count === made)
  const [few, many] = [at(1000), at(10_000)]
  if (few === undefined || many === undefined) return []
  const bound = (key, text, atMost) => ({
    text: `${text} beside 10,000 mappings, of that beside 1,000`,
    value: many[key].median / few[key].median,
    unit: 'ratio',
    atMost
  })
  return [
    bound('another', 'one more map and unmap', 1.5),
    bound('slide', 'a slide', 1.5),
    bound('request', 'acquire and release', 1.5),
    bound('fill', 'the mean of all maps', 2),
    bound('fault', 'a stray write', 1.5)
  ]
}

export function report(results) {
  const found = results.map((result, at) => ({ caseOf: cases[at], ...result }))
  const tables = MODULES.flatMap(([name, module]) =>
    module.tables(found.filter(({ caseOf }) => caseOf.module === name))
  )
  return { tables, promises: promisesOf(found) }
}
