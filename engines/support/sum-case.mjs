// A case of `npm run bench:engines` for the test of what measures them: an engine that adds up the
// words of a file in its linear memory. `?fault=` in the URL makes its second way go wrong.

import fs from 'node:fs'
import path from 'node:path'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'
import initWabt from 'wabt'

const ENGINE = `(module
  (import "env" "memory" (memory 1))
  (func (export "sum") (param $at i32) (param $end i32) (result i32)
    (local $sum i32)
    (loop $next
      (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
    (local.get $sum)))`

const fault = new URL(import.meta.url).searchParams.get('fault')

export const engine = { name: 'sum', package: 'wabt', adapter: 'map()', nodes: '>=20' }

export async function dataset(directory, byteLength) {
  const file = path.join(directory, `sum-${byteLength}`)
  const words = Uint32Array.from({ length: byteLength / 4 }, (_, index) => index * 2654435761)
  fs.writeFileSync(file, words)
  return file
}

async function prepare() {
  const wabt = await initWabt()
  const { buffer } = wabt.parseWat('sum.wat', ENGINE).toBinary({})
  const guarded = new GuardedMemory({ initial: 1 })
  const { exports } = await WebAssembly.instantiate(await WebAssembly.compile(buffer), {
    env: { memory: guarded.memory }
  })
  return { guarded, sum: exports.sum }
}

const answer = ({ sum, pointer }) => [sum(pointer, pointer + 4096)]
const scan = ({ sum, pointer, byteLength }) => [sum(pointer, pointer + byteLength)]

const usual = {
  prepare,
  open: async ({ guarded, sum }, file) => {
    const bytes = fs.readFileSync(file)
    const pointer = guarded.memory.buffer.byteLength
    guarded.memory.grow(bytes.byteLength / 65536)
    new Uint8Array(guarded.memory.buffer).set(bytes, pointer)
    return { sum, pointer, byteLength: bytes.byteLength }
  },
  answer,
  scan,
  close: () => {}
}

const mapped = {
  ...usual,
  open: async ({ guarded, sum }, file) => {
    if (fault === 'throws') throw new Error('no such format')
    if (fault === 'dies') process.exit(3)
    const region = HostRegion.open(file)
    const mapping = guarded.map(region)
    const { byteLength } = region
    return { sum, pointer: mapping.pointer, byteLength }
  },
  scan: handle => (fault === 'differs' ? [scan(handle)[0] + 1] : scan(handle))
}

export const ways = { usual, mapped }
