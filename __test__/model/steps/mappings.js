'use strict'

const fc = require('fast-check')
const { WASM_PAGE, roundUp, Tally, Window } = require('../model')
const { PAGE, same } = require('../world')
const {
  newSteps,
  MOST,
  wrong,
  rarely,
  sometimes,
  pick,
  flag,
  choose,
  numberCodes,
  part,
  partOf,
  showPart
} = require('./arguments')
const { memoryCodes, guestHasGrown } = require('./memories')
const { pastEnd } = require('./past-end')

const ACCESS = ['readonly', 'private', 'shared']

const { steps, step } = newSteps()

const mapArguments = {
  memory: pick,
  region: pick,
  ...part,
  access: fc.nat(2),
  populate: rarely,
  strict: flag,
  wrong: sometimes(fc.constantFrom('access', 'populate', 'region', 'options'), 40)
}

/** A region to map and how: the options, and what is wrong with them. */
function requestOf(world, args) {
  const region = choose(world.regions, args.region)
  if (!region?.real) return null
  const { backing, byteLength: size, offset } = region
  const part = partOf(size, args, PAGE)
  const access = ACCESS[args.access]
  const codes = [...part.codes]
  if (region.closed) codes.push('ERR_HOSTMAP_REGION_CLOSED')
  const writable = region.opened && !backing.sealed
  if (access === 'shared' && !writable) codes.push('ERR_HOSTMAP_REGION_READONLY')
  if (part.codes.length === 0 && offset + part.start + part.length > backing.size) {
    codes.push('ERR_HOSTMAP_FILE_SHRUNK')
  }
  const options = { access, populate: args.populate, strict: args.strict }
  if (part.byteOffset !== undefined) options.byteOffset = part.byteOffset
  if (part.byteLength !== undefined) options.byteLength = part.byteLength
  let given = region.real
  if (args.wrong)
    codes.push(args.wrong === 'access' ? 'ERR_INVALID_ARG_VALUE' : 'ERR_INVALID_ARG_TYPE')
  if (args.wrong === 'access') options.access = 'readwrite'
  if (args.wrong === 'populate') options.populate = 1
  if (args.wrong === 'region') given = { byteLength: size }
  return { region, given, options, part, codes, access, pages: roundUp(part.length, PAGE) }
}

function addMapping(world, memory, start, request, { real = null, thread = 'main', ...rest }) {
  const { region, part, access, pages } = request
  const tally = new Tally()
  const window = new Window(region.backing, region.offset + part.start, part.length, access, tally)
  const mapping = {
    id: world.newMappingId(),
    start,
    end: start + pages,
    window,
    tally,
    access,
    region,
    regionRef: region.ref,
    byteOffset: part.start,
    real,
    thread,
    ...rest
  }
  mapping.name = `mapping ${mapping.id} (${access}) at ${start} of ${memory.name}`
  window.region = mapping
  memory.model.map(mapping)
  if (thread === 'main') {
    world.protect(memory)
    world.windows.push(window)
  } else {
    memory.model.protect()
    world.windowsOnThread.push(window)
  }
  if (real) {
    same('address', real.address, start)
    same('pointer', real.pointer, memory.guest.pointer(start))
    same('byteLength', real.byteLength, part.length)
    same('byteOffset', real.byteOffset, part.start)
    same('access', real.access, access)
    same('strict', real.strict, request.options.strict)
    same('region', real.region, region.real)
    same('memory', real.memory, memory.guarded)
    same('unmapped', real.unmapped, false)
  }
  return mapping
}

const at = fc.record({
  sane: fc.nat(4).map(n => n > 0),
  page: pick,
  wrong: sometimes(wrong, 20),
  odd: rarely,
  big: flag
})

/** An address to map at. Most have room there. */
function addressOf({ model }, pages, { sane, page, wrong, odd, big }) {
  if (wrong !== null) return wrong
  const all = Math.floor(model.byteLength / PAGE)
  let address = (page % (all + 1)) * PAGE
  if (sane) {
    const fitting = []
    for (let from = 0; from + pages <= model.byteLength; from += PAGE) {
      if (!model.overlaps(from, from + pages)) fitting.push(from)
    }
    address = choose(fitting, page) ?? address
  }
  if (odd) address += page % PAGE
  return big ? BigInt(address) : address
}

function addressCodes({ model, hidden, known, detached }, address, pages) {
  if (typeof address !== 'bigint') {
    const codes = numberCodes(address, 0, Number.MAX_SAFE_INTEGER)
    if (codes.length > 0) return codes
  }
  if (detached) return []
  const start = Number(address)
  const codes = []
  if (start % PAGE !== 0 || start + pages > (hidden ? known : model.byteLength))
    codes.push('ERR_OUT_OF_RANGE')
  if (model.overlaps(start, start + pages)) codes.push('ERR_HOSTMAP_OVERLAP')
  return codes
}

const canMap = memory => memory !== undefined && memory.model.mappings.length < MOST.mappings

step('map at', 16, { ...mapArguments, at }, (world, args) => {
  const memory = choose(world.memories, args.memory)
  const request = requestOf(world, args)
  if (!canMap(memory) || !request) return null
  const address = addressOf(memory, request.pages, args.at)
  const codes = [
    ...request.codes,
    ...memoryCodes(memory),
    ...addressCodes(memory, address, request.pages)
  ]
  const options = args.wrong === 'options' ? [] : { ...request.options, at: address }
  return {
    text: `map ${request.region.name} at ${String(address)} of ${memory.name}, ${showRequest(request)}`,
    documented: 'map',
    memory,
    codes,
    call: () => memory.guarded.map(request.given, options),
    done: real => addMapping(world, memory, Number(address), request, { real })
  }
})

const showRequest = ({ part, options }) =>
  `${options.access}, ${showPart(part)}, populate ${options.populate}, strict ${options.strict}`

step('map past the end', 8, mapArguments, (world, args) => {
  const memory = choose(world.memories, args.memory)
  const request = requestOf(world, args)
  if (!canMap(memory) || !request) return null
  const place = pastEnd(memory, request.pages, request.codes)
  if (place === null) return null
  const options = args.wrong === 'options' ? [] : request.options
  return {
    text: `map ${request.region.name} past the end of ${memory.name}, ${showRequest(request)}`,
    documented: 'map',
    memory,
    codes: place.codes,
    call: () => memory.guarded.map(request.given, options),
    done: real => {
      place.placed(real.address)
      addMapping(world, memory, real.address, request, { real })
    },
    failed: () => place.failed()
  }
})

step(
  'map in a block',
  5,
  { ...mapArguments, block: pick, sane: flag, gives: fc.nat(11), throws: rarely },
  (world, args) => {
    const memory = choose(world.memories, args.memory)
    const request = requestOf(world, args)
    if (!canMap(memory) || !request) return null
    const { model, hidden, guest } = memory
    const blockBytes = request.pages + PAGE
    const broken = Object.assign(new Error('malloc'), { code: 'TEST_MALLOC' })
    const calls = { malloc: [], free: [] }
    const codes = [...request.codes]
    let address = args.block % (model.byteLength + 1)
    if (args.sane) {
      address = addressOf(memory, blockBytes, {
        sane: true,
        page: args.block,
        wrong: null,
        odd: true,
        big: false
      })
    }
    // A module that has no room for the block grows first, which no caller notices.
    const grows =
      args.gives === 3 && !hidden && model.wasmPages + 6 <= Math.min(model.maximum, MOST.wasmPages)
    if (grows) address = model.byteLength + 8
    const given = [0, 'garbage', -1][args.gives] ?? address
    const isAddress = given === address && address > 0
    const pointer = typeof given === 'number' ? guest.pointer(given) : given
    const start = roundUp(address, PAGE)
    const length = (grows ? 6 * WASM_PAGE : 0) + (hidden ? memory.known : model.byteLength)
    if (args.gives === 4) codes.push('TEST_MALLOC')
    else if (!isAddress || given + blockBytes > length) {
      codes.push('ERR_HOSTMAP_ALLOCATOR_FAILED')
    } else if (model.overlaps(start, start + request.pages)) codes.push('ERR_HOSTMAP_OVERLAP')
    if (
      args.gives === 2 &&
      memory.address === 'i32' &&
      !codes.includes('ERR_HOSTMAP_ALLOCATOR_FAILED')
    )
      return null
    codes.push(...memoryCodes(memory))
    const free = mapping => {
      calls.free.push(mapping)
      if (args.throws) throw Object.assign(new Error('free'), { code: 'TEST_FREE' })
    }
    const allocator = {
      malloc(byteLength) {
        calls.malloc.push(byteLength)
        if (args.gives === 4) throw broken
        if (grows) same('growth by malloc', guest.grow(6), model.wasmPages)
        return pointer
      },
      free
    }
    const afterwards = () => {
      if (grows && calls.malloc.length > 0) guestHasGrown(memory, 6)
      if (request.codes.length > 0) return
      for (const asked of calls.malloc) same('asked of malloc', Number(asked), blockBytes)
    }
    return {
      text: `map ${request.region.name} in a block of ${memory.name} at ${String(given)}, ${showRequest(request)}`,
      documented: 'map',
      memory,
      codes,
      call: () =>
        memory.guarded.map(
          request.given,
          args.wrong === 'options' ? [] : { ...request.options, allocator }
        ),
      done: real => {
        afterwards()
        same('calls of malloc', calls.malloc.length, 1)
        same('calls of free', calls.free.length, 0)
        addMapping(world, memory, start, request, {
          real,
          block: { calls, pointer, throws: args.throws }
        })
      },
      failed: ({ code }) => {
        afterwards()
        // What was a block is given back.
        const isBlock = !['ERR_HOSTMAP_ALLOCATOR_FAILED', 'TEST_MALLOC'].includes(code)
        const given = calls.malloc.length > 0 && isAddress && isBlock
        same('calls of free', calls.free.length, given ? 1 : 0)
      }
    }
  }
)

const mappingOf = (memory, which, thread) =>
  choose(
    memory.model.mappings.filter(
      mapping =>
        !mapping.adopted && mapping.thread === thread && (thread !== 'main' || mapping.real)
    ),
    which
  )

step('unmap', 12, { memory: pick, mapping: pick, dispose: flag, again: flag }, (world, args) => {
  const memory = choose(world.memories, args.memory)
  const mapping = memory && mappingOf(memory, args.mapping, 'main')
  if (!mapping) return null
  const { real, block } = mapping
  const codes = memoryCodes(memory)
  const throws = codes.length === 0 && block?.throws
  const unmapped = () => {
    if (mapping.shown) mapping.shown.region = null
    world.protect(memory)
    memory.model.unmap(mapping)
    same('unmapped', real.unmapped, true)
    world.compareCounts(mapping, real, mapping.tally)
    if (block) same('what free got', String(block.calls.free), String([block.pointer]))
    if (args.again) real.unmap()
    if (block) same('calls of free', block.calls.free.length, 1)
  }
  return {
    text: `unmap ${mapping.name}`,
    documented: 'unmap',
    memory,
    codes: throws ? [] : codes,
    maybe: throws ? ['TEST_FREE'] : [],
    call: () => (args.dispose ? real[Symbol.dispose]() : real.unmap()),
    done: () => {
      same('free threw', Boolean(throws), false)
      unmapped()
    },
    failed: ({ code }) => {
      // The mapping is gone when `free` is called.
      if (code === 'TEST_FREE') unmapped()
      else same('unmapped', real.unmapped, false)
    }
  }
})

step('forget a mapping', 2, { memory: pick, mapping: pick }, (world, args) => {
  const memory = choose(world.memories, args.memory)
  const mapping = memory && mappingOf(memory, args.mapping, 'main')
  if (!mapping) return null
  return { text: `forget ${mapping.name}`, run: () => void (mapping.real = null) }
})

// Faults that found no data: told of until somebody takes note of them.

const FAULTED = 'ERR_HOSTMAP_FAULTED'

/** Those of a mapping that nobody took note of before it was unmapped are the memory's. */
const faultsIn = ({ model }) =>
  model.unseenFaults +
  model.mappings.reduce((sum, { tally }) => sum + tally.faults - tally.acknowledged, 0)

step('check faults', 6, { memory: pick }, (world, args) => {
  const memory = choose(world.memories, args.memory)
  if (!memory) return null
  return {
    text: `check faults of ${memory.name}`,
    documented: 'faults',
    codes: faultsIn(memory) > 0 ? [FAULTED] : [],
    call: () => memory.guarded.checkFaults()
  }
})

step('acknowledge faults', 3, { memory: pick }, (world, args) => {
  const memory = choose(world.memories, args.memory)
  if (!memory) return null
  const { model } = memory
  return {
    text: `acknowledge faults of ${memory.name}`,
    documented: 'faults',
    call: () => memory.guarded.acknowledgeFaults(),
    done: count => {
      same('faults acknowledged', count, faultsIn(memory))
      model.unseenFaults = 0
      for (const { tally } of model.mappings) tally.acknowledge()
    }
  }
})

step(
  'faults of one',
  8,
  { memory: pick, mapping: pick, region: flag, acknowledge: flag },
  (world, args) => {
    const memory = choose(world.memories, args.memory)
    const of = args.region
      ? choose(world.regions, args.mapping)
      : memory && mappingOf(memory, args.mapping, 'main')
    if (!of?.real) return null
    const { real, tally, name } = of
    return {
      text: `${args.acknowledge ? 'acknowledge' : 'check'} faults of ${name}`,
      documented: 'faults',
      codes: !args.acknowledge && tally.isFaulted ? [FAULTED] : [],
      call: () => (args.acknowledge ? real.acknowledgeFaults() : real.checkFaults()),
      done: count => {
        if (args.acknowledge) same('faults acknowledged', count, tally.acknowledge())
      }
    }
  }
)

module.exports = {
  FAULTED,
  steps,
  ACCESS,
  mapArguments,
  requestOf,
  addMapping,
  at,
  addressOf,
  addressCodes,
  canMap,
  mappingOf,
  showRequest
}
