'use strict'

// Tokens: plain objects by which other threads and processes get a region or a snapshot. And
// what keeps the objects of this package from being cloned, which would leave empty ones.

const threads = require('node:worker_threads')
const check = require('../support/arguments.js')
const { makeError } = require('../support/errors.js')
const { received, instead } = require('../support/given.js')
const { roomOnStack } = require('../support/stack.js')
const { wrongType, wrongValue } = require('../support/wrong.js')

const REGION = 'wasm-hostmap.region'
const SNAPSHOT = 'wasm-hostmap.snapshot'
const VERSION = 1

// By the type of their tokens.
const CLASSES = new Map([
  [REGION, 'HostRegion'],
  [SNAPSHOT, 'Snapshot']
])

/** Makes `structuredClone` and `postMessage` refuse an object. Node.js before 22.10 can't. */
const keepHere = threads.markAsUncloneable ?? (() => {})

/** What `share` and `publish` grant. `access`: undefined for the most there is. */
function accessToShare(access, enforce = false, isWritable) {
  check.boolean(enforce, 'options.enforce')
  const most = isWritable ? 'shared' : 'readonly'
  const granted =
    access === undefined ? most : check.oneOf(access, 'options.access', ['readonly', 'shared'])
  if (enforce && granted !== 'readonly') {
    throw wrongValue('options.enforce', "false unless access is 'readonly'", enforce)
  }
  return { isReadonly: granted === 'readonly', isEnforced: enforce }
}

/** The token for what the native part offers. */
function makeToken(type, { readonly, paged, ...offer }) {
  const token = { type, version: VERSION, ...offer, access: readonly ? 'readonly' : 'shared' }
  return paged ? { ...token, paged } : token
}

const DIGITS = '0123456789'
const HEX = '0123456789abcdef'

/**
 * Whether a value is a text of these characters. By hand: where the stack ends, a regular
 * expression is a SyntaxError.
 */
function isOf(characters, value, min, max = min) {
  if (typeof value !== 'string' || value.length < min || value.length > max) return false
  for (const character of value) if (!characters.includes(character)) return false
  return true
}

/** Whether it is the abstract name of a socket, as src/share.rs makes it. */
function isSocketName(value) {
  if (typeof value !== 'string') return false
  const [kind, pid, random, ...rest] = value.split('.')
  return (
    kind === 'wasm-hostmap' &&
    isOf(DIGITS, pid, 1, 10) &&
    isOf(HEX, random, 16) &&
    rest.length === 0
  )
}

const isCount =
  (min, max = Number.MAX_SAFE_INTEGER) =>
  value =>
    Number.isInteger(value) && value >= min && value <= max

const FIELDS = {
  paged: value => value === undefined || value === true,
  pid: isCount(1, 2 ** 31 - 1),
  proof: isCount(0, 2 ** 31 - 1),
  socket: value => value === '' || isSocketName(value),
  nonce: value => isOf(HEX, value, 32),
  access: value => value === 'readonly' || value === 'shared',
  device: value => isOf(DIGITS, value, 1, 20),
  inode: value => isOf(DIGITS, value, 1, 20),
  byteOffset: isCount(0),
  byteLength: isCount(1),
  name: value =>
    typeof value === 'string' && !value.includes('\0') && Buffer.byteLength(value) <= 250
}

/** What a token says, for the native part. */
function readToken(token, type) {
  // What is received is lost if the stack ends before something is made of it.
  roomOnStack()
  const expected = type === REGION ? 'what region.share() gave' : 'what snapshot.share() gave'
  if (!check.isObject(token)) throw wrongThing('token', expected, token, () => undefined)
  const given = token.type
  if (given !== type) {
    const known = CLASSES.get(given)
    if (known === undefined) throw wrongThing('token', expected, token, () => undefined)
    throw wrongValue('token', `${expected}; ${known}.receive takes this one`, token)
  }
  if (token.version !== VERSION) {
    const message = `the token is of another version of wasm-hostmap (${received(token.version)}, and this one knows ${VERSION}); install the same one on both sides`
    throw makeError('ERR_HOSTMAP_SHARE_INVALID', message)
  }
  const read = {}
  for (const [name, isRight] of Object.entries(FIELDS)) {
    const value = token[name]
    if (!isRight(value)) {
      const message = `token.${name} is not as share() gave it (received ${received(value)}); pass the token on as it is`
      throw makeError('ERR_HOSTMAP_SHARE_INVALID', message)
    }
    read[name] = value
  }
  const { access, ...rest } = read
  return { ...rest, readonly: access === 'readonly' }
}

/** The error where a region or a snapshot, or a token of one, is asked for and this is none. */
function wrongThing(name, expected, value, remedyFor = instead.region) {
  return wrongType(name, expected, value, hintFor(value) ?? remedyFor(value))
}

function hintFor(value) {
  if (typeof value !== 'object' || value === null) return undefined
  let type, proto, keys
  try {
    type = value.type
    proto = Object.getPrototypeOf(value)
    keys = Object.keys(value).length
  } catch {
    // A Proxy that throws.
    return undefined
  }
  const known = CLASSES.get(type)
  if (known !== undefined)
    return `it is a token: ${known}.receive(token) gives the region or snapshot`
  const isPlain = proto === null || Object.getPrototypeOf(proto) === null
  return isPlain && keys === 0
    ? 'regions and snapshots that are posted or cloned arrive empty: post region.share(), and call HostRegion.receive there'
    : undefined
}

module.exports = { REGION, SNAPSHOT, accessToShare, keepHere, makeToken, readToken, wrongThing }
