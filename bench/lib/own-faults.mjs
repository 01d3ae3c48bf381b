// The time of a fault that the guard handles, from the access to its end.

import assert from 'node:assert/strict'
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { compileAccesses, compileFunctions } from './accesses.mjs'
import { WASM_PAGE, hostArray } from './dataset.mjs'
import { mapOthers, trap } from './faulting.mjs'
import { SHORT, Samples, collectGarbage, timeBatches, timeOnce } from './measure.mjs'

/** Pages of a mapping that are changed one by one. */
export const STRAY_PAGES = 32
const BATCHES = { warmup: 5, perTurn: 10, turns: 10 }
const CALL_TURNS = 16

export const FAULT_ROWS = [
  { key: 'js write', label: '`u8[i] = 1`', stray: true },
  { key: 'js write seen', label: '`u8[i] = 1`, page read before', stray: true },
  { key: 'atomic store', label: '`i32.atomic.store8`', stray: true },
  { key: 'fill', label: '`memory.fill` of a byte', stray: true },
  { key: 'first', label: 'the first of a mapping, with its report', stray: true },
  { key: 'first alone', label: 'the same, 5 ms after all others', stray: true },
  { key: 'second alone', label: 'for comparison: the second, which no one is told of, 5 ms later' },
  { key: 'copy', label: 'for comparison: `u8[i] = 1`, mapped private' },
  { key: 'store', label: '`i32.store8`: a trap' },
  { key: 'js read', label: '`u8[i]` of a page that the file lost: zeros' },
  { key: 'load', label: '`i32.load8_u` of such a page: a trap' },
  { key: 'v8 trap', label: "for comparison: V8's own trap" },
  {
    key: 'next call',
    label: 'the next call after a stray write, into the memory of all those mappings'
  },
  { key: 'any call', label: 'for comparison: that call, after no stray write' }
]

/**
 * Beside this many other mappings and compiled functions, with a build of the package.
 */
export async function measureFaults(build, othersCount, functionsCount, onProgress) {
  const { GuardedMemory, HostRegion, limits } = build
  // First, because V8 searches code for traps in the order in which it was compiled.
  const functions = await compileFunctions(functionsCount)
  const accessesOf = await compileAccesses()
  const samples = new Samples()
  const { pageSize } = limits()
  // Every second page: adjacent pages would merge into one VMA, which is cheaper.
  const byteLength = 2 * STRAY_PAGES * pageSize
  const region = HostRegion.copyFrom(hostArray(byteLength))
  const others = mapOthers(othersCount, region, build)

  const directory = mkdtempSync(path.join(os.tmpdir(), 'wasm-hostmap-bench-'))
  const file = path.join(directory, 'shrinks')
  const fd = openSync(file, 'w+')
  try {
    ftruncateSync(fd, byteLength)
    const shrinking = HostRegion.open(file)
    for (let turn = 0; turn < BATCHES.turns; turn++) {
      const guarded = new GuardedMemory({ initial: 1 + Math.ceil(byteLength / WASM_PAGE) })
      const bytes = new Uint8Array(guarded.buffer)
      const accesses = accessesOf(guarded.memory)
      const ground = { samples, guarded, bytes, region, byteLength, pageSize }
      strayTurn(ground, 'js write', address => (bytes[address] = 1))
      strayTurn(ground, 'js write seen', address => (bytes[address] = 1), { seen: true })
      strayTurn(ground, 'atomic store', accesses.atomicStore)
      strayTurn(ground, 'fill', accesses.fill)
      strayTurn(ground, 'copy', address => (bytes[address] = 1), { access: 'private' })
      trapTurn(ground, 'store', accesses.store, WASM_PAGE)
      trapTurn(ground, 'v8 trap', accesses.load, guarded.byteLength)
      firstTurns(ground)
      shrunkTurns({ ...ground, fd, region: shrinking }, accesses)
      // The reports arrive now.
      await collectGarbage()
      onProgress((turn + 1) / BATCHES.turns)
    }
  } finally {
    closeSync(fd)
    rmSync(directory, { recursive: true })
  }
  callTurns(build, samples, others, othersCount, pageSize)
  assert.equal(Object.keys(functions).length, functionsCount)
  return Object.fromEntries(FAULT_ROWS.map(({ key }) => [key, samples.summary(key)]))
}

/** The addresses of every second page of a new mapping. */
function* newMappings({ guarded, region, byteLength, pageSize }, access) {
  const addresses = Array.from(
    { length: STRAY_PAGES },
    (_, index) => WASM_PAGE + 2 * index * pageSize
  )
  for (let batch = -BATCHES.warmup; batch < BATCHES.perTurn; batch++) {
    const mapping = guarded.map(region, { at: WASM_PAGE, byteLength, access })
    yield { mapping, addresses, counts: batch >= 0 }
    mapping.unmap()
  }
}

/**
 * Makes a write that V8 can't trap to each page in turn. The first one of a mapping counts
 * separately, because it wakes the reporting thread.
 */
function strayTurn(ground, name, write, { access = 'readonly', seen = false } = {}) {
  const { samples, bytes } = ground
  for (const { mapping, addresses, counts } of newMappings(ground, access)) {
    if (seen) for (const address of addresses) assert.notEqual(bytes[address], undefined)
    const [first, ...rest] = addresses
    const firstNs = timeOnce(() => write(first))
    const restNs = timeOnce(() => {
      for (const address of rest) write(address)
    })
    assert.equal(mapping.strayWrites, access === 'readonly' ? addresses.length : 0)
    if (!counts) continue
    samples.add(name, [restNs / rest.length])
    if (name === 'js write') samples.add('first', [firstNs])
  }
}

/** The first two stray writes of mappings, each after other work, which leaves little in caches. */
function firstTurns({ samples, bytes, ...ground }) {
  for (const { mapping, addresses, counts } of newMappings(ground)) {
    for (const [index, name] of ['first alone', 'second alone'].entries()) {
      // Busy, since after a rest of the processor anything takes 20 us.
      const until = performance.now() + 5
      while (performance.now() < until);
      const elapsedNs = timeOnce(() => (bytes[addresses[index]] = 1))
      if (counts) samples.add(name, [elapsedNs])
    }
    assert.equal(mapping.strayWrites, 2)
  }
}

/** A trap changes nothing, so it can be repeated at once. */
function trapTurn({ samples, guarded, region, byteLength }, name, access, address) {
  const mapping = guarded.map(region, { at: WASM_PAGE, byteLength })
  samples.add(
    name,
    timeBatches(() => trap(access, address), { ...SHORT, batchesPerTurn: 10 })
  )
  assert.equal(mapping.strayWrites, 0)
  mapping.unmap()
}

function shrunkTurns(ground, { load }) {
  const { samples, bytes, fd, byteLength } = ground
  // Only existing bytes can be mapped.
  const mappings = function* () {
    ftruncateSync(fd, byteLength)
    for (const each of newMappings(ground, 'readonly')) {
      ftruncateSync(fd, 0)
      yield each
      ftruncateSync(fd, byteLength)
    }
  }
  for (const { mapping, addresses, counts } of mappings()) {
    const loadNs = timeOnce(() => {
      for (const address of addresses) trap(load, address)
    })
    let sum = 0
    const readNs = timeOnce(() => {
      for (const address of addresses) sum += bytes[address]
    })
    assert.equal(sum, 0)
    assert.equal(mapping.faults, 2 * addresses.length)
    if (!counts) continue
    samples.add('load', [loadNs / addresses.length])
    samples.add('js read', [readNs / addresses.length])
  }
}

/** A call that maps nothing, with and without an unprotected page. */
function callTurns({ GuardedMemory }, samples, guarded, othersCount, pageSize) {
  const bytes = new Uint8Array(guarded.buffer)
  const call = () => GuardedMemory.from(guarded.memory)
  for (let turn = -CALL_TURNS; turn < CALL_TURNS; turn++) {
    // No mapping takes so many turns that all of it would become copy-on-write.
    const page = 2 * ((turn + CALL_TURNS) % othersCount)
    bytes[page * pageSize] = turn
    const nextNs = timeOnce(call)
    const anyNs = timeOnce(call)
    if (turn < 0) continue
    samples.add('next call', [nextNs])
    samples.add('any call', [anyNs])
  }
}
