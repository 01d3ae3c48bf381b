// The first scan of a dataset that was just mapped: its pages are in memory, and none was touched
// through this mapping. Beside the same module over a heap that it was copied to, a native program
// and wasmtime.

import { writeFileSync } from 'node:fs'
import { MiB, QUICK, WASM_PAGE, hostArray } from './dataset.mjs'
import { Samples, timeOnce } from './measure.mjs'
import { hasNative, runNative } from './native.mjs'
import { compileSums, sumModule } from './sum.mjs'
import { temporaryFile } from './temporary.mjs'
import { WASMTIME_BEFORE_BYTES, hasWasmtime, scanWasmtime } from './wasmtime.mjs'
import { withFile } from './with-file.mjs'

export const SCAN_BYTES = (QUICK ? 64 : 256) * MiB
const TURNS = QUICK ? 2 : 8

/**
 * With a build of the package, and its defaults: times by name, of a region in memory (`memfd`) and
 * of a `file`; `withPeers`: also of the others, as `memfd native` or `file wasmtime`.
 */
export async function measureFirstScan(build, withPeers, onProgress) {
  const { GuardedMemory, HostRegion } = build
  const over = await compileSums()
  const module = temporaryFile('sum.wasm')
  writeFileSync(module, await sumModule(SCAN_BYTES + WASMTIME_BEFORE_BYTES))
  const source = hostArray(SCAN_BYTES)
  const file = temporaryFile('dataset')
  writeFileSync(file, source)
  const regions = {
    memfd: HostRegion.copyFrom(source, { hugePages: false }),
    file: HostRegion.open(file)
  }
  const guarded = new GuardedMemory({ initial: 1 + SCAN_BYTES / WASM_PAGE })
  new Uint8Array(guarded.buffer).set(source, WASM_PAGE)
  // The memory grows for the first mapping.
  guarded.map(regions.memfd).unmap()
  const { simd } = over(guarded.memory)
  const expected = simd(WASM_PAGE, SCAN_BYTES)

  const samples = new Samples()
  const scan = (name, at) => {
    let sum
    samples.add(name, [timeOnce(() => (sum = simd(at, SCAN_BYTES)))])
    if (sum !== expected) throw new Error(`${name}: other bytes were read`)
  }
  const ways = Object.entries(regions).flatMap(([name, region]) => [
    () => {
      const mapping = guarded.map(region)
      scan(name, mapping.address)
      mapping.unmap()
    },
    () => {
      if (!withPeers || !hasNative()) return
      const read = path => runNative('read', path, SCAN_BYTES, 'untouched', 'simd', 1)
      samples.add(`${name} native`, withFile(region, read).ns)
    },
    () => {
      if (!withPeers || !hasWasmtime()) return
      const read = path => scanWasmtime(module, path, SCAN_BYTES, 0, ['simd'])
      samples.add(`${name} wasmtime`, [withFile(region, read)[0].first])
    }
  ])
  ways.push(() => scan('copied', WASM_PAGE))
  for (let turn = 0; turn < TURNS; turn++) {
    for (let i = 0; i < ways.length; i++) ways[(turn + i) % ways.length]()
    onProgress((turn + 1) / TURNS)
  }
  const names = Object.keys(regions).flatMap(name => [name, `${name} native`, `${name} wasmtime`])
  return Object.fromEntries(['copied', ...names].map(name => [name, samples.summary(name)]))
}
