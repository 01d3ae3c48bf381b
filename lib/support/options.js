'use strict'

// The options of the public API: what each call takes, named here and nowhere else, and how a
// caller's object is read.
//
// An option is an enumerable property of the object, or one that its classes define (a getter,
// say). Properties of Object.prototype are none, whatever a script has put there. Each is read
// once, so a getter can't give two answers. Unknown names are refused: with a typing error in
// `access`, what was meant to be shared would be mapped read-only.

const { types } = require('node:util')
const check = require('./arguments.js')
const { nearestOf } = require('./given.js')
const { wrongType } = require('./wrong.js')
const { makeError } = require('./errors.js')

// Taken now, like those of v8.js.
const { hasOwn, keys, getPrototypeOf, prototype: ObjectPrototype } = Object

// What a part of a region or of a mapping is called, everywhere.
const PART = ['byteOffset', 'byteLength']

/**
 * Makes the reader of one kind of options: it gives an object with each of these names, undefined
 * where the caller's has none. `undefined` counts as no options. Messages call the object `called`,
 * or `argument` where it is none at all.
 */
function reader(...names) {
  const none = Object.freeze(Object.fromEntries(names.map(name => [name, undefined])))
  return (bag, called = 'options', argument = called) => {
    if (bag === undefined) return none
    if (bag === null || typeof bag !== 'object') throw notOptions(argument, names, bag)
    const found = { ...none }
    const proto = protoOf(bag, argument)
    if (proto !== ObjectPrototype && proto !== null) {
      refuseOtherThings(bag, names, argument)
      readInherited(bag, proto, names, found, called)
    }
    for (const key of keys(bag)) {
      if (!hasOwn(none, key)) throw unknown(key, names, called)
      found[key] = bag[key]
    }
    return found
  }
}

/**
 * The readers of calls that are made often, for plain objects: for all others the general one does
 * it. Named properties take V8 a tenth of the time of computed ones, so each has its names twice.
 */
const MAP = [...PART, 'at', 'access', 'populate', 'hugePages', 'allocator', 'strict']
const readMap = reader(...MAP)

function map(bag) {
  if (!isPlain(bag)) return readMap(bag)
  let byteOffset, byteLength, at, access, populate, hugePages, allocator, strict
  for (const key of keys(bag)) {
    switch (key) {
      case 'byteOffset':
        byteOffset = bag.byteOffset
        break
      case 'byteLength':
        byteLength = bag.byteLength
        break
      case 'at':
        at = bag.at
        break
      case 'access':
        access = bag.access
        break
      case 'populate':
        populate = bag.populate
        break
      case 'hugePages':
        hugePages = bag.hugePages
        break
      case 'allocator':
        allocator = bag.allocator
        break
      case 'strict':
        strict = bag.strict
        break
      default:
        throw unknown(key, MAP, 'options')
    }
  }
  return { byteOffset, byteLength, at, access, populate, hugePages, allocator, strict }
}

const SLIDE_TO = ['byteLength', 'access']
const readSlideTo = reader(...SLIDE_TO)

function slideTo(bag) {
  if (!isPlain(bag)) return readSlideTo(bag)
  let byteLength, access
  for (const key of keys(bag)) {
    switch (key) {
      case 'byteLength':
        byteLength = bag.byteLength
        break
      case 'access':
        access = bag.access
        break
      default:
        throw unknown(key, SLIDE_TO, 'options')
    }
  }
  return { byteLength, access }
}

const RESTORE = ['exclusive', 'globals']
const readRestore = reader(...RESTORE)

function restore(bag) {
  if (!isPlain(bag)) return readRestore(bag)
  let exclusive, globals
  for (const key of keys(bag)) {
    switch (key) {
      case 'exclusive':
        exclusive = bag.exclusive
        break
      case 'globals':
        globals = bag.globals
        break
      default:
        throw unknown(key, RESTORE, 'options')
    }
  }
  return { exclusive, globals }
}

function isPlain(bag) {
  if (typeof bag !== 'object' || bag === null) return false
  try {
    return getPrototypeOf(bag) === ObjectPrototype
  } catch {
    // A Proxy: the next read of it says what is wrong.
    return false
  }
}

/** What classes define, and objects that were given to Object.create. */
function readInherited(bag, proto, names, found, called) {
  const inherited = new Set()
  for (let at = proto; at !== null && !isObjectPrototype(at, called); at = protoOf(at, called)) {
    for (const key of keys(at)) if (!names.includes(key)) throw unknown(key, names, called)
    for (const name of names) if (hasOwn(at, name)) inherited.add(name)
  }
  // By the object itself, whose private fields a getter may need.
  for (const name of inherited) if (!hasOwn(bag, name)) found[name] = bag[name]
}

// Of this realm, or another one (a jest test has one, so has node:vm).
const isObjectPrototype = (object, called) =>
  object === ObjectPrototype ||
  (protoOf(object, called) === null && hasOwn(object, 'isPrototypeOf'))

function protoOf(object, called) {
  try {
    return getPrototypeOf(object)
  } catch (error) {
    if (check.isRevoked(object)) throw wrongType(called, 'an object', object)
    // A trap of the caller's own.
    throw error
  }
}

// They have no names that are wrong, and would be taken for no options at all: a promise that was
// not awaited.
function refuseOtherThings(bag, names, argument) {
  if (
    Array.isArray(bag) ||
    types.isPromise(bag) ||
    types.isBoxedPrimitive(bag) ||
    types.isDate(bag) ||
    types.isRegExp(bag) ||
    types.isMap(bag) ||
    types.isSet(bag) ||
    types.isAnyArrayBuffer(bag) ||
    ArrayBuffer.isView(bag)
  ) {
    throw notOptions(argument, names, bag)
  }
}

const notOptions = (argument, names, value) =>
  argument === 'byteOffset'
    ? wrongType(argument, 'a number, or an object with byteOffset and byteLength', value)
    : wrongType(argument, `an object (with ${names.join(', ')})`, value)

// Words of other interfaces, and of this one's past.
const ALIASES = new Map([
  ['from', 'byteOffset'],
  ['to', 'byteLength'],
  ['start', 'byteOffset'],
  ['offset', 'byteOffset'],
  ['position', 'byteOffset'],
  ['end', 'byteLength'],
  ['length', 'byteLength'],
  ['size', 'byteLength'],
  ['byteLength', 'initial'],
  ['pages', 'initial'],
  ['address', 'at'],
  ['pointer', 'at'],
  ['minimum', 'initial'],
  ['index', 'address'],
  ['readOnly', 'access'],
  ['readonly', 'access'],
  ['shared', 'access'],
  ['writable', 'access'],
  ['chunkSize', 'chunk'],
  ['onprogress', 'onProgress']
])

function unknown(name, names, called) {
  const alias = ALIASES.get(name)
  const nearest = names.includes(alias) ? alias : nearestOf(name, names)
  const meant = nearest === undefined ? '' : `; did you mean ${nearest}?`
  const isPart = nearest !== undefined && PART.includes(nearest) && names.includes('byteOffset')
  const part = isPart ? ' A part is given by byteOffset and byteLength.' : ''
  const all = names.length === 1 ? `It has only ${names[0]}.` : `It has ${names.join(', ')}.`
  return makeError(
    'ERR_INVALID_ARG_VALUE',
    `${called}.${name} is not an option${meant}${part}${nearest === undefined ? `. ${all}` : ''}`
  )
}

module.exports = {
  allocate: reader('name', 'hugePages'),
  regionFrom: reader('byteLength', 'name', 'hugePages', 'signal', 'onProgress'),
  paged: reader(
    'provider',
    'byteLength',
    'chunkBytes',
    'cacheBytes',
    'readAheadBytes',
    'concurrency',
    'timeoutMs',
    'diskCache',
    'name',
    'userfaultfd',
    'signal'
  ),
  httpProvider: reader('url', 'headers', 'retries', 'stallMs', 'immutable'),
  framesProvider: reader('frames'),
  moduleProvider: reader('module', 'data'),
  diskCache: reader('path', 'key'),
  ensure: reader(...PART, 'signal'),
  prefetchPaged: reader(...PART, 'signal', 'onProgress'),
  pagedChunks: reader(...PART),
  load: reader(...PART, 'name', 'hugePages', 'signal', 'onProgress'),
  open: reader(...PART, 'writable'),
  fromFd: reader(...PART),
  view: reader(...PART),
  bytes: reader(...PART, 'access'),
  writeStream: reader(...PART),
  readStream: reader(...PART, 'chunk'),
  blob: reader(...PART, 'type'),
  close: reader('views'),
  share: reader('access', 'enforce'),
  publish: reader('access', 'enforce', 'replace', 'directory'),
  find: reader('directory'),
  findRegion: reader('directory', 'userfaultfd'),
  receive: reader('userfaultfd'),
  watch: reader('directory', 'signal', 'userfaultfd'),
  split: reader(...PART, 'align'),
  wait: reader('timeoutMs', 'signal'),
  waitSync: reader('timeoutMs'),

  descriptor: reader('initial', 'maximum', 'shared', 'address', 'room'),
  from: reader('address'),
  reserve: reader('allocator'),
  map,
  adopt: reader('at', 'allocator', 'copy'),
  prefetch: reader(...PART, 'signal'),
  window: reader('byteLength', 'at', 'access', 'rest', 'allocator', 'strict'),
  slide: reader(...PART, 'access'),
  slideTo,
  source: reader(...PART, 'chunk', 'overlap', 'access', 'readAhead', 'leaveBehind'),
  chunks: reader(
    ...PART,
    'chunk',
    'overlap',
    'access',
    'readAhead',
    'leaveBehind',
    'signal',
    'onProgress'
  ),

  snapshot: reader(
    'globals',
    'module',
    'exclusive',
    'keepResidentBytes',
    'hugePages',
    'sharePages',
    'name'
  ),
  snapshotOf: reader(
    'module',
    'exclusive',
    'keepResidentBytes',
    'hugePages',
    'sharePages',
    'name',
    'accept'
  ),
  loadSnapshot: reader('module', 'regions', 'key', 'signal', 'keepResidentBytes', 'hugePages'),
  openSnapshot: reader('module', 'regions', 'key', 'signal', 'keepResidentBytes', 'verify'),
  grant: reader('region', 'access'),
  snapshotFromFd: reader('module', 'regions', 'keepResidentBytes'),
  save: reader('key', 'signal'),
  restore,
  restoreTo: reader('exclusive', 'accept'),
  instantiate: reader('accept'),
  reset: reader('exclusive', 'keepResidentBytes'),

  pool: reader(
    'imports',
    'bind',
    'init',
    'snapshot',
    'size',
    'max',
    'accept',
    'keepResidentBytes',
    'growth'
  ),
  factoryPool: reader(
    'make',
    'init',
    'state',
    'before',
    'after',
    'destroy',
    'pending',
    'size',
    'max',
    'maxMemoryBytes',
    'accept',
    'keepResidentBytes'
  ),
  growth: reader('onGrow', 'limit'),
  once: reader(
    'snapshot',
    'from',
    'module',
    'key',
    'accept',
    'exclusive',
    'keepResidentBytes',
    'hugePages'
  ),
  checkpoint: reader(
    'state',
    'module',
    'accept',
    'exclusive',
    'keepResidentBytes',
    'hugePages',
    'name'
  ),
  acquire: reader('signal'),

  inspect: reader('processMap', 'pages'),
  allowInspect: reader('directory'),
  observe: reader('performance')
}
