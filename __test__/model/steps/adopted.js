'use strict'

// Buffers that memories take over, and give back.

const fc = require('fast-check')
const { noise } = require('../../support/files')
const { roundUp, AdoptedPages, Tally } = require('../model')
const { PAGE, native, same } = require('../world')
const { newSteps, pick, flag, choose } = require('./arguments')
const { at, addressOf, addressCodes, canMap } = require('./mappings')
const { memoryCodes } = require('./memories')
const { pastEnd } = require('./past-end')

const { steps, step } = newSteps()

/** Below that nothing is moved. */
const LEAST_MOVED_BYTES = 64 * 1024

const lengths = fc.oneof(fc.nat(3 * PAGE), fc.nat(70_000), fc.nat(200_000), fc.nat(400_000))
const adoptArguments = { memory: pick, length: lengths, seed: fc.nat(1000), never: flag }

/** Where malloc puts the bytes of a mapping of its own (glibc: two words into it). */
const OWN_MAPPING_SKEW = 16

/** A buffer to adopt, and what is wrong with it. */
function requestOf({ length, seed, never }) {
  const buffer = new ArrayBuffer(length)
  const bytes = noise(length, seed)
  Buffer.from(buffer).set(bytes)
  const codes = length === 0 ? ['ERR_OUT_OF_RANGE'] : []
  const skew = length === 0 ? 0 : native.skewOf(new Uint8Array(buffer))
  const inner = skew + length - ((skew + length) % PAGE) - PAGE
  const isRefused = length > 0 && never && inner < LEAST_MOVED_BYTES
  if (isRefused) codes.push('ERR_HOSTMAP_BUFFER_NOT_MOVABLE')
  // In malloc's heap, what has been moved out and back before may have cut the mapping.
  const maybe = never && skew !== OWN_MAPPING_SKEW ? ['ERR_HOSTMAP_BUFFER_NOT_MOVABLE'] : []
  return { buffer, bytes, skew, codes, maybe, never, pages: roundUp(skew + length, PAGE) }
}

const optionsOf = ({ never }) => (never ? { copy: 'never' } : {})
const showRequest = ({ bytes, skew, never }) =>
  `${bytes.length} bytes, ${skew} into a page${never ? ', never copied' : ''}`

/** What a call that failed has left of the buffer. */
const isAsBefore = ({ buffer, bytes }) =>
  same('the buffer is as it was', Buffer.from(buffer).equals(bytes), true)

function addAdopted(world, memory, real, request) {
  const { buffer, bytes, skew, pages } = request
  const start = real.address - skew
  const window = new AdoptedPages(PAGE, skew, bytes)
  const mapping = {
    id: world.newMappingId(),
    start,
    end: start + pages,
    window,
    tally: new Tally(),
    access: 'private',
    region: null,
    regionRef: null,
    byteOffset: 0,
    real,
    thread: 'main',
    adopted: { skew, byteLength: bytes.length }
  }
  mapping.name = `adopted buffer ${mapping.id} at ${start} of ${memory.name}`
  memory.model.map(mapping)
  world.protect(memory)
  same('the buffer is detached', buffer.byteLength, 0)
  same('pointer', real.pointer, memory.guest.pointer(start + skew))
  same('byteLength', real.byteLength, bytes.length)
  same('memory', real.memory, memory.guarded)
  if (request.never) same('whyCopied', real.whyCopied, null)
  if (real.whyCopied !== null) same('copiedBytes', real.copiedBytes, bytes.length)
}

step('adopt at', 6, { ...adoptArguments, at }, (world, args) => {
  const memory = choose(world.memories, args.memory)
  if (!canMap(memory)) return null
  const request = requestOf(args)
  const address = addressOf(memory, request.pages, args.at)
  const codes = [
    ...request.codes,
    ...memoryCodes(memory),
    ...addressCodes(memory, address, request.pages)
  ]
  return {
    text: `adopt at ${String(address)} of ${memory.name}: ${showRequest(request)}`,
    documented: 'adopt',
    memory,
    codes,
    maybe: request.maybe,
    call: () => memory.guarded.adopt(request.buffer, { at: address, ...optionsOf(request) }),
    done: real => {
      same('start', real.address - request.skew, Number(address))
      addAdopted(world, memory, real, request)
    },
    failed: () => isAsBefore(request)
  }
})

step('adopt past the end', 4, adoptArguments, (world, args) => {
  const memory = choose(world.memories, args.memory)
  if (!canMap(memory)) return null
  const request = requestOf(args)
  const place = pastEnd(memory, request.pages, request.codes)
  if (place === null) return null
  return {
    text: `adopt past the end of ${memory.name}: ${showRequest(request)}`,
    documented: 'adopt',
    memory,
    codes: place.codes,
    maybe: request.maybe,
    call: () => memory.guarded.adopt(request.buffer, optionsOf(request)),
    done: real => {
      place.placed(real.address - request.skew)
      addAdopted(world, memory, real, request)
    },
    failed: () => {
      isAsBefore(request)
      place.failed()
    }
  }
})

const adoptedOf = (memory, which) =>
  choose(
    memory.model.mappings.filter(mapping => mapping.adopted && mapping.real),
    which
  )

step('release', 6, { memory: pick, mapping: pick, unmap: flag }, (world, args) => {
  const memory = choose(world.memories, args.memory)
  const mapping = memory && adoptedOf(memory, args.mapping)
  if (!mapping) return null
  const { real, start, adopted } = mapping
  return {
    text: `${args.unmap ? 'unmap' : 'release'} ${mapping.name}`,
    documented: args.unmap ? 'unmap' : 'adopt',
    memory,
    codes: memoryCodes(memory),
    call: () => (args.unmap ? real.unmap() : real.release()),
    done: back => {
      const { skew, byteLength } = adopted
      const bytes = memory.model.read(start + skew, byteLength)
      if (!args.unmap) same('what came back', Buffer.from(back).equals(bytes), true)
      world.protect(memory)
      memory.model.unmap(mapping)
      same('unmapped', real.unmapped, true)
    },
    failed: () => same('unmapped', real.unmapped, false)
  }
})

module.exports = { steps }
