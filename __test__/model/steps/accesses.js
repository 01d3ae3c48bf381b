'use strict'

// Reading and writing: by the module, by JavaScript and by system calls.

const fs = require('node:fs')
const fc = require('fast-check')
const { noise } = require('../../support/files')
const { WASM, SCRIPT, ACCESSES, perform, toValue } = require('../accesses')
const { FILE, PAST_END, readView, writeView } = require('../model')
const { PAGE, Difference, hasGuard, same } = require('../world')
const {
  newSteps,
  MOST_BYTES,
  pick,
  flag,
  place,
  longLength,
  value,
  choose
} = require('./arguments')

const { steps, step } = newSteps()

/** A place in a memory, from an argument. */
function placeIn({ model }, { anchor, which, page, delta }) {
  const mapping = choose(model.mappings, which)
  const bases = {
    mapping: () => mapping && mapping.start + (page % mapping.window.pages) * PAGE,
    'end of mapping': () => mapping?.end,
    'end of file': () =>
      mapping && mapping.start + mapping.window.backing.size - mapping.window.offset,
    'end of what is shown': () =>
      mapping && mapping.start + (mapping.window.shownPages ?? 0) * PAGE,
    'end of memory': () => model.byteLength,
    anywhere: () => page * 64
  }
  return Math.max(0, (bases[anchor]() ?? 0) + delta)
}

const isMissing = ({ window, index }) => window.isUnreadable(index)
const refuses = part => isMissing(part) || (part.write && part.window.isProtected(part.index))

/**
 * Whether a store that traps at its other half may have made a copy of this page: that, too, the
 * processor decides.
 */
const mayBeCopied = part =>
  part.write &&
  !refuses(part) &&
  part.window.sharing !== 'shared' &&
  part.window.state[part.index] === FILE

/** The pages of windows that these ranges touch. */
function partsOf(space, ranges, write, either = false) {
  return ranges.flatMap(([at, length]) =>
    Array.from(space.parts(at, length), part => ({ ...part, write, either }))
  )
}

/** Whether a copy may start with its last byte: where it overlaps what is copied. */
const movesBackwards = ({ from, at, length }) => from < at && at < from + length

/**
 * Whether it is left open which bytes will be there: neither the kernel nor C's memmove promises
 * anything then.
 */
function isUndefined(parts) {
  if (parts.some(({ window, index, last, write }) => write && window.writesPastEnd(index, last)))
    return true
  // One page of a file at two addresses, written at one: which is accessed first shows.
  const shown = parts.filter(({ window, index }) => window.state[index] === FILE)
  const fileOffset = ({ window, index }) => window.offset + index * PAGE
  const isSame = (a, b) => a.window === b.window && a.index === b.index
  return shown.some(
    to =>
      to.write &&
      to.window.sharing === 'shared' &&
      shown.some(
        from =>
          from.window.backing === to.window.backing &&
          fileOffset(from) === fileOffset(to) &&
          !isSame(from, to)
      )
  )
}

/**
 * The plan of an access by Wasm or JavaScript.
 *
 * @param space the model's memory, or a view as one
 * @param act does the access and gives what accesses.perform gives
 */
function accessPlan(space, name, access, act) {
  const spec = ACCESSES[access.name]
  const reads = spec.reads?.(access) ?? []
  const writes = spec.writes?.(access) ?? []
  const outside = [...reads, ...writes].some(([at, length]) => at + length > space.byteLength)
  if (outside && spec.script && !spec.outside) return null
  const inside = ([at, length]) => [at, Math.max(0, Math.min(length, space.byteLength - at))]
  // Half outside, and half on a page that refuses it: which of the two is met first, the processor
  // decides.
  if (
    outside &&
    spec.how !== 'native' &&
    [...partsOf(space, reads.map(inside), false), ...partsOf(space, writes.map(inside), true)].some(
      refuses
    )
  ) {
    return null
  }
  const parts = outside
    ? []
    : [...partsOf(space, reads, false), ...partsOf(space, writes, true, spec.either)]
  // A copy onto itself may touch nothing.
  if (isUndefined(parts) || access.from === access.at) return null
  // Over the memory's end, beginning in a page that refuses it: which of the two is met first, the
  // processor decides.
  const cut = ranges => ranges.map(([at, length]) => [at, Math.min(length, space.byteLength - at)])
  const begun = ranges => cut(ranges).filter(([, length]) => length > 0)
  if (outside && spec.how === 'plain') {
    const inside = [
      ...partsOf(space, begun(reads), false),
      ...partsOf(space, begun(writes), true, spec.either)
    ]
    if (inside.some(refuses) || inside.some(mayBeCopied)) return null
  }
  const refused = parts.filter(refuses)
  if (spec.how === 'plain' && refused.length > 0 && parts.some(mayBeCopied)) return null
  const [first, ...others] = refused
  if (!hasGuard && refused.length > 0 && (spec.how !== 'plain' || refused.some(isMissing)))
    return null
  // Which of two pages is met first, the processor decides.
  if (spec.how !== 'native' && others.some(other => isMissing(other) || isMissing(first)))
    return null
  if (spec.how !== 'native' && others.some(({ window }) => window !== first.window)) return null
  // Read or write first: it shows in what is counted.
  if (refused.some(part => part.either && isMissing(part) && part.window.isProtected(part.index)))
    return null
  if (
    movesBackwards(access) &&
    refused.some(({ window }) => refused.length > window.strayPagesLeft)
  )
    return null
  const outOfBounds = !spec.script && (outside || Boolean(spec.traps?.(access)))
  if (spec.needsOld) {
    if (refused.some(isMissing)) return null
    access.old = outOfBounds ? 0n : toValue(space.read(access.at, spec.needsOld))
  }
  const mayTrap = outOfBounds || (spec.how !== 'native' && refused.length > 0)
  const mustTrap = mayTrap && (outOfBounds || spec.how === 'plain')
  return {
    text: `${access.name} ${show(access)} of ${name}`,
    run: async () => {
      const { error, trap, value } = await act(access)
      if (error) throw new Difference(`${access.name}: ${error.stack}`)
      if (trap === undefined ? mustTrap : !mayTrap) {
        throw new Difference(
          `${access.name} ${trap === undefined ? 'did not trap' : `trapped: ${trap}`}`
        )
      }
      if (trap !== undefined) {
        if (!outOfBounds) tellTrap(first, others)
      } else if (outside) same(`${access.name} outside`, value, undefined)
      else {
        // Which page of a rest is met first, and opens all of it, shows in what is told of the
        // fault.
        const hidden = parts.filter(({ window, index }) => window.isHidden?.(index))
        for (const part of parts) part.window.touch(part)
        for (const part of hidden) part.window.note({ ...part, ...PAST_END })
        same(`${access.name} gives`, value, spec.effect(access, space))
      }
      const outcome =
        trap !== undefined ? 'trapped' : refused.length > 0 ? 'replaced pages' : 'done'
      return `${kindOf(access.name)}: ${outcome}`
    }
  }
}

function tellTrap(first, others) {
  const { window } = first
  window.trap(first)
  // The same store, had the processor taken its other half first.
  for (const { index, first, last } of others) {
    window.note({ index, first, last, write: true, cause: 'readonly', outcome: 'trap' })
  }
}

const show = ({ at, length, from, value }) =>
  [
    `at ${at}`,
    length !== undefined && `length ${length}`,
    from !== undefined && `from ${from}`,
    `value ${value}`
  ]
    .filter(Boolean)
    .join(', ')

const kindOf = name => {
  const { script, align, how, writes } = ACCESSES[name]
  return script
    ? 'script'
    : align
      ? 'wasm atomic'
      : how === 'native'
        ? 'wasm bulk'
        : writes
          ? 'wasm store'
          : 'wasm load'
}

function planAccess(world, args) {
  const memory = choose(world.memories, args.memory)
  if (!memory) return null
  const spec = ACCESSES[args.name]
  if (args.name === 'storeConstant' && !memory.holdsConstant) return null
  const access = { name: args.name, at: placeIn(memory, args.place), value: args.value }
  if (spec.align && (args.aligned || spec.script)) access.at -= access.at % spec.align
  if (spec.long || spec.most) access.length = Math.min(args.length, spec.most ?? Infinity)
  if (spec.long && spec.reads && spec.writes) access.from = placeIn(memory, args.from)
  // JavaScript of this thread writes where it can.
  if (spec.long && spec.script)
    access.length = Math.min(access.length, memory.model.byteLength - access.at)
  if (access.length < 0) return null
  const inThread = args.thread && memory.onThread
  return accessPlan(
    memory.model,
    `${memory.name}${inThread ? ' in the worker' : ''}`,
    access,
    access =>
      inThread
        ? world.thread.do('access', { id: memory.id, access })
        : perform(memory.guest, access)
  )
}

const namesOf = (table, test) => Object.keys(table).filter(name => test(table[name]))
const accessArguments = names => ({
  memory: pick,
  name: fc.constantFrom(...names),
  place,
  from: place,
  length: longLength,
  value,
  aligned: flag,
  thread: flag
})

const isPlain = ({ how, align }) => how !== 'native' && !align
step(
  'wasm load',
  12,
  accessArguments(namesOf(WASM, spec => isPlain(spec) && !spec.writes)),
  planAccess
)
step(
  'wasm store',
  16,
  accessArguments(namesOf(WASM, spec => isPlain(spec) && spec.writes)),
  planAccess
)
step('wasm bulk', 12, accessArguments(namesOf(WASM, ({ long, most }) => long || most)), planAccess)
step('wasm atomic', 8, accessArguments(namesOf(WASM, ({ align }) => align)), planAccess)
step('script', 14, accessArguments(Object.keys(SCRIPT)), planAccess)

const viewArguments = {
  view: pick,
  name: fc.constantFrom(...Object.keys(SCRIPT)),
  at: pick,
  from: pick,
  length: longLength,
  value
}

step('script on a view', 14, viewArguments, (world, args) => {
  const view = choose(world.views, args.view)
  if (!view) return null
  const spec = SCRIPT[args.name]
  const { model } = view
  const most = model.byteLength
  const access = { name: args.name, at: args.at % most, value: args.value }
  if (spec.align) access.at -= access.at % spec.align
  if (spec.long) access.length = Math.min(args.length, most - access.at)
  if (spec.long && spec.reads && spec.writes) {
    access.from = args.from % most
    access.length = Math.min(access.length, most - access.from)
  }
  // The view of any byte offset starts where no number of 64 bits does.
  if (spec.align && (view.bytes.byteOffset % spec.align !== 0 || access.at + spec.size > most))
    return null
  const space = {
    byteLength: most,
    parts: (at, length) => model.parts(at, length),
    read: (at, length) => readView(model, at, length),
    write: (at, bytes) => writeView(model, at, bytes)
  }
  return accessPlan(space, `a view of ${view.region.name}`, access, access => perform(view, access))
})

// System calls, which get no signal but an error. Their other end is a file that nobody maps.

const source = noise(MOST_BYTES, 7)

const syscallArguments = { memory: pick, place, length: longLength, at: pick }

/**
 * The range, or null where only its later pages refuse: how much the kernel has done by then, it
 * does not promise.
 */
function syscallRange(world, args, write) {
  const memory = choose(world.memories, args.memory)
  if (!memory) return null
  const { model } = memory
  const at = Math.min(placeIn(memory, args.place), model.byteLength)
  const length = Math.min(args.length, model.byteLength - at)
  if (length === 0) return null
  const parts = partsOf(model, [[at, length]], write)
  if (isUndefined(parts)) return null
  const refused = parts.filter(refuses)
  if (
    refused.length > 0 &&
    (refused[0] !== parts[0] || model.mappingAt(at)?.window !== parts[0].window)
  )
    return null
  return { memory, model, at, length, parts, fails: refused.length > 0 }
}

const codeOf = call => {
  try {
    return call()
  } catch ({ code }) {
    return code
  }
}

step('read a file into memory', 5, syscallArguments, (world, args) => {
  const range = syscallRange(world, args, true)
  if (!range) return null
  const { memory, model, at, length, parts, fails } = range
  const from = args.at % source.length
  const count = Math.min(length, source.length - from)
  if (count < length) return null
  return {
    text: `fs.readSync of ${length} bytes to ${at} of ${memory.name}`,
    run: () => {
      const read = codeOf(() =>
        fs.readSync(world.sourceFile(source), memory.guest.bytes, at, length, from)
      )
      same('fs.readSync', read, fails ? 'EFAULT' : count)
      if (fails) return 'read a file into memory: EFAULT'
      for (const part of parts) part.window.touch(part)
      model.write(at, source.subarray(from, from + count))
    }
  }
})

step('write memory to a file', 3, syscallArguments, (world, args) => {
  const range = syscallRange(world, args, false)
  if (!range) return null
  const { memory, model, at, length, fails } = range
  return {
    text: `fs.writeSync of ${length} bytes at ${at} of ${memory.name}`,
    run: () => {
      const file = world.sinkFile()
      const written = codeOf(() => fs.writeSync(file, memory.guest.bytes, at, length, 0))
      same('fs.writeSync', written, fails ? 'EFAULT' : length)
      if (fails) return 'write memory to a file: EFAULT'
      const bytes = Buffer.alloc(length)
      fs.readSync(file, bytes, 0, length, 0)
      same('bytes written', bytes.equals(model.read(at, length)), true)
    }
  }
})

module.exports = { steps, placeIn, partsOf }
