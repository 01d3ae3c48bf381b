// What it saves a restore that memories begin at a multiple of 2 MiB.

import { createRequire } from 'node:module'
import { GuardedMemory } from '../../index.mjs'
import { MiB, WASM_PAGE, fillWithNoise } from '../lib/dataset.mjs'
import { SHORT, Samples, collectGarbage, notMeasured, timeOnce } from '../lib/measure.mjs'

// Nothing public tells a memory's base.
const native = createRequire(import.meta.url)('../../lib/platform/binding.js')

export const title = 'Placement'
export const measures =
  'A restore of a heap of 64 MiB of pseudo-random bytes, all of which has been read, into a memory whose base is congruent to that of the snapshot modulo 2 MiB, and into one whose base is not. The library places the memories that it makes; V8 by itself aligns them to 64 KiB.'

export const cases = [{}]

const HEAP_BYTES = 64 * MiB
const HUGE_PAGE = 2 * MiB
const PAGE = 4096
const WRITTEN = [0, 100, 1000]
const MOST_MEMORIES = 400

const remainderOf = memory => native.baseOf(new Uint8Array(memory.buffer)) % HUGE_PAGE
const newMemory = () => new WebAssembly.Memory({ initial: HEAP_BYTES / WASM_PAGE })

/** A memory that V8 has placed by itself, at such a base; others are made until one is. */
function find(isWanted) {
  const others = []
  for (let i = 0; i < MOST_MEMORIES; i++) {
    const memory = newMemory()
    if (isWanted(remainderOf(memory))) return GuardedMemory.from(memory)
    others.push(memory)
  }
  return null
}

export async function measure(_, onProgress) {
  const source = new GuardedMemory({ initial: HEAP_BYTES / WASM_PAGE })
  fillWithNoise(new Uint8Array(source.memory.buffer))
  const snapshot = source.snapshot()
  const congruent = remainderOf(source.memory)
  const memories = {
    congruent: find(remainder => remainder === congruent),
    other: find(remainder => remainder !== congruent)
  }
  const missing = Object.values(memories).includes(null)
  const samples = new Samples()
  for (let turn = 0; turn < SHORT.turns && !missing; turn++) {
    const names = Object.keys(memories)
    for (const name of turn % 2 ? names.reverse() : names) {
      for (const written of WRITTEN) {
        const times = Array.from({ length: 20 }, () =>
          restoreOnce(memories[name], snapshot, written)
        )
        samples.add(`${name} ${written}`, times)
      }
    }
    await collectGarbage()
    onProgress((turn + 1) / SHORT.turns)
  }
  const why = 'V8 placed all memories alike'
  return WRITTEN.map(written => ({
    written,
    congruent: missing ? notMeasured(why) : samples.summary(`congruent ${written}`),
    other: missing ? notMeasured(why) : samples.summary(`other ${written}`),
    times: missing ? notMeasured(why) : samples.ratio(`other ${written}`, `congruent ${written}`)
  }))
}

let sum = 0

function restoreOnce(guarded, snapshot, written) {
  const bytes = new Uint8Array(guarded.memory.buffer)
  for (let at = 0; at < HEAP_BYTES; at += PAGE) sum += bytes[at]
  // Far from each other: 163 and the number of pages have no common divisor.
  for (let i = 0; i < written; i++) bytes[((i * 163) % (HEAP_BYTES / PAGE)) * PAGE] = sum
  return timeOnce(() => guarded.restore(snapshot))
}

export function report([found]) {
  const table = {
    id: 'placement',
    title: 'Restore of a heap that was read',
    rowLabel: 'pages written',
    columns: [
      { key: 'congruent', label: 'congruent' },
      { key: 'other', label: 'not congruent' },
      { key: 'times', label: 'times as long' }
    ],
    note: 'Ratios are medians over turns.',
    rows: found.map(({ written, ...cells }) => ({
      label: String(written),
      parameters: { written },
      cells
    }))
  }
  return { tables: [table], promises: [] }
}
