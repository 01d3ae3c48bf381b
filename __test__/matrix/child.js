'use strict'

// Does the accesses of some cells, one after the other, and says before each which one it is, so
// that the process that started this one knows which one ended it. Says what came of each, in one
// word, and what is not as it is promised.

const fs = require('node:fs')
const path = require('node:path')
const { isMainThread, Worker, workerData } = require('node:worker_threads')

// `temporary` is a directory of this process alone, made and removed by the parent.
const { temporary, thread, cells } = isMainThread
  ? JSON.parse(fs.readFileSync(0, 'utf8'))
  : workerData

if (isMainThread && thread === 'worker') {
  // The library is loaded in the worker alone.
  new Worker(__filename, { workerData: { temporary, cells } })
  return
}

const { HostRegion, GuardedMemory, limits } = require('../..')
const ground = require('./ground')
const { Guest } = require('./guest')
const { bytesFor } = require('./js-accesses')
const { accessNamed, parsePlace, isByWindow } = require('./cells')
const { judge } = require('./verdict')
const { fdOf } = require('../support/procfs.js')

const { pageBytes, regionBytes, at, target, noise, shrunk, SOURCE } = ground

// Straight to the descriptor, which is a file: what a stream still holds dies with the process.
const say = (what, value) => fs.writeSync(1, `${what} ${JSON.stringify(value)}\n`)

const traps = !process.execArgv.includes('--disable-wasm-trap-handler')
const { faultGuard } = limits()
// Turned off only to see what happens then.
if (
  process.env.WASM_HOSTMAP_FAULT_GUARD !== 'off' &&
  (faultGuard.handler !== 'first' || faultGuard.traps !== traps)
)
  throw new Error(`The fault guard is not as it should be: ${JSON.stringify(faultGuard)}`)

const sourceFile = path.join(temporary, 'source')
fs.writeFileSync(sourceFile, SOURCE)
const files = {
  source: fs.openSync(sourceFile, 'r'),
  empty: fs.openSync(path.join(temporary, 'empty'), 'w+')
}

/**
 * All that an access needs to find the target in a buffer in which the region's bytes start here.
 */
const bytesIn = (buffer, start) => ({ ...bytesFor(buffer, start + target - at), files })

// Without the library.

const plainGuests = new Map()

async function plainGuest(kind) {
  if (!plainGuests.has(kind)) {
    const { address, shared } = ground.MEMORIES[kind]
    const pages = address === 'i64' ? BigInt : Number
    const descriptor = { initial: pages(ground.MINIMUM), maximum: pages(ground.MAXIMUM), shared }
    if (address === 'i64') descriptor.address = address
    plainGuests.set(kind, await Guest.make(kind, new WebAssembly.Memory(descriptor)))
  }
  return plainGuests.get(kind)
}

async function runPlainly(access, memory, content) {
  const guest = await plainGuest(memory === 'none' ? 'i32' : memory)
  const [buffer, start] =
    memory === 'none' ? [new ArrayBuffer(regionBytes), 0] : [guest.memory.buffer, at]
  const whole = new Uint8Array(buffer, start, regionBytes)
  whole.set(content)
  const bytes = bytesIn(buffer, start)
  const came = access.later ? await guest.attemptLater(access, bytes) : guest.attempt(access, bytes)
  return { ...came, after: Buffer.from(whole) }
}

const compiler = process.execArgv.includes('--allow-natives-syntax')
  ? {
      prepare: new Function('f', '%PrepareFunctionForOptimization(f)'),
      optimize: new Function('f', '%OptimizeFunctionOnNextCall(f)')
    }
  : { prepare() {}, optimize() {} }

let last

/**
 * What an access does to plain bytes. JavaScript's code is warm then, and may be optimized on its
 * next call.
 */
async function plainOutcomes(access, memory) {
  const key = `${access.name} ${memory}`
  if (last?.key !== key) {
    const functions = [access.run, access.inner].filter(code => code !== undefined)
    functions.forEach(compiler.prepare)
    const data = await runPlainly(access, memory, noise)
    const zeros = await runPlainly(access, memory, shrunk)
    functions.forEach(compiler.optimize)
    last = { key, data, zeros }
  }
  return last
}

// With it.

/**
 * A region of the kind that a place needs, and the descriptor by which the test sees what it has.
 */
function makeRegion(name, { target: where, state }) {
  if (!/file/.test(where) && state !== 'shrunk') {
    const region = HostRegion.copyFrom(noise, { name })
    if (where === 'view, sealed') region.seal()
    return { region, fd: fdOf(region), close: () => region.close() }
  }
  const file = path.join(temporary, name)
  const fd = fs.openSync(file, 'w+')
  fs.writeSync(fd, noise, 0, regionBytes, 0)
  const region = HostRegion.open(file, {
    writable: where === 'shared' || where === 'view, writable file'
  })
  fs.unlinkSync(file)
  const close = () => {
    region.close()
    fs.closeSync(fd)
  }
  return { region, fd, close }
}

function contentOf(fd) {
  const bytes = Buffer.alloc(regionBytes + 1)
  return bytes.subarray(0, fs.readSync(fd, bytes, 0, bytes.length, 0))
}

/**
 * A window that shows the region, or the first page of it and its rest. It showed something else
 * before.
 */
function makeWindow(guarded, region, { target: where, state, isRest }) {
  const access = isRest ? (state === 'zeros' ? 'readonly' : 'private') : where
  const rest = isRest && state !== 'trap' ? 'zeros' : 'trap'
  const window = guarded.window({ byteLength: regionBytes, at, access, rest })
  window.slide(region, pageBytes)
  window.slide(region)
  if (isRest) window.slide(region, 0, { byteLength: pageBytes })
  return window
}

async function runCell(index, cell) {
  const { access: name, place, memory } = cell
  const access = accessNamed.get(name)
  const { target: where, state, isView, isRest } = parsePlace(place)
  const plain = await plainOutcomes(access, memory)

  const { region, fd, close } = makeRegion(`cell ${index}`, { target: where, state })
  const kind = isView ? 'i32' : memory
  const { address, shared } = ground.MEMORIES[kind]
  const guarded = new GuardedMemory({
    initial: ground.MINIMUM,
    maximum: ground.MAXIMUM,
    shared,
    address
  })
  const guest = await Guest.make(kind, guarded.memory)
  const makeMapping = () =>
    isRest || isByWindow(cell)
      ? makeWindow(guarded, region, parsePlace(place))
      : guarded.map(region, { at, access: where })
  const mapping = isView ? null : makeMapping()
  const view = isView ? region.view() : null
  if (where === 'view, then sealed') region.seal()
  const counted = mapping ?? region

  if (state === 'shrunk') fs.ftruncateSync(fd, pageBytes)
  if (state === 'grown') guest.exports.grow()
  // Not by the library, where every call may mend something.
  const buffer = view ?? guest.memory.buffer
  const start = isView ? 0 : at
  const bytes = bytesIn(buffer, start)
  const before = contentOf(fd)

  const { seen, error, trapsAfter } = access.later
    ? await guest.attemptLater(access, bytes)
    : guest.attempt(access, bytes)
  const { strayWrites, faults, lastFault } = counted
  const content = contentOf(fd)
  // Pages that are still the file's show it.
  if (state === 'shrunk') fs.writeSync(fd, noise, 0, regionBytes, 0)
  const left = Buffer.from(new Uint8Array(buffer, start, regionBytes))

  const came = { seen, error, strayWrites, faults, lastFault, before, content, left }
  const { outcome, trapped, problems } = judge(
    { access, target: where, state, isView, isRest, traps },
    plain,
    came
  )
  const check = (holds, message) => holds || problems.push(message)

  check(plain.data.trapsAfter, 'a read out of bounds after it does not trap, on a plain memory')
  check(trapsAfter, 'a read out of bounds after it is not caught as a trap')

  const warnings = new Set()
  if (strayWrites > 0) warnings.add('HOSTMAP_STRAY_WRITE')
  if (faults > 0 && !trapped && !isRest) warnings.add('HOSTMAP_MISSING_PAGE')
  // By what was just read to see what is left.
  if (isRest && state === 'trap') warnings.add(PAST_END)

  if (isRest && state !== 'private zeros') {
    GuardedMemory.from(guarded.memory)
    const counts = mapping.strayWrites + mapping.faults
    check(
      guest.storeTraps() === traps,
      'a store after the next call into the library is not what it should be'
    )
    const counted = state === 'trap' || !traps
    check(
      mapping.strayWrites + mapping.faults === counts + counted,
      'it does not count as it should'
    )
    if (!traps && state === 'zeros') warnings.add('HOSTMAP_STRAY_WRITE')
    check(
      contentOf(fd).equals(noise),
      'the region changed by a store after the next call into the library'
    )
  }
  if (where === 'readonly') {
    GuardedMemory.from(guarded.memory)
    const counts = mapping.strayWrites
    if (traps)
      check(guest.storeTraps(), 'a store after the next call into the library does not trap')
    else {
      guest.storeTraps()
      warnings.add('HOSTMAP_STRAY_WRITE')
      check(
        mapping.strayWrites === counts + 1,
        'a store after the next call into the library does not count'
      )
    }
    check(
      contentOf(fd).equals(noise),
      'the region changed by a store after the next call into the library'
    )
  }
  if (trapped) {
    if (state === 'shrunk') fs.ftruncateSync(fd, pageBytes)
    check(guest.trapsRound(access), 'a read out of bounds round a call that traps is not caught')
  }

  mapping?.unmap()
  close()
  for (const code of warnings) warningsOf(code).expected.add(index)
  return problems.length === 0 ? { outcome } : { outcome, problems }
}

// Warnings come later, at the latest before the process ends, and no more than so many of a kind.
// The name of its region tells which cell's one is. Past what a window shows there is no region.
const MOST_WARNINGS = 100
const PAST_END = 'HOSTMAP_PAST_END'
const allWarnings = new Map()

/** The cells that should have a warning with this code, and those that had one. */
function warningsOf(code) {
  if (!allWarnings.has(code)) allWarnings.set(code, { expected: new Set(), given: [] })
  return allWarnings.get(code)
}

process.on('warning', ({ name, code, message }) => {
  if (name !== 'HostmapWarning') return
  const { given } = warningsOf(code)
  given.push(
    code === PAST_END ? `window ${given.length}` : Number(/region "cell (\d+)"/.exec(message)[1])
  )
})
process.on('exit', () => {
  for (const [code, { expected, given }] of allWarnings) {
    const had = new Set()
    for (const index of code === PAST_END ? [] : given) {
      if (!expected.has(index)) say('late', [index, `a warning, ${code}, for nothing`])
      if (had.has(index)) say('late', [index, `a second warning, ${code}`])
      had.add(index)
    }
    if (given.length === Math.min(expected.size, MOST_WARNINGS)) continue
    const [missing] = [...expected].filter(index => !had.has(index))
    say('late', [
      missing ?? [...expected][0],
      `${given.length} warnings, ${code}, for ${expected.size} cells`
    ])
  }
})

async function runAll() {
  for (const [index, cell] of cells) {
    say('run', index)
    try {
      say('came', [index, await runCell(index, cell)])
    } catch (error) {
      say('came', [index, { outcome: 'not run', problems: [String(error.stack)] }])
    }
    // Memories take gigabytes of address space each.
    if (index % 64 === 0) {
      globalThis.gc()
      await new Promise(resolve => setImmediate(resolve))
    }
  }
  say('done', null)
}

runAll()
