// The most frequent calls, each as a function to do over and over: `against` times them, and
// bench/instructions/ counts their instructions and system calls.

import { closeSync, ftruncateSync, openSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { MiB, WASM_PAGE, fillWithNoise } from './dataset.mjs'
import { emptyHeapModule } from './heap.mjs'
import { compile } from './module.mjs'

const WINDOW_BYTES = MiB
const REGION_BYTES = 64 * MiB
const HEAP_BYTES = 64 * MiB
const DIRTY_PAGES = 100
const PAGE_BYTES = 4096

/**
 * Each makes the function to time, with a build of the package. `calls`: how many in a block, by
 * default 64. `is32`: there is only a 32-bit variant.
 */
export const OPERATIONS = {
  'map and unmap, at an address': { make: mapAt(0) },
  'map and unmap, at an address, beside 8 mappings': { make: mapAt(8) },
  'map and unmap, in free space': { make: mapInFreeSpace(0) },
  'map and unmap, in free space, beside 8 mappings': { make: mapInFreeSpace(8) },
  'slide, memfd': { make: slide('memfd') },
  'slide, memfd, options': {
    make: slide('memfd', { byteLength: WINDOW_BYTES, access: 'readonly' })
  },
  'slide, file': { make: slide('file') },
  'slide, file, options': { make: slide('file', { byteLength: WINDOW_BYTES, access: 'readonly' }) },
  'source.next, memfd': { make: next('memfd') },
  'source.next, file': { make: next('file') },
  'source.next by a module, memfd': { make: nextOfModule, is32: true },
  'restore, nothing written': { make: restore(0) },
  [`restore, ${DIRTY_PAGES} pages written`]: { make: restore(DIRTY_PAGES), calls: 16 },
  'pool, acquire and release': { make: pool, is32: true },
  'map, a stray write, unmap': { make: strayWrite, calls: 16 }
}

/** Makes a memory with this many read-only mappings of 64 KiB, above the first Wasm page. */
function memoryWith({ GuardedMemory, HostRegion }, address, others) {
  const region = HostRegion.allocate(MiB).seal()
  const guarded = new GuardedMemory({ initial: 64, address })
  for (let i = 1; i <= others; i++)
    guarded.map(region, { at: 2 * i * WASM_PAGE, byteOffset: 0, byteLength: WASM_PAGE })
  return { region, guarded }
}

function mapAt(others) {
  return (build, address) => {
    const { region, guarded } = memoryWith(build, address, others)
    return { round: () => guarded.map(region, { at: 32 * WASM_PAGE }).unmap() }
  }
}

function mapInFreeSpace(others) {
  return (build, address) => {
    const { region, guarded } = memoryWith(build, address, others)
    const options = {
      byteOffset: 0,
      byteLength: 4 * WASM_PAGE,
      access: 'readonly',
      populate: false
    }
    // The first one makes the memory grow.
    return { round: () => guarded.map(region, { ...options }).unmap() }
  }
}

const FILE = path.join(
  process.env.HOSTMAP_BENCH_DIR ?? os.tmpdir(),
  `hostmap-against-${process.pid}`
)

function regionOf({ HostRegion }, backing) {
  if (backing === 'memfd') return HostRegion.allocate(REGION_BYTES).seal()
  const fd = openSync(FILE, 'a')
  ftruncateSync(fd, REGION_BYTES)
  closeSync(fd)
  return HostRegion.open(FILE)
}

function windowOn(build, backing, address) {
  const region = regionOf(build, backing)
  const guarded = new build.GuardedMemory({ initial: 1, address })
  return { region, guarded, window: guarded.window({ byteLength: WINDOW_BYTES }) }
}

function slide(backing, options) {
  return (build, address) => {
    const { region, window } = windowOn(build, backing, address)
    let at = 0
    return {
      round() {
        if (options === undefined) window.slide(region, at)
        else window.slide(region, at, { ...options })
        at = (at + WINDOW_BYTES) % REGION_BYTES
      }
    }
  }
}

function next(backing) {
  return (build, address) => {
    const { region, window } = windowOn(build, backing, address)
    const source = window.source(region, {
      chunk: WINDOW_BYTES,
      readAhead: false,
      leaveBehind: false
    })
    return {
      round() {
        if (Number(source.next()) === 0) source.rewind()
      }
    }
  }
}

const NEXT_WAT = `
(module
  (import "env" "memory" (memory 1))
  (import "data" "next" (func $next (param i32) (result i32)))
  (func (export "next") (result i32) (call $next (i32.const 0))))
`

async function nextOfModule(build, address) {
  const { region, window } = windowOn(build, 'memfd', address)
  const source = window.source(region, {
    chunk: WINDOW_BYTES,
    readAhead: false,
    leaveBehind: false
  })
  const { exports } = new WebAssembly.Instance(
    await moduleOf('next', () => compile('next', NEXT_WAT)),
    {
      env: { memory: window.memory.memory },
      data: source.imports
    }
  )
  return {
    round() {
      if (exports.next() === 0) source.rewind()
    }
  }
}

function restore(dirtyPages) {
  return ({ GuardedMemory }, address) => {
    const guarded = new GuardedMemory({ initial: HEAP_BYTES / WASM_PAGE, address })
    const bytes = new Uint8Array(guarded.buffer)
    fillWithNoise(bytes.subarray(0, DIRTY_PAGES * PAGE_BYTES))
    const snapshot = guarded.snapshot()
    return {
      round() {
        for (let page = 0; page < dirtyPages; page++) bytes[page * PAGE_BYTES] = page
        guarded.restore(snapshot)
      }
    }
  }
}

async function pool({ InstancePool }) {
  const program = await moduleOf('heap', () => emptyHeapModule(HEAP_BYTES))
  const instances = await InstancePool.create(program)
  return {
    isAsync: true,
    round: async () => (await instances.acquire()).release(),
    close: () => instances.close()
  }
}

/** The handler copies the page; whether the mapping was told of is not counted. */
function strayWrite({ GuardedMemory, HostRegion }, address) {
  const region = HostRegion.allocate(MiB).seal()
  const guarded = new GuardedMemory({ initial: 64, address })
  const at = 32 * WASM_PAGE
  const bytes = new Uint8Array(guarded.buffer)
  return {
    round() {
      const mapping = guarded.map(region, { at })
      bytes[at] = 1
      mapping.unmap()
    }
  }
}

const modules = new Map()

async function moduleOf(name, make) {
  if (!modules.has(name)) modules.set(name, await make())
  return modules.get(name)
}

/** Whatever the operations have left. */
export const cleanUp = () => rmSync(FILE, { force: true })
