'use strict'

// Checks of arguments. Each gives the value back, as the caller can use it, or throws an error that says what was
// given and what would do. Ranges that depend on a region or memory are checked by the native part.

const { inspect, types } = require('node:util')
const { fileURLToPath } = require('node:url')
const { makeError } = require('./errors.js')
const { whoseObject } = require('./copies.js')

function show(value) {
  // Not even Object.prototype.toString can be asked of one.
  if (isRevoked(value)) return 'a revoked Proxy'
  let text
  try {
    text = inspect(value, { depth: 0, maxStringLength: 60, breakLength: Infinity })
  } catch {
    // Its own inspection threw.
    text = `${typeof value} that can't be shown`
  }
  return (text.length > 100 ? `${text.slice(0, 100)}...` : text) + whoseObject(value)
}

function wrongType(name, expected, value) {
  return makeError(
    'ERR_INVALID_ARG_TYPE',
    `${name} must be ${expected}; received ${show(value)} (${typeOf(value)})`
  )
}

function typeOf(value) {
  return value === null ? 'null' : isArray(value) ? 'array' : typeof value
}

// A revoked Proxy throws when it is asked.
function isArray(value) {
  return !isRevoked(value) && Array.isArray(value)
}

/** Whether it is a Proxy whose target is gone, or one of such a Proxy. */
function isRevoked(value) {
  try {
    Array.isArray(value)
    return false
  } catch {
    return true
  }
}

function outOfRange(name, expected, value) {
  return makeError('ERR_OUT_OF_RANGE', `${name} must be ${expected}; received ${show(value)}`)
}

function wrongValue(name, expected, value) {
  return makeError('ERR_INVALID_ARG_VALUE', `${name} must be ${expected}; received ${show(value)}`)
}

/** A whole number from `min` to `max`, 2^53 - 1 if not given. */
function wholeNumber(value, name, min = 0, max = Number.MAX_SAFE_INTEGER) {
  if (typeof value !== 'number') throw wrongType(name, 'a number', value)
  if (!Number.isInteger(value) || value < min || value > max) {
    throw outOfRange(
      name,
      `a whole number from ${min} to ${max === Number.MAX_SAFE_INTEGER ? '2^53 - 1' : max}`,
      value
    )
  }
  // No negative zero.
  return value + 0
}

/** The same for a number or a BigInt; gives a number. */
function wholeNumberOrBigInt(value, name, min = 0, max = Number.MAX_SAFE_INTEGER) {
  if (typeof value === 'number') return wholeNumber(value, name, min, max)
  if (typeof value !== 'bigint') throw wrongType(name, 'a number or a BigInt', value)
  if (value < BigInt(min) || value > BigInt(max)) {
    throw outOfRange(
      name,
      `a whole number from ${min} to ${max === Number.MAX_SAFE_INTEGER ? '2^53 - 1' : max}`,
      value
    )
  }
  return Number(value)
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

function oneOf(value, name, choices) {
  if (typeof value !== 'string') throw wrongType(name, choices.map(show).join(' or '), value)
  if (!choices.includes(value)) throw wrongValue(name, choices.map(show).join(' or '), value)
  return value
}

// As src/js/memory.rs numbers them.
const ACCESS = ['readonly', 'private', 'shared']

/** Gives its number. */
function access(value, name) {
  return ACCESS.indexOf(oneOf(value, name, ACCESS))
}

/** What pages a region is to have. Gives its number, as src/js/region.rs has them. */
function hugePages(value, name) {
  if (value === 'hugetlb') return 2
  if (typeof value === 'string') throw wrongValue(name, "a boolean or 'hugetlb'", value)
  if (typeof value !== 'boolean') throw wrongType(name, "a boolean or 'hugetlb'", value)
  return Number(value)
}

/** Whether it is an object whose properties can be asked for. */
function isObject(value) {
  return typeof value === 'object' && value !== null && !isRevoked(value)
}

/** An object of the caller's that is no options: see options.js for those. */
function object(value, name) {
  if (!isObject(value) || isArray(value)) throw wrongType(name, 'an object', value)
  return value
}

/** A part of something that has `wholeBytes`, perhaps an empty one: where it starts and ends. */
function part({ byteOffset = 0, byteLength }, wholeBytes) {
  wholeNumber(byteOffset, 'options.byteOffset', 0, wholeBytes)
  const rest = wholeBytes - byteOffset
  const length = byteLength === undefined ? rest : wholeNumber(byteLength, 'options.byteLength', 0, rest)
  return { start: byteOffset, end: byteOffset + length }
}

const MAX_NAME_BYTES = 200

function regionName(value, name) {
  if (typeof value !== 'string') throw wrongType(name, 'a string', value)
  if (value.includes('\0') || Buffer.byteLength(value) > MAX_NAME_BYTES) {
    throw wrongValue(name, `at most ${MAX_NAME_BYTES} bytes, without NUL`, value)
  }
  return value
}

function path(value, name = 'path') {
  const isUrl = isObject(value) && typeof value.href === 'string'
  if (typeof value !== 'string' && !isUrl) throw wrongType(name, 'a string or a file: URL', value)
  if (isUrl && value.protocol !== 'file:') throw wrongValue(name, 'a file: URL', value.href)
  const text = isUrl ? pathOfUrl(value, name) : value
  if (text === '' || text.includes('\0')) throw wrongValue(name, 'a path, not empty and without NUL', value)
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

/** Any object with bytes, as a Uint8Array over them. */
function bytes(value, name) {
  const isView = ArrayBuffer.isView(value)
  if (!isView && !types.isAnyArrayBuffer(value)) {
    throw wrongType(name, 'an ArrayBuffer, a SharedArrayBuffer, or a view of one', value)
  }
  // A detached buffer can't be asked for more than its length, which is 0 then.
  if (value.byteLength === 0) throw wrongValue(name, 'at least 1 byte long, and not detached', value)
  return isView ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength) : new Uint8Array(value)
}

function abortSignal(value, name) {
  if (
    !isObject(value) ||
    typeof value.aborted !== 'boolean' ||
    typeof value.addEventListener !== 'function' ||
    typeof value.removeEventListener !== 'function'
  ) {
    throw wrongType(name, 'an AbortSignal', value)
  }
  return value
}

module.exports = {
  ACCESS,
  show,
  wrongType,
  wrongValue,
  outOfRange,
  wholeNumber,
  wholeNumberOrBigInt,
  optional,
  boolean,
  callback,
  oneOf,
  access,
  hugePages,
  isRevoked,
  isObject,
  isArray,
  object,
  part,
  regionName,
  path,
  bytes,
  abortSignal
}
