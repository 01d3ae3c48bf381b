'use strict'

// Checks of arguments: the one place for each kind of argument. Each gives the value back, as the
// caller can use it, or throws an error of wrong.js. Nothing here calls the native part, which
// checks ranges that depend on a memory, and nothing here calls a caller's function.

const { fileURLToPath } = require('node:url')
const { wrongType, wrongValue, outOfRange } = require('./wrong.js')
const { instead, nearestOf } = require('./given.js')

// A revoked Proxy throws when it is asked.
const isArray = value => !isRevoked(value) && Array.isArray(value)

// An object that can be asked for its properties.
const isObject = value => typeof value === 'object' && value !== null && !isRevoked(value)

/** Whether it is a Proxy whose target is gone, or one of such a Proxy. */
function isRevoked(value) {
  try {
    Array.isArray(value)
    return false
  } catch {
    return true
  }
}

/**
 * A whole number from `min` to `max`, 2^53 - 1 if not given.
 *
 * @param limit where the limits come from: a function that says it, of the two values after it and
 *   the one that was given. Called only for a message.
 */
function wholeNumber(value, name, min = 0, max = Number.MAX_SAFE_INTEGER, limit, a, b) {
  if (typeof value !== 'number') throw wrongType(name, 'a number', value, instead.number(value))
  if (!Number.isInteger(value) || value < min || value > max) {
    throw outOfRange(
      name,
      `${wholeFrom(min, max)}${limit === undefined ? '' : limit(a, b, value)}`,
      value
    )
  }
  // No negative zero.
  return value + 0
}

/** How many bytes a new region is to have. */
function regionSize(value, name) {
  if (typeof value !== 'number') throw wrongType(name, 'a number', value, instead.regionSize(value))
  return wholeNumber(value, name, 1)
}

const wholeFrom = (min, max) =>
  `a whole number from ${min} to ${max === Number.MAX_SAFE_INTEGER ? '2^53 - 1' : max}`

/** The same for a number or a BigInt; gives a number. */
function wholeNumberOrBigInt(value, name, min = 0, max = Number.MAX_SAFE_INTEGER, limit, a, b) {
  if (typeof value === 'number') return wholeNumber(value, name, min, max, limit, a, b)
  if (typeof value !== 'bigint') {
    throw wrongType(name, 'a number or a BigInt', value, instead.number(value))
  }
  if (value < BigInt(min) || value > BigInt(max)) {
    throw outOfRange(
      name,
      `${wholeFrom(min, max)}${limit === undefined ? '' : limit(a, b, value)}`,
      value
    )
  }
  return Number(value)
}

// Where limits come from, for `wholeNumber`.
const WASM_PAGE_BYTES = 65536

const limits = {
  hostPage: (page, _, value) =>
    Number.isInteger(value) && value > 0
      ? `, in bytes: at least a host page (${value} Wasm pages are ${value * WASM_PAGE_BYTES} bytes)`
      : `, in bytes: at least a host page`,
  /** `most` of them were looked for. */
  wasmPages(most, _, value) {
    const pages = Math.ceil(Number(value) / WASM_PAGE_BYTES)
    return Number(value) > most && pages <= most
      ? `, of 64 KiB each (${value} bytes are ${pages})`
      : ', of 64 KiB each'
  }
}

/** `check` of a value that may be left out. */
function optional(value, check, ...rest) {
  return value === undefined ? undefined : check(value, ...rest)
}

function boolean(value, name) {
  if (typeof value !== 'boolean') throw wrongType(name, 'a boolean', value)
  return value
}

function callback(value, name) {
  if (typeof value !== 'function' || isRevoked(value)) throw wrongType(name, 'a function', value)
  return value
}

function oneOf(value, name, choices, words = NO_WORDS) {
  if (typeof value === 'string' && choices.includes(value)) return value
  const expected = anyOf(choices.map(choice => `'${choice}'`))
  if (typeof value !== 'string') throw wrongType(name, expected, value)
  const nearest = nearestOf(value, choices)
  throw wrongValue(
    name,
    expected,
    value,
    words.get(value) ?? (nearest && `did you mean '${nearest}'?`)
  )
}

const NO_WORDS = new Map()

const anyOf = choices =>
  choices.length === 1 ? choices[0] : `${choices.slice(0, -1).join(', ')} or ${choices.at(-1)}`

// As src/access.rs numbers and orders them: each allows what those before it allow. All that
// depends on the order is here.
const ACCESS = ['readonly', 'private', 'shared']
const SHARED = ACCESS.indexOf('shared')

/** The most that changes no region: what a module gets without a grant. By number. */
const MOST_UNGRANTED_ACCESS = ACCESS.indexOf('private')

/** Whether an access lets a module write to the region. By number. */
const writesThrough = code => code === SHARED

/** Whether one who was granted an access may use the other. By number. */
const accessAllows = (granted, code) => code <= granted

// What other interfaces call it.
const WRITING = "'private' keeps what is written to this memory, 'shared' writes to the region"
const WORDS_OF_ACCESS = new Map([
  ...['r', 'ro', 'read', 'READ'].map(word => [word, "'readonly' is for reading"]),
  ...['w', 'rw', 'r+', 'write', 'read-write', 'readwrite', 'writable'].map(word => [word, WRITING]),
  ...['cow', 'copy-on-write', 'copyOnWrite'].map(word => [word, "'private' is copy-on-write"])
])

/** Gives its number. */
function access(value, name) {
  const code = ACCESS.indexOf(value)
  return code >= 0 ? code : ACCESS.indexOf(oneOf(value, name, ACCESS, WORDS_OF_ACCESS))
}

/** An object of the caller's that is no options: see options.js for those. */
function object(value, name) {
  if (!isObject(value) || isArray(value)) throw wrongType(name, 'an object', value)
  return value
}

/** A part, perhaps an empty one, of something with `most` bytes: where it starts and ends. */
function part({ byteOffset = 0, byteLength }, most, called) {
  wholeNumber(byteOffset, 'options.byteOffset', 0, most, () => `, the bytes of ${called}`)
  const rest = most - byteOffset
  const length =
    byteLength === undefined
      ? rest
      : wholeNumber(
          byteLength,
          'options.byteLength',
          0,
          rest,
          () => `, what ${called} has from byteOffset ${byteOffset} on`
        )
  return { start: byteOffset, end: byteOffset + length }
}

/**
 * An instance's exports. An instance has none of its own, and would be taken for one that exports
 * nothing.
 */
function exportsOf(value, name) {
  const remedy = instead.exports(value)
  if (!isObject(value) || isArray(value) || remedy !== undefined) {
    throw wrongType(name, "an instance's exports", value, remedy)
  }
  return value
}

function allocator(value) {
  const name = 'options.allocator'
  if (!isObject(value) || isArray(value)) {
    throw wrongType(name, 'an object with malloc and free', value, instead.allocator(value))
  }
  const { malloc, free, owner = OWNERS[0] } = value
  for (const [called, given] of [
    ['malloc', malloc],
    ['free', free]
  ]) {
    if (typeof given !== 'function') {
      throw wrongType(`${name}.${called}`, 'a function', given, instead.allocator(value))
    }
  }
  oneOf(owner, `${name}.owner`, OWNERS)
  return { malloc, free, owner }
}

/** Who frees a block: `unmap`, or what it was handed to. */
const OWNERS = ['mapping', 'engine']

function fileDescriptor(value, name = 'fd') {
  if (typeof value !== 'number')
    throw wrongType(name, 'the number of a file descriptor', value, instead.fd(value))
  return wholeNumber(value, name, 0, 2 ** 31 - 1)
}

const MAX_NAME_BYTES = 200

function regionName(value, name) {
  if (typeof value !== 'string') throw wrongType(name, 'a string', value)
  if (value.includes('\0') || Buffer.byteLength(value) > MAX_NAME_BYTES) {
    throw wrongValue(name, `at most ${MAX_NAME_BYTES} bytes, without NUL`, value)
  }
  return value
}

/** By which a region is published: a part of a file's name. */
function publishedName(value, name = 'name') {
  if (typeof value !== 'string') throw wrongType(name, 'a string', value)
  const length = Buffer.byteLength(value)
  const isRight =
    length >= 1 &&
    length <= MAX_NAME_BYTES &&
    !value.startsWith('.') &&
    !value.includes('/') &&
    !value.includes('\0') &&
    // Not as UTF-8 has it: half a character.
    Buffer.from(value).toString() === value
  if (isRight) return value
  const expected = `1 to ${MAX_NAME_BYTES} bytes, without '/' and NUL, and not beginning with a dot`
  throw wrongValue(name, expected, value)
}

function path(value, name = 'path') {
  const isUrl = isObject(value) && typeof value.href === 'string'
  if (typeof value !== 'string' && !isUrl) {
    throw wrongType(name, 'a string or a file: URL', value, instead.path(value))
  }
  if (isUrl && value.protocol !== 'file:') {
    const remedy = 'fetch the bytes, and pass them to HostRegion.copyFrom'
    throw wrongValue(name, 'a file: URL', value.href, remedy)
  }
  const text = isUrl ? pathOfUrl(value, name) : value
  if (text === '' || text.includes('\0'))
    throw wrongValue(name, 'a path, not empty and without NUL', value)
  return text
}

function pathOfUrl(url, name) {
  try {
    // By its text, since URLs of another realm are not Node's own.
    return fileURLToPath(url.href)
  } catch (error) {
    throw wrongValue(name, `a file: URL of this machine (${error.message})`, url.href)
  }
}

function abortSignal(value, name) {
  if (
    !isObject(value) ||
    typeof value.aborted !== 'boolean' ||
    typeof value.addEventListener !== 'function' ||
    typeof value.removeEventListener !== 'function'
  ) {
    throw wrongType(name, 'an AbortSignal', value, instead.signal(value))
  }
  return value
}

module.exports = {
  ACCESS,
  MOST_UNGRANTED_ACCESS,
  writesThrough,
  accessAllows,
  limits,
  exportsOf,
  allocator,
  fileDescriptor,
  wholeNumber,
  wholeNumberOrBigInt,
  regionSize,
  optional,
  boolean,
  callback,
  oneOf,
  access,
  isRevoked,
  isObject,
  isArray,
  object,
  part,
  regionName,
  publishedName,
  path,
  abortSignal
}
