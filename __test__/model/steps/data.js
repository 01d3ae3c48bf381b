'use strict'

// What goes into regions: bytes at an offset, and regions made of what a source gives.

const fc = require('fast-check')
const { noise } = require('../../support/files')
const { countOpen, mappingsNamed } = require('../../support/procfs')
const { FILE } = require('../model')
const { HostRegion, same } = require('../world')
const {
  newSteps,
  wrong,
  rarely,
  sometimes,
  pick,
  flag,
  longLength,
  place,
  choose,
  number,
  numberFrom,
  numberCodes
} = require('./arguments')
const { placeIn, partsOf } = require('./accesses')
const { addRegion, memfd, canAddRegion } = require('./regions')

const { steps, step } = newSteps()

/** Bytes of a memory as what is written; null where the result is left open. */
function bytesOfMemory(memory, args, length, target) {
  const { model } = memory
  const at = Math.min(placeIn(memory, args.from), model.byteLength)
  const count = Math.min(length, model.byteLength - at)
  const parts = partsOf(model, [[at, count]], false)
  // One that shows what is written to gives a mixture.
  if (parts.some(({ window, index }) => window.state[index] === FILE && window.backing === target))
    return null
  const missing = parts.filter(({ window, index }) => window.isUnreadable(index))
  // Of the bytes before it some may be written.
  if (missing.length > 0 && (missing[0] !== parts[0] || model.mappingAt(at) === undefined))
    return null
  return {
    source: memory.guest.bytes.subarray(at, at + count),
    bytes: model.read(at, count),
    codes: missing.length > 0 ? ['ERR_HOSTMAP_READ_FAILED'] : []
  }
}

function bytesOfNoise(args, length) {
  const bytes = noise(length, args.seed + 1)
  const { buffer, byteOffset } = bytes
  const kinds = [
    () => bytes,
    () => buffer.slice(byteOffset, byteOffset + length),
    () => new DataView(buffer, byteOffset, length)
  ]
  return { source: choose(kinds, args.seed)(), bytes, codes: [] }
}

const writeArguments = {
  region: pick,
  offset: number,
  length: longLength,
  fits: fc.nat(9).map(n => n > 0),
  seed: pick,
  memory: pick,
  from: place,
  ofMemory: fc.nat(2).map(n => n === 0)
}

step('write', 14, writeArguments, (world, args) => {
  const region = choose(world.regions, args.region)
  if (!region?.real) return null
  const { real, backing, offset, byteLength, opened, closed } = region
  const byteOffset = numberFrom(args.offset, byteLength, sane => sane % (byteLength + 1))
  const start = typeof byteOffset === 'number' ? byteOffset : 0
  const most = args.fits ? Math.max(0, byteLength - start) || 0 : Infinity
  const length = Math.floor(Math.min(args.length, most))
  const memory = args.ofMemory ? choose(world.memories, args.memory) : undefined
  const given = memory ? bytesOfMemory(memory, args, length, backing) : bytesOfNoise(args, length)
  if (given === null) return null
  const { source, bytes } = given
  const codes = []
  if (bytes.length > byteLength) codes.push('ERR_OUT_OF_RANGE')
  else if (byteOffset !== undefined)
    codes.push(...numberCodes(byteOffset, 0, byteLength - bytes.length))
  if (closed) codes.push('ERR_HOSTMAP_REGION_CLOSED')
  else if (!opened || backing.sealed) codes.push('ERR_HOSTMAP_REGION_READONLY')
  if (bytes.length > 0) {
    codes.push(...given.codes)
    if (offset + start + bytes.length > backing.size) codes.push('ERR_HOSTMAP_FILE_SHRUNK')
  }
  const what = memory ? memory.name : 'others'
  return {
    text: `write ${bytes.length} bytes of ${what} at ${String(byteOffset)} of ${region.name}`,
    documented: 'write',
    codes,
    call: () => real.write(source, byteOffset),
    done: written => {
      same('bytes written', written, bytes.length)
      // Nothing, past the end of a file that got shorter, makes it no longer.
      if (bytes.length > 0) backing.write(offset + start, bytes)
    }
  }
})

class SourceError extends Error {
  code = 'ERR_MODEL_SOURCE'
}

/**
 * What reads the chunks of a plan. `told` says what it was asked for, and whether it was let go.
 */
function iteratorOf(chunks, told) {
  let next = 0
  return {
    next() {
      told.asked++
      if (next >= chunks.length) return { done: true, value: undefined }
      const value = chunks[next++]
      if (value instanceof SourceError) throw value
      return { done: false, value }
    },
    return() {
      told.returned++
      return { done: true, value: undefined }
    }
  }
}

const SOURCES = {
  iterable: (chunks, told) => ({ [Symbol.iterator]: () => iteratorOf(chunks, told) }),
  'async iterable': (chunks, told) => {
    const { next, return: end } = iteratorOf(chunks, told)
    return {
      [Symbol.asyncIterator]: () => ({ next: async () => next(), return: async () => end() })
    }
  },
  'web stream': (chunks, told) => {
    const iterator = iteratorOf(chunks, told)
    return new ReadableStream(
      {
        pull(controller) {
          const { done, value } = iterator.next()
          if (done) controller.close()
          else controller.enqueue(value)
        },
        cancel: () => void iterator.return()
      },
      { highWaterMark: 0 }
    )
  }
}

const chunk = fc.oneof(fc.nat(10), fc.nat(5000), fc.nat(70_000))
const fromArguments = {
  kind: fc.constantFrom(...Object.keys(SOURCES)),
  sizes: fc.array(chunk, { maxLength: 5 }),
  seed: pick,
  bad: sometimes(fc.record({ at: pick, isError: flag }), 4),
  // How many bytes more than there are the caller says that there are; null: it does not say.
  said: fc.oneof(
    fc.constant(null),
    fc.constant(0),
    fc.constant(0),
    fc.constantFrom(1, -1, 4096, -4096)
  ),
  wrong: sometimes(wrong, 30),
  empty: rarely
}

let sources = 0

/** What becomes of it: the codes, how often it is asked, and whether it is let go. */
function fateOf(chunks, said, wrong) {
  if (wrong !== null) {
    const codes = numberCodes(wrong, 1, Number.MAX_SAFE_INTEGER)
    return { codes, asked: 0, isLetGo: false }
  }
  let written = 0
  for (let i = 0; i < chunks.length; i++) {
    const asked = i + 1
    const value = chunks[i]
    if (value instanceof SourceError) return { codes: [value.code], asked, isLetGo: false }
    if (typeof value === 'string') return { codes: ['ERR_INVALID_ARG_TYPE'], asked, isLetGo: true }
    written += value.length
    if (said !== undefined && written > said)
      return { codes: ['ERR_HOSTMAP_SOURCE_LENGTH'], asked, isLetGo: true }
  }
  const isRight = written > 0 && (said === undefined || said === written)
  const codes = isRight ? [] : ['ERR_HOSTMAP_SOURCE_LENGTH']
  return { codes, asked: chunks.length + 1, isLetGo: false }
}

step('make a region of a source', 6, fromArguments, (world, args) => {
  if (!canAddRegion(world)) return null
  const sizes = args.empty ? args.sizes.map(() => 0) : args.sizes
  const total = sizes.reduce((sum, size) => sum + size, 0)
  const said = args.said === null ? undefined : Math.max(1, total + args.said)
  const bytes = noise(total, args.seed + 1)
  let at = 0
  const chunks = sizes.map(size => bytes.subarray(at, (at += size)))
  const error = new SourceError('the source fails')
  if (args.bad) chunks.splice(args.bad.at % (chunks.length + 1), 0, args.bad.isError ? error : 'x')
  const { codes, asked, isLetGo } = fateOf(chunks, said, args.wrong)
  const told = { asked: 0, returned: 0 }
  const name = `source ${++sources} of the model`
  const byteLength = args.wrong ?? said
  return {
    text: `from(${args.kind} of ${sizes}, byteLength ${String(byteLength)}${args.bad ? `, ${args.bad.isError ? 'an error' : 'a text'} among them` : ''})`,
    documented: 'source',
    codes,
    call: () => HostRegion.from(SOURCES[args.kind](chunks, told), { byteLength, name }),
    done: real => {
      same('times that the source was asked', told.asked, asked)
      same('times that the source was let go', told.returned, 0)
      same('name', real.name, name)
      const backing = memfd(real, total)
      backing.write(0, bytes)
      addRegion(world, real, { backing, byteLength: total, opened: true, kind: 'memfd' })
    },
    failed: (failure, wentOff) => {
      if (failure.code === error.code) same('what the source has thrown', failure, error)
      same(`descriptors of ${name}`, countOpen(name), 0)
      same(`mappings of ${name}`, mappingsNamed(name).length, 0)
      if (wentOff) return
      same('times that the source was asked', told.asked, asked)
      same('times that the source was let go', told.returned, isLetGo ? 1 : 0)
    }
  }
})

module.exports = { steps }
