'use strict'

// Windows, which slide over regions, and sources, which slide them.

const fc = require('fast-check')
const { Tally, Sliding } = require('../model')
const { PAGE, Difference, same } = require('../world')
const {
  newSteps,
  wrong,
  rarely,
  sometimes,
  pick,
  flag,
  number,
  choose,
  numberFrom,
  numberCodes
} = require('./arguments')
const { memoryCodes } = require('./memories')
const { pastEnd } = require('./past-end')
const { ACCESS, FAULTED, at, addressOf, addressCodes, canMap } = require('./mappings')

const { steps, step } = newSteps()

const MOST_WINDOW_PAGES = 12
const MOST_SOURCES = 3

const windowArguments = {
  memory: pick,
  pages: fc.integer({ min: 1, max: MOST_WINDOW_PAGES }),
  odd: flag,
  access: fc.nat(2),
  zeros: flag,
  strict: flag,
  wrong: sometimes(fc.constantFrom('byteLength', 'access', 'rest'), 40),
  wrongLength: wrong
}

function windowRequest(args) {
  const byteLength =
    args.wrong === 'byteLength'
      ? args.wrongLength
      : args.pages * PAGE - (args.odd && args.pages > 1 ? 5 : 0)
  const codes = numberCodes(byteLength, PAGE, Number.MAX_SAFE_INTEGER)
  const { strict } = args
  const options = {
    byteLength,
    access: ACCESS[args.access],
    rest: args.zeros ? 'zeros' : 'trap',
    strict
  }
  if (args.wrong === 'access') options.access = 'readwrite'
  if (args.wrong === 'rest') options.rest = 'ones'
  if (args.wrong === 'access' || args.wrong === 'rest') codes.push('ERR_INVALID_ARG_VALUE')
  return { options, codes, bytes: args.pages * PAGE }
}

function addWindow(world, memory, start, { options, bytes }, real) {
  const { access, rest, strict } = options
  const tally = new Tally()
  const window = new Sliding(PAGE, bytes, access, rest, tally)
  const mapping = {
    id: world.newMappingId(),
    start,
    end: start + bytes,
    window,
    tally,
    access,
    strict,
    regionRef: null,
    byteOffset: 0,
    real,
    thread: 'main',
    shown: { region: null, byteOffset: 0, byteLength: 0 },
    sources: []
  }
  mapping.name = `window ${mapping.id} (${access}, ${rest}) at ${start} of ${memory.name}`
  window.region = mapping
  memory.model.map(mapping)
  world.protect(memory)
  world.windows.push(window)
  same('address', real.address, start)
  same('pointer', real.pointer, memory.guest.pointer(start))
  same('byteLength', real.byteLength, bytes)
  same('access', real.access, access)
  same('rest', real.rest, rest)
  same('strict', real.strict, strict)
  same('memory', real.memory, memory.guarded)
  same('unmapped', real.unmapped, false)
}

const showWindow = ({ byteLength, access, rest, strict }) =>
  `${String(byteLength)} bytes, ${access}, ${rest}, strict ${strict}`

step('open a window at', 8, { ...windowArguments, at }, (world, args) => {
  const memory = choose(world.memories, args.memory)
  if (!canMap(memory)) return null
  const request = windowRequest(args)
  const address = addressOf(memory, request.bytes, args.at)
  return {
    text: `open a window at ${String(address)} of ${memory.name}, ${showWindow(request.options)}`,
    documented: 'window',
    memory,
    codes: [
      ...request.codes,
      ...memoryCodes(memory),
      ...addressCodes(memory, address, request.bytes)
    ],
    call: () => memory.guarded.window({ ...request.options, at: address }),
    done: real => addWindow(world, memory, Number(address), request, real)
  }
})

step('open a window past the end', 4, windowArguments, (world, args) => {
  const memory = choose(world.memories, args.memory)
  if (!canMap(memory)) return null
  const request = windowRequest(args)
  const place = pastEnd(memory, request.bytes, request.codes)
  if (place === null) return null
  return {
    text: `open a window past the end of ${memory.name}, ${showWindow(request.options)}`,
    documented: 'window',
    memory,
    codes: place.codes,
    call: () => memory.guarded.window(request.options),
    done: real => {
      place.placed(real.address)
      addWindow(world, memory, real.address, request, real)
    },
    failed: () => place.failed()
  }
})

const windowOf = (memory, which) =>
  choose(
    memory.model.mappings.filter(({ shown, real }) => shown && real),
    which
  )

/** A strict window whose faults nobody has taken note of goes no further. */
const strictCodes = ({ strict, tally }) => (strict && tally.isFaulted ? [FAULTED] : [])

/** What is wrong with showing a region with this access, whatever part of it. */
function showCodes(memory, mapping, region, access) {
  const codes = [...memoryCodes(memory), ...strictCodes(mapping)]
  if (region.closed) codes.push('ERR_HOSTMAP_REGION_CLOSED')
  const { most } = mapping.window
  if (access !== most && access !== 'readonly' && most !== 'shared')
    codes.push('ERR_INVALID_ARG_VALUE')
  if (access === 'shared' && !(region.opened && !region.backing.sealed))
    codes.push('ERR_HOSTMAP_REGION_READONLY')
  return codes
}

/**
 * A growth that the library is not told of: whether a slide asks the kernel depends on the time
 * since the last one.
 */
function protectAtSlide(world, memory) {
  if (memory.hidden && memory.shared) world.resync(memory)
  else world.protect(memory)
}

/** Tells the model what the window shows now. */
function show(mapping, region, byteOffset, byteLength, access) {
  const start = byteOffset - (byteOffset % PAGE)
  mapping.window.slide({
    region,
    backing: region.backing,
    offset: region.offset + start,
    shownPages: Math.ceil((byteOffset - start + byteLength) / PAGE),
    sharing: access
  })
  Object.assign(mapping, { access, regionRef: region.ref, byteOffset: start })
  mapping.shown = { region, byteOffset, byteLength }
}

function showNothing(mapping) {
  mapping.window.slide({ region: null })
  Object.assign(mapping, {
    regionRef: null,
    byteOffset: 0,
    shown: { region: null, byteOffset: 0, byteLength: 0 }
  })
}

/**
 * Tells it the outcome of a slide to so many pages that failed in a system call: it shows what it
 * did, or the beginning of it.
 */
function checkRefused(world, memory, mapping, asked) {
  if (memory.detached) return
  const { window, start, name, shown } = mapping
  const { windowBytes } = memory.guarded.layout().ranges.find(range => range.start === start)
  world.protect(memory)
  const before = window.shownPages
  const now = windowBytes / PAGE
  if (now !== before && now !== Math.min(asked, before)) {
    throw new Difference(
      `${name} shows ${now} pages after a slide from ${before} to ${asked} that failed`
    )
  }
  // Whether a rest that can be written was put anew shows only in what is there.
  const rest = start + now * PAGE
  const isKept = () => {
    const seen = memory.guest.bytes.subarray(rest, start + window.length)
    return seen.equals(memory.model.read(rest, seen.length))
  }
  if (now !== before || (window.restIsWritable && !isKept())) window.layRest(now)
  // What is left starts where it did.
  if (now > 0) shown.byteLength = Math.min(shown.byteLength, now * PAGE - (shown.byteOffset % PAGE))
  else if (before > 0) showNothing(mapping)
}

const slideArguments = {
  memory: pick,
  mapping: pick,
  region: pick,
  offset: number,
  length: number,
  access: fc.option(fc.nat(2), { nil: undefined }),
  wrong: sometimes(fc.constantFrom('access', 'region', 'options'), 40)
}

step('slide', 24, slideArguments, (world, args) => {
  const memory = choose(world.memories, args.memory)
  const mapping = memory && windowOf(memory, args.mapping)
  const region = choose(world.regions, args.region)
  if (!mapping || !region?.real) return null
  const { window, real, start } = mapping
  const byteOffset = numberFrom(args.offset, region.byteLength, sane => sane % region.byteLength)
  const codes = byteOffset === undefined ? [] : numberCodes(byteOffset, 0, region.byteLength - 1)
  const from = codes.length > 0 || byteOffset === undefined ? 0 : byteOffset
  const most = Math.min(window.length - (from % PAGE), region.byteLength - from)
  const byteLength = numberFrom(args.length, most, sane => 1 + (sane % most))
  if (byteLength !== undefined) codes.push(...numberCodes(byteLength, 1, most))
  const given = args.access === undefined ? undefined : ACCESS[args.access]
  const access = given ?? window.most
  codes.push(...showCodes(memory, mapping, region, access))
  if (args.wrong)
    codes.push(args.wrong === 'access' ? 'ERR_INVALID_ARG_VALUE' : 'ERR_INVALID_ARG_TYPE')
  const options = { byteLength, access: args.wrong === 'access' ? 'readwrite' : given }
  const length = byteLength ?? most
  const shownRegion = args.wrong === 'region' ? { byteLength: region.byteLength } : region.real
  return {
    text: `slide ${mapping.name} to ${String(byteOffset)} of ${region.name}, ${String(byteLength)} bytes, ${given}`,
    documented: 'slide',
    memory,
    codes,
    call: () => real.slide(shownRegion, byteOffset, args.wrong === 'options' ? [] : options),
    done: answer => {
      protectAtSlide(world, memory)
      show(mapping, region, from, length, access)
      const address = start + (from % PAGE)
      same('address shown', answer.address, address)
      same('pointer shown', answer.pointer, memory.guest.pointer(address))
      same('bytes shown', answer.byteLength, length)
    },
    failed: (error, wentOff) => {
      if (wentOff) checkRefused(world, memory, mapping, Math.ceil(((from % PAGE) + length) / PAGE))
    }
  }
})

step('slide to nothing', 3, { memory: pick, mapping: pick }, (world, args) => {
  const memory = choose(world.memories, args.memory)
  const mapping = memory && windowOf(memory, args.mapping)
  if (!mapping) return null
  return {
    text: `slide ${mapping.name} to nothing`,
    documented: 'slide',
    memory,
    codes: [...memoryCodes(memory), ...strictCodes(mapping)],
    call: () => mapping.real.slide(null),
    done: answer => {
      protectAtSlide(world, memory)
      showNothing(mapping)
      same('address shown', answer.address, mapping.start)
      same('bytes shown', answer.byteLength, 0)
    },
    failed: (error, wentOff) => {
      if (wentOff) checkRefused(world, memory, mapping, 0)
    }
  }
})

const sourceArguments = {
  memory: pick,
  mapping: pick,
  region: pick,
  access: fc.option(fc.nat(2), { nil: undefined }),
  chunk: fc.option(pick, { nil: undefined }),
  overlap: fc.oneof(fc.constant(undefined), fc.nat(20), pick),
  byteOffset: fc.option(pick, { nil: undefined }),
  byteLength: fc.option(pick, { nil: undefined }),
  readAhead: flag,
  leaveBehind: flag
}

/**
 * As many bytes as fit wherever a chunk starts in its page, in whole pages where there is room for
 * some.
 */
function defaultChunk(length, overlap, from) {
  const mod = at => ((at % PAGE) + PAGE) % PAGE
  const room = length - overlap - Math.max(mod(from), mod(from - overlap))
  return Math.max(1, room >= PAGE ? Math.floor(room / PAGE) * PAGE : room)
}

step('make a source', 16, sourceArguments, (world, args) => {
  const memory = choose(world.memories, args.memory)
  const mapping = memory && windowOf(memory, args.mapping)
  const region = choose(world.regions, args.region)
  if (!mapping || !region?.real || mapping.sources.length >= MOST_SOURCES) return null
  const { window, real } = mapping
  const given = args.access === undefined ? undefined : ACCESS[args.access]
  const access = given ?? window.most
  const overlap = args.overlap === undefined ? undefined : args.overlap % (window.length - PAGE + 1)
  const most = window.length - (overlap ?? 0)
  const chunk = args.chunk === undefined ? undefined : 1 + (args.chunk % most)
  const byteOffset =
    args.byteOffset === undefined ? undefined : args.byteOffset % (region.byteLength + 1)
  const start = byteOffset ?? 0
  const rest = region.byteLength - start
  const byteLength = args.byteLength === undefined ? undefined : args.byteLength % (rest + 1)
  const { readAhead, leaveBehind } = args
  const options = { access: given, chunk, overlap, byteOffset, byteLength, readAhead, leaveBehind }
  const codes = strictCodes(mapping)
  if (region.closed) codes.push('ERR_HOSTMAP_REGION_CLOSED')
  if (access !== window.most && access !== 'readonly' && window.most !== 'shared')
    codes.push('ERR_INVALID_ARG_VALUE')
  return {
    text: `make a source of ${region.name} for ${mapping.name}, ${JSON.stringify(options)}`,
    documented: 'layout',
    codes,
    call: () => real.source(region.real, options),
    done: source => {
      mapping.sources.push({
        real: source,
        region,
        access,
        from: start,
        to: start + (byteLength ?? rest),
        overlap: overlap ?? 0,
        chunk: chunk ?? defaultChunk(window.length, overlap ?? 0, start),
        position: start,
        start,
        pointer: real.pointer
      })
      same('region', source.region, region.real)
      same('window', source.window, real)
    }
  }
})

const sourceOf = (memory, { mapping: whichWindow, source }) => {
  const mapping = memory && windowOf(memory, whichWindow)
  return { mapping, source: mapping && choose(mapping.sources, source) }
}

const nextArguments = {
  memory: pick,
  mapping: pick,
  source: pick,
  keep: fc.option(fc.nat(3 * PAGE), { nil: undefined }),
  byModule: flag
}

step('next', 24, nextArguments, (world, args) => {
  const memory = choose(world.memories, args.memory)
  const { mapping, source } = sourceOf(memory, args)
  if (!source) return null
  const { region, access, chunk, to, position } = source
  const { guest } = memory
  const kept = args.keep ?? source.overlap
  const start = Math.max(position - kept, source.start)
  const room = mapping.window.length - (start % PAGE) - (position - start)
  const isEnd = position >= to
  const codes = isEnd ? strictCodes(mapping) : showCodes(memory, mapping, region, access)
  if (!isEnd && room < 1) codes.push('ERR_OUT_OF_RANGE')
  const end = position + Math.min(chunk, to - position, room)
  const keep = args.keep === undefined ? undefined : guest.pointer(args.keep)
  return {
    text: `next(${args.keep}) of ${region.name} for ${mapping.name}`,
    documented: 'slide',
    memory,
    codes,
    call: () => (args.byModule ? source.real.imports.next(keep) : source.real.next(keep)),
    done: shown => {
      same('bytes shown', shown, guest.pointer(isEnd ? 0 : end - start))
      if (isEnd) return
      protectAtSlide(world, memory)
      show(mapping, region, start, end - start, access)
      Object.assign(source, {
        position: end,
        start,
        pointer: guest.pointer(mapping.start + (start % PAGE))
      })
      same('pointer for the module', source.real.imports.pointer(), source.pointer)
    },
    failed: (error, wentOff) => {
      if (wentOff)
        checkRefused(world, memory, mapping, Math.ceil(((start % PAGE) + end - start) / PAGE))
    }
  }
})

step(
  'seek',
  3,
  { memory: pick, mapping: pick, source: pick, to: number, rewind: rarely },
  (world, args) => {
    const memory = choose(world.memories, args.memory)
    const { mapping, source } = sourceOf(memory, args)
    if (!source) return null
    const { from, to } = source
    const place = args.rewind
      ? from
      : numberFrom(args.to, to, sane => from + (sane % (to - from + 1)))
    return {
      text: `${args.rewind ? 'rewind' : `seek(${String(place)})`} a source for ${mapping.name}`,
      documented: 'layout',
      codes: args.rewind ? [] : numberCodes(place, from, to),
      call: () => (args.rewind ? source.real.rewind() : source.real.seek(place)),
      done: () =>
        Object.assign(source, { position: place, start: place, pointer: mapping.real.pointer })
    }
  }
)

module.exports = { steps }
