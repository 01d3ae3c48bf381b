'use strict'

// What a function gave, as text, and back. Only plain data: a file is anybody's, and what is read
// from one makes no object of another class, and runs nothing.

const { types } = require('node:util')
const check = require('../support/arguments.js')
const { makeError } = require('../support/errors.js')
const { received } = require('../support/given.js')
const { Uint8Array } = require('../platform/intrinsics.js')

const MOST_BYTES = 512 * 1024
const MOST_DEPTH = 100

const { getPrototypeOf, fromEntries, keys, prototype: ObjectPrototype } = Object

const VIEWS = Object.freeze({
  __proto__: null,
  Int8Array,
  Uint8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array
})
const ODD_NUMBERS = Object.freeze({
  __proto__: null,
  NaN,
  Infinity,
  '-Infinity': -Infinity,
  '-0': -0
})

/** The text of a value. Throws where it is more than plain data, or too much. */
function encodeResult(value) {
  const text = JSON.stringify(toTree(value, 'what fn gave', [], { left: MOST_BYTES }))
  if (Buffer.byteLength(text) <= MOST_BYTES) return text
  throw tooLarge()
}

const tooLarge = () =>
  refused('what fn gave', `takes more than ${MOST_BYTES} bytes; keep it in the memory`)

// While the tree is made: the same object may be in it many times, and an array be all holes.
function take(room, bytes) {
  room.left -= bytes
  if (room.left < 0) throw tooLarge()
}

/** Undefined where it is no text that `encodeResult` makes. */
function decodeResult(text) {
  try {
    return { value: fromTree(JSON.parse(text), 0) }
  } catch (error) {
    if (error instanceof NotOurs || error instanceof SyntaxError) return undefined
    throw error
  }
}

class NotOurs extends Error {}

// Lists have a letter first: 'a' an array, 'o' the entries of an object, 'n' an odd number, 'i' a
// BigInt, 'u' undefined, 'b' an ArrayBuffer, 'v' a view.
function toTree(value, where, around, room) {
  take(room, 1)
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value
    case 'undefined':
      return ['u']
    case 'bigint':
      return ['i', `${value}`]
    case 'number':
      return Number.isFinite(value) && !Object.is(value, -0)
        ? value
        : ['n', Object.is(value, -0) ? '-0' : `${value}`]
    case 'object':
      break
    default:
      throw refused(where, `is ${received(value)}`)
  }
  if (value === null) return null
  if (around.includes(value)) throw refused(where, 'holds itself')
  if (around.length >= MOST_DEPTH) throw refused(where, `is more than ${MOST_DEPTH} levels deep`)
  const inside = [...around, value]
  if (check.isArray(value)) {
    take(room, value.length)
    return ['a', ...Array.from(value, (it, at) => toTree(it, `${where}[${at}]`, inside, room))]
  }
  if (ArrayBuffer.isView(value) || types.isArrayBuffer(value)) take(room, value.byteLength)
  if (types.isArrayBuffer(value)) return ['b', textOf(new Uint8Array(value))]
  const view = types.isTypedArray(value) ? value[Symbol.toStringTag] : undefined
  if (view in VIEWS) {
    return ['v', view, textOf(new Uint8Array(value.buffer, value.byteOffset, value.byteLength))]
  }
  const proto = types.isProxy(value) ? undefined : getPrototypeOf(value)
  // Of any realm.
  const isPlain = proto === null || proto === ObjectPrototype || isRoot(proto)
  if (!isPlain) throw refused(where, `is ${received(value)}`)
  return [
    'o',
    ...keys(value).map(key => [key, toTree(value[key], `${where}.${key}`, inside, room)])
  ]
}

const isRoot = proto =>
  proto !== undefined && getPrototypeOf(proto) === null && Object.hasOwn(proto, 'isPrototypeOf')

const textOf = bytes => Buffer.from(bytes).toString('base64')

function fromTree(tree, depth) {
  if (tree === null || ['string', 'boolean', 'number'].includes(typeof tree)) return tree
  if (!check.isArray(tree) || depth > MOST_DEPTH) throw new NotOurs()
  const [kind, ...rest] = tree
  switch (kind) {
    case 'a':
      return rest.map(it => fromTree(it, depth + 1))
    case 'o':
      return fromEntries(rest.map(entry => entryFrom(entry, depth)))
    case 'u':
      return undefined
    case 'n':
      if (rest[0] in ODD_NUMBERS) return ODD_NUMBERS[rest[0]]
      break
    case 'i':
      if (/^(?:0|-?[1-9]\d*)$/.test(rest[0])) return BigInt(rest[0])
      break
    case 'b':
      return bytesOf(rest[0])
    case 'v':
      if (typeof rest[0] === 'string' && rest[0] in VIEWS) return viewOf(VIEWS[rest[0]], rest[1])
  }
  throw new NotOurs()
}

function entryFrom(entry, depth) {
  if (!check.isArray(entry) || typeof entry[0] !== 'string') throw new NotOurs()
  return [entry[0], fromTree(entry[1], depth + 1)]
}

function bytesOf(text) {
  if (typeof text !== 'string') throw new NotOurs()
  return new Uint8Array(Buffer.from(text, 'base64')).buffer
}

function viewOf(View, text) {
  const buffer = bytesOf(text)
  if (buffer.byteLength % View.BYTES_PER_ELEMENT !== 0) throw new NotOurs()
  return new View(buffer)
}

const refused = (where, why) =>
  makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `${where} ${why}; a file keeps plain data only: let fn give that, such as a pointer, and make the rest of it`
  )

module.exports = { encodeResult, decodeResult }
