// The cost of growth by the host, compared with V8's own.

import { GuardedMemory, HostRegion, instrumentGrowth } from '../../index.mjs'
import { WASM_PAGE } from '../lib/dataset.mjs'
import { SHORT, Samples, collectGarbage, timeBatches } from '../lib/measure.mjs'
import { assemble } from '../lib/module.mjs'

export const title = 'Growth'
export const measures =
  "One `memory.grow` by a Wasm page: V8's own, and the host's after `instrumentGrowth`: without options, with `onGrow`, and with a read-only mapping, which the host protects again each time."

export const cases = [{}]

const GROW_WAT =
  '(module (memory (export "memory") 2) (func (export "grow") (drop (memory.grow (i32.const 1)))))'
const WAYS = [
  { key: 'own', label: "V8's own" },
  { key: 'host', label: 'by the host', options: {} },
  { key: 'asked', label: 'by the host, onGrow asked', options: { onGrow: () => true } },
  { key: 'mapped', label: 'by the host, with a read-only mapping', options: {}, mapped: true }
]

export async function measure(_, onProgress) {
  const bytes = await assemble('grow', GROW_WAT)
  const plain = new WebAssembly.Module(bytes)
  const region = HostRegion.allocate(WASM_PAGE).seal()
  const samples = new Samples()
  for (let turn = 0; turn < SHORT.turns; turn++) {
    for (let i = 0; i < WAYS.length; i++) {
      // They take turns at being first.
      const { key, options, mapped } = WAYS[(turn + i) % WAYS.length]
      const { exports } =
        options === undefined
          ? new WebAssembly.Instance(plain)
          : await instrumentGrowth(bytes, options).instantiate()
      if (mapped) GuardedMemory.from(exports.memory).map(region, { at: WASM_PAGE })
      samples.add(key, timeBatches(exports.grow))
    }
    await collectGarbage()
    onProgress((turn + 1) / SHORT.turns)
  }
  return WAYS.map(({ key }) => ({ time: samples.summary(key), times: samples.ratio(key, 'own') }))
}

export function report([found]) {
  const table = {
    id: 'growth',
    title: 'One Wasm page more',
    rowLabel: 'growth',
    columns: [
      { key: 'time', label: 'time' },
      { key: 'times', label: "times V8's own" }
    ],
    note: 'Ratios are medians over turns.',
    rows: WAYS.map(({ key, label }, at) => ({ label, parameters: { way: key }, cells: found[at] }))
  }
  return { tables: [table], promises: [] }
}
