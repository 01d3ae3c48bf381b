// A module streams a dataset of any size, which exists nowhere, through a window: the provider of a
// paged region makes each chunk when it is touched, and a limit says how much of it is in memory.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'
import { compile } from '../../bench/lib/module.mjs'
import { SUM_FUNCTIONS } from '../../bench/lib/sum.mjs'
import * as cli from '../support/cli.mjs'

const usage = `Usage: node examples/generated/index.mjs [--size MIB] [--cache MIB] [--window MIB]

A module adds up the integers of a dataset that a provider makes chunk by chunk.

  --size MIB      size of the dataset (default: 4096)
  --cache MIB     how much of it may be in memory (default: 128)
  --window MIB    window that the module reads it through (default: 16)`

const CHUNK_BYTES = cli.MiB
const READ_AHEAD_BYTES = 32 * cli.MiB
// Besides the cache: the worker, its chunks under way, and the window's own.
const MOST_MORE_BYTES = 64 * cli.MiB

const wat = `
(module
  (import "env" "memory" (memory 1))
  (import "source" "next" (func $next (param i32) (result i32)))
  (import "source" "pointer" (func $pointer (result i32)))
  ${SUM_FUNCTIONS}
  ;; Adds up all that the source shows.
  (func (export "sum") (result i64)
    (local $shown i32) (local $sum i64)
    (block $done
      (loop $more
        (br_if $done (i32.eqz (local.tee $shown (call $next (i32.const 0)))))
        (local.set $sum
          (i64.add (local.get $sum) (call $simd (call $pointer) (local.get $shown))))
        (br $more)))
    (local.get $sum)))`

const statusBytes = name =>
  Number(new RegExp(`${name}:\\s+(\\d+)`).exec(readFileSync('/proc/self/status', 'latin1'))[1]) *
  1024

async function main() {
  const { values } = cli.parseCommandLine(usage, {
    size: { type: 'string', default: '4096' },
    cache: { type: 'string', default: '128' },
    window: { type: 'string', default: '16' }
  })
  const byteLength = cli.wholeNumber('--size', values.size, 1, 2 ** 24) * cli.MiB
  const cacheBytes = cli.wholeNumber('--cache', values.cache, 64, 2 ** 16) * cli.MiB
  const windowBytes = cli.wholeNumber('--window', values.window, 2, 1024) * cli.MiB

  const module = await compile('generated', wat, { simd: true })
  const guarded = new GuardedMemory({ initial: 1 })
  const window = guarded.window({ byteLength: windowBytes, strict: true })
  // The most that was resident is counted from here.
  writeFileSync('/proc/self/clear_refs', '5')
  const residentBefore = statusBytes('VmRSS')

  const begin = performance.now()
  const region = await HostRegion.paged({
    provider: { module: new URL('provider.mjs', import.meta.url), data: { byteLength } },
    chunkBytes: CHUNK_BYTES,
    cacheBytes,
    readAheadBytes: READ_AHEAD_BYTES
  })
  // The region makes its chunks ahead of the module; a window's own threads can't.
  const source = window.source(region, { readAhead: false })
  const { exports } = new WebAssembly.Instance(module, {
    env: { memory: guarded.memory },
    source: source.imports
  })
  const sum = BigInt.asUintN(64, exports.sum())
  const milliseconds = performance.now() - begin
  const resident = statusBytes('VmHWM') - residentBefore
  const stats = region.paging.stats()
  const here = region.paging.chunks().filter(state => state === 2).length
  window.checkFaults()
  region.close()

  const count = BigInt(byteLength / 8)
  assert.equal(sum, BigInt.asUintN(64, (count * (count - 1n)) / 2n), 'the sum is wrong')
  assert.equal(stats.failedTouches, 0)
  assert.ok(here * CHUNK_BYTES <= cacheBytes, `${here} chunks are in memory`)
  const rate = cli.formatBytes((byteLength / milliseconds) * 1000)
  console.log(
    `${cli.formatBytes(byteLength)} through a window of ${cli.formatBytes(windowBytes)}: ${cli.formatMilliseconds(milliseconds)}, ${rate} a second`
  )
  console.log(
    `The sum is right. ${cli.formatCount(stats.touches)} touches waited for a chunk, ${cli.formatCount(stats.evictions)} chunks gave way to others.`
  )
  console.log(
    `At most ${cli.formatBytes(resident)} more were resident, of which the cache may be ${cli.formatBytes(cacheBytes)}.`
  )
  assert.ok(resident <= cacheBytes + MOST_MORE_BYTES, 'more was resident than the limit allows')
}

await cli.run(main)
