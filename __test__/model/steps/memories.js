'use strict'

const fc = require('fast-check')
const { CONSTANT, makeGuest } = require('../accesses')
const { WASM_PAGE, Memory } = require('../model')
const { PAGE, GuardedMemory, hasMemory64, same } = require('../world')
const { newSteps, MOST, wrong, pick, flag, choose, numberCodes } = require('./arguments')

const KINDS = [
  'own',
  'own',
  'wrapped',
  'buffer',
  'function',
  'shared function',
  'shared',
  'shared wrapped',
  'shared buffer'
].concat(hasMemory64 ? ['i64', 'i64 shared', 'i64 wrapped', 'i64 buffer', 'i64 function'] : [])

const { steps, step } = newSteps()

const sizes = {
  wasmPages: fc.constantFrom(0, 1, 4, 6, 6, 8, 12),
  more: fc.constantFrom(undefined, undefined, 0, 4, 12, 12, -1)
}

step(
  'make a memory',
  4,
  { kind: fc.constantFrom(...KINDS), ...sizes },
  (world, { kind, wasmPages, more }) => {
    if (world.memories.length >= MOST.memories) return null
    const address = kind.startsWith('i64') ? 'i64' : 'i32'
    const shared = kind.includes('shared')
    const size = address === 'i64' ? n => (n === undefined ? n : BigInt(n)) : n => n
    const known = !/wrapped|buffer|function/.test(kind)
    // Compiled code names the sizes of a memory that its module exports: few of them, so that few
    // modules are compiled.
    const initial = known ? wasmPages : wasmPages || 1
    const maximum = more === undefined || (more < 0 && !known) ? undefined : initial + more
    const type = { address, shared, initial, maximum }
    const codes = []
    if (known && maximum < initial) codes.push('ERR_OUT_OF_RANGE')
    if (known && shared && maximum === undefined) codes.push('ERR_INVALID_ARG_TYPE')
    const hidden = kind.includes('buffer')
    const byFunction = kind.includes('function')
    let guest
    return {
      text: `make a memory: ${kind}, ${initial} to ${maximum}`,
      documented: known ? 'memory' : 'from',
      codes,
      prepare: async () => void (guest = known ? undefined : await makeGuest(type)),
      call: () => {
        if (hidden) return GuardedMemory.from(guest.memory.buffer, { address })
        if (byFunction) return GuardedMemory.from(bufferOf(guest), { address })
        if (guest) return GuardedMemory.from(guest.memory)
        return new GuardedMemory({
          initial: size(initial),
          maximum: size(maximum),
          shared,
          address
        })
      },
      done: async guarded => {
        guest ??= await makeGuest(type, guarded.memory)
        same('address', guarded.address, address)
        same('guarded', guarded.guarded, true)
        const model = new Memory(PAGE, { wasmPages: initial, maximum: maximum ?? Infinity })
        const memory = {
          id: world.newMemoryId(),
          kind,
          address,
          shared,
          hidden,
          byFunction,
          guarded,
          guest,
          model,
          known: 0
        }
        memory.knownMaximum = known ? maximum : undefined
        memory.holdsConstant = !known && initial * WASM_PAGE > CONSTANT + 8
        memory.name = `memory ${memory.id} (${kind})`
        refresh(memory)
        world.memories.push(memory)
      }
    }
  }
)

/**
 * As a module's loader shows its buffer. It keeps nothing alive but the guest, as the memory does.
 */
const bufferOf = guest => () => guest.memory.buffer

/** Takes note of what the library knows of a memory whose buffer alone was given. */
function refresh(memory) {
  memory.buffer = memory.guest.memory.buffer
  memory.known = memory.model.byteLength
  memory.detached = false
}

/** Errors of any call about this memory. */
const memoryCodes = ({ detached }) => (detached ? ['ERR_HOSTMAP_MEMORY_HIDDEN'] : [])

step('from', 6, { memory: pick, by: fc.nat(4) }, (world, { memory: which, by }) => {
  const memory = choose(world.memories, which)
  if (!memory) return null
  const { guest, guarded, hidden, byFunction, shared } = memory
  // A buffer of before a growth. V8 gives a shared memory's a life of its own; others are detached.
  const old = by === 3 ? memory.buffer : undefined
  const isOld = old !== undefined && old !== guest.memory.buffer
  const byMemory = by === 0
  const isFunction = by === 4
  if ((byMemory || isFunction) && (hidden || byFunction) && world.steps % 4 !== 0) return null
  return {
    text: `from(${byMemory ? 'memory' : isFunction ? 'function' : isOld ? 'old buffer' : 'buffer'}) of ${memory.name}`,
    documented: 'from',
    memory,
    codes: isOld && !shared ? ['ERR_HOSTMAP_NOT_WASM_MEMORY'] : [],
    call: () =>
      GuardedMemory.from(
        byMemory ? guest.memory : isFunction ? bufferOf(guest) : (old ?? guest.memory.buffer)
      ),
    done: found => {
      same('from gives the same object', found, guarded)
      if (isFunction && hidden) memory.byFunction = true
      if (byMemory) memory.byFunction = false
      if (byMemory || isFunction) memory.hidden = false
      if (!isOld) refresh(memory)
      world.protect(memory)
    }
  }
})

step('from something else', 1, { what: fc.nat(3), view: pick }, (world, { what, view: which }) => {
  const view = choose(world.views, which)
  const values = [
    [view?.buffer, 'NOT_WASM_MEMORY'],
    [new ArrayBuffer(65536), 'NOT_WASM_MEMORY'],
    [{}],
    [65536]
  ]
  const [value, code] = values[what]
  if (value === undefined) return null
  return {
    text: `from(${['a view', 'an ArrayBuffer', 'an object', 'a number'][what]})`,
    documented: 'from',
    codes: [code ? `ERR_HOSTMAP_${code}` : 'ERR_INVALID_ARG_TYPE'],
    call: () => GuardedMemory.from(value)
  }
})

const growth = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(0, 1, 2, 5) },
  { weight: 1, arbitrary: fc.constantFrom(65537, 300000) },
  { weight: 1, arbitrary: wrong }
)

/**
 * Whether the test lets it grow so far. A memory without a maximum can become larger than what is
 * compared in time.
 */
const mayGrow = (model, wasmPages) =>
  wasmPages > 65536 || model.wasmPages + wasmPages <= MOST.wasmPages

step(
  'grow',
  4,
  { memory: pick, wasmPages: growth, big: flag },
  (world, { memory: which, wasmPages, big }) => {
    const memory = choose(world.memories, which)
    if (!memory || !mayGrow(memory.model, wasmPages)) return null
    const { model, guarded, hidden, byFunction } = memory
    const by = big && Number.isSafeInteger(wasmPages) ? BigInt(wasmPages) : wasmPages
    const codes = numberCodes(wasmPages, 0, Number.MAX_SAFE_INTEGER)
    if (hidden || byFunction) codes.push('ERR_HOSTMAP_MEMORY_HIDDEN')
    else if (wasmPages > model.maximum - model.wasmPages || wasmPages > 262144)
      codes.push('ERR_HOSTMAP_MEMORY_FULL')
    else if (wasmPages > 65536 && memory.address === 'i32') codes.push('ERR_HOSTMAP_MEMORY_FULL')
    else if (wasmPages > 65536) return null
    return {
      text: `${memory.name}.grow(${String(by)})`,
      documented: 'grow',
      memory,
      codes,
      call: () => guarded.grow(by),
      done: was => {
        same('grow', was, model.wasmPages)
        model.grow(wasmPages)
        world.protect(memory)
      }
    }
  }
)

step('grow by the module', 4, { memory: pick, wasmPages: growth, script: flag }, (world, args) => {
  const memory = choose(world.memories, args.memory)
  const { wasmPages } = args
  if (
    !memory ||
    !Number.isSafeInteger(wasmPages) ||
    wasmPages < 0 ||
    !mayGrow(memory.model, wasmPages)
  )
    return null
  return guestGrowth(memory, wasmPages, args.script ? 'JavaScript' : 'the module', () => {
    if (!args.script) return memory.guest.grow(wasmPages)
    try {
      return Number(memory.guest.memory.grow(memory.guest.pointer(wasmPages)))
    } catch {
      return -1
    }
  })
})

function guestGrowth(memory, wasmPages, by, grow) {
  const { model, address } = memory
  const most = Math.min(model.maximum, address === 'i64' ? 262144 : 65536)
  const fits = model.wasmPages + wasmPages <= most
  if (fits && wasmPages > 65536) return null
  return {
    text: `grow ${memory.name} by ${wasmPages} by ${by}`,
    run: async () => {
      same('memory.grow', await grow(), fits ? model.wasmPages : -1)
      if (!fits) return
      guestHasGrown(memory, wasmPages)
    }
  }
}

function guestHasGrown(memory, wasmPages) {
  const { model, hidden, shared } = memory
  // V8 makes a new buffer even where nothing is added.
  if (hidden && !shared) [memory.detached, memory.known] = [true, 0]
  if (wasmPages === 0) return
  model.grow(wasmPages)
  model.loseProtection()
  // V8 is asked how long a shared one is: at each comparison, for its byteLength.
  if (hidden && shared) memory.known = model.byteLength
}

step('forget a memory', 2, { memory: pick }, (world, { memory: which }) => {
  const memory = choose(world.memories, which)
  if (!memory) return null
  return {
    text: `forget ${memory.name}`,
    run: async () => {
      if (memory.onThread) await world.thread.do('forget', { id: memory.id })
      world.drop(memory)
    }
  }
})

step('layout', 3, { memory: pick }, (world, { memory: which }) => {
  const memory = choose(world.memories, which)
  if (!memory) return null
  return {
    text: `layout of ${memory.name}`,
    documented: 'layout',
    memory,
    codes: memoryCodes(memory),
    call: () => memory.guarded.layout().ranges,
    done: ranges => {
      world.compareRanges(memory, ranges, 'main')
      world.protect(memory)
    }
  }
})

module.exports = { steps, memoryCodes, mayGrow, growth, guestGrowth, guestHasGrown }
