'use strict'

// Words for messages: what was given, and what to do instead. Nothing here decides anything, and
// nothing here may throw, whatever was given.

const { inspect, types } = require('node:util')

/**
 * What a value is: its class, or what `typeof` says. Never a secret that `typeof` keeps: a revoked
 * Proxy is one.
 */
function kindOf(value) {
  if (value === null) return 'null'
  if (typeof value === 'function') return isClass(value) ? 'class' : 'function'
  if (typeof value !== 'object') return typeof value
  try {
    if (Array.isArray(value)) return 'array'
    if (types.isPromise(value) || typeof value.then === 'function') return 'promise'
    if (Buffer.isBuffer(value)) return 'Buffer'
    const tag = Object.prototype.toString.call(value).slice(8, -1)
    if (tag !== 'Object') return shorten(tag)
    const { name } = value.constructor ?? {}
    return typeof name === 'string' && name !== '' ? shorten(name) : 'Object'
  } catch {
    return 'object'
  }
}

const isClass = value => /^class\b/.test(Function.prototype.toString.call(value))

const isBytes = value => types.isAnyArrayBuffer(value) || ArrayBuffer.isView(value)

/** What was given, on one line. */
function received(value) {
  const kind = kindOf(value)
  try {
    switch (kind) {
      case 'undefined':
      case 'null':
      case 'number':
        return String(value)
      case 'string':
        return `the string ${shorten(inspect(value))}`
      case 'bigint':
      case 'boolean':
      case 'symbol':
        return `${inspect(value)} (a ${kind === 'bigint' ? 'BigInt' : kind})`
      case 'class':
        return `the class ${shorten(value.name)}`
      case 'function':
        return value.name ? `the function ${shorten(value.name)}` : 'a function'
      case 'array':
        return `an array of ${value.length}`
      case 'promise':
        return 'a promise'
      case 'URL':
        return `the URL ${shorten(value.href)}`
      case 'Object':
        return `the object ${shorten(inspect(value, { depth: 0, breakLength: Infinity }))}`
    }
    if (isBytes(value)) {
      const { byteLength } = value
      return `${withArticle(kind)} of ${byteLength} ${byteLength === 1 ? 'byte' : 'bytes'}`
    }
  } catch {
    // Its own code threw.
  }
  if (kind === 'object') return types.isProxy(value) ? 'a Proxy that can not be asked' : 'an object'
  return withArticle(kind)
}

const withArticle = kind =>
  `${/^[aeio]/i.test(kind) || kind === 'HTMLElement' ? 'an' : 'a'} ${kind}`

// Of whatever was given, on one line, without what would hide in a terminal.
function shorten(text) {
  const line = text.replace(/\s+/g, ' ').replace(/[\p{Cc}\p{Cf}]/gu, '?')
  return line.length > 80 ? `${line.slice(0, 80)}...` : line
}

// What to do where something else was wanted. Each gives a remedy for what was given, or undefined.

const AWAIT = 'await the promise first'
const ofOurs = kind => ['Mapping', 'Window', 'WindowSource'].includes(kind)

const instead = {
  region(value) {
    const kind = kindOf(value)
    if (kind === 'string' || kind === 'URL')
      return 'HostRegion.open(path) maps a file, await HostRegion.load(path) copies it into memory'
    if (kind === 'promise') return `${AWAIT}: HostRegion.load gives one`
    if (isBytes(value)) return 'HostRegion.copyFrom(bytes) makes a region of them'
    if (kind === 'Blob' || kind === 'File' || kind === 'Response' || kind === 'ReadableStream')
      return 'await HostRegion.from(it) makes a region of its bytes'
    if (kind === 'number') return 'HostRegion.fromFd(fd) takes a file descriptor'
    if (kind === 'FileHandle') return 'HostRegion.fromFd(handle.fd) takes its descriptor'
    if (ofOurs(kind)) return 'pass its `region`'
    if (kind === 'Snapshot') return 'GuardedMemory.restore(snapshot) puts a snapshot into a memory'
    if (kind === 'GuardedMemory' || kind === 'WebAssembly.Memory')
      return 'HostRegion.copyFrom(memory.buffer) makes a region of what a memory holds'
    if (kind === 'array')
      return 'pass one region a call, or HostRegion.copyFrom(Uint8Array.from(array))'
    return 'HostRegion.allocate, copyFrom, load and open make one'
  },

  memory(value) {
    const kind = kindOf(value)
    if (ArrayBuffer.isView(value)) return 'pass its `buffer`'
    if (kind === 'WebAssembly.Instance')
      return `pass \`instance.exports.${memoryIn(value.exports)}\``
    if (kind === 'WebAssembly.Module')
      return 'make an instance of the module, and pass the memory that it exports'
    if (kind === 'promise') return AWAIT
    if (kind === 'GuardedMemory') return 'it is one already: use it as it is'
    if (kind === 'PooledInstance') return 'pass its `memory`, which is a GuardedMemory already'
    if (kind === 'HostRegion') return 'make a memory first; its `map(region)` maps the region'
    if (kind === 'undefined')
      return 'does the module export its memory, and by this name? See Object.keys(instance.exports)'
    const inner = ownOf(value, 'instance')
    if (kindOf(inner) === 'WebAssembly.Instance')
      return `pass \`instance.exports.${memoryIn(inner.exports)}\` of it`
    const name = memoryIn(value, null)
    if (name !== null) return `pass \`exports.${name}\``
    if (kindOf(ownOf(value, 'HEAPU8')) === 'Uint8Array') return 'pass () => Module.HEAPU8.buffer'
    return undefined
  },

  bytes(value) {
    const kind = kindOf(value)
    if (kind === 'string')
      return 'for a text, pass Buffer.from(text); for a file, HostRegion.open(path) or load(path)'
    if (kind === 'promise') return AWAIT
    if (kind === 'array') return 'pass Uint8Array.from(array)'
    if (kind === 'number') return 'HostRegion.allocate(byteLength) makes a region of zeros'
    if (kind === 'Blob' || kind === 'File' || kind === 'Response')
      return 'pass await it.arrayBuffer(); HostRegion.from(it) makes a region of it'
    if (kind === 'HostRegion') return 'pass its `bytes()`'
    if (kind === 'GuardedMemory' || kind === 'WebAssembly.Memory') return 'pass its `buffer`'
    return undefined
  },

  /** For what a source gave, one after another. */
  chunk(value) {
    const kind = kindOf(value)
    if (kind === 'string')
      return 'for texts, give Buffer.from(text); a stream with an encoding gives strings, too'
    if (kind === 'number' || kind === 'array')
      return 'for an array of numbers, pass Uint8Array.from(array)'
    if (kind === 'promise') return AWAIT
    if (kind === 'HostRegion') return 'give its `bytes()`'
    if (kind === 'Blob' || kind === 'File') return 'give await it.arrayBuffer()'
    return undefined
  },

  source(value) {
    const kind = kindOf(value)
    if (kind === 'string' || kind === 'URL')
      return 'for a file, HostRegion.open(path) or load(path); for a text, pass Buffer.from(text); for what a server has, await fetch(url)'
    if (kind === 'promise') return AWAIT
    if (kind === 'number')
      return 'HostRegion.allocate(byteLength) makes a region of zeros, and fromFd(fd) one over a file'
    if (kind === 'FileHandle')
      return 'HostRegion.fromFd(handle.fd) makes a region over the file; handle.createReadStream() gives a copy of it'
    if (kind === 'HostRegion') return 'it is one already; for a copy of it, pass its `bytes()`'
    if (kind === 'GuardedMemory' || kind === 'WebAssembly.Memory') return 'pass its `buffer`'
    if (['function', 'class'].includes(kind)) return 'call it, and pass what it gives'
    if (/^(Transform|Compression|Decompression|TextEncoder)Stream$/.test(kind))
      return 'pass its `readable`'
    return undefined
  },

  buffer(value) {
    const kind = kindOf(value)
    if (ArrayBuffer.isView(value)) return 'pass its `buffer`, all of which is adopted'
    if (kind === 'HostRegion') return 'a region is mapped, by `map(region)`'
    if (kind === 'GuardedMemory' || kind === 'WebAssembly.Memory') return 'pass its `buffer`'
    if (kind === 'array') return 'pass Uint8Array.from(array).buffer'
    if (kind === 'Blob' || kind === 'File' || kind === 'Response')
      return 'pass await it.arrayBuffer()'
    return kind === 'promise' ? AWAIT : undefined
  },

  view(value) {
    const kind = kindOf(value)
    if (types.isAnyArrayBuffer(value)) return 'pass new Uint8Array(it)'
    if (kind === 'number' || kind === 'bigint')
      return 'an address needs no look-up: pass it on as it is'
    if (kind === 'HostRegion')
      return 'pass what its `view()` or `bytes()` gave; `pointer` is where the mapping begins'
    if (kind === 'Mapping') return 'its `pointer` is where it begins'
    return kind === 'promise' ? AWAIT : undefined
  },

  module(value) {
    const kind = kindOf(value)
    if (kind === 'string' || kind === 'URL') return 'pass fs.readFileSync(path)'
    if (kind === 'promise') return AWAIT
    if (kind === 'WebAssembly.Module') return 'pass the bytes that it was compiled from'
    if (kind === 'WebAssembly.Instance') return 'pass the bytes of its module'
    if (kind === 'Response') return 'pass await response.arrayBuffer()'
    if (kindOf(ownOf(value, 'module')) === 'WebAssembly.Module') return 'pass its `module`'
    return undefined
  },

  snapshot(value) {
    const kind = kindOf(value)
    if (kind === 'string' || kind === 'URL') return 'pass await Snapshot.load(path)'
    if (kind === 'promise') return `${AWAIT}: Snapshot.load gives one`
    if (kind === 'InstancePool') return 'pass its `snapshot`'
    if (kind === 'number') return 'pass Snapshot.fromFd(fd)'
    return 'GuardedMemory.snapshot, Snapshot.of and Snapshot.load make one'
  },

  instance(value) {
    const kind = kindOf(value)
    if (kind === 'promise') return AWAIT
    if (kind === 'WebAssembly.Module') return 'make an instance of the module'
    if (kind === 'WebAssembly.Memory')
      return 'GuardedMemory.from(memory).snapshot() takes one of a memory alone'
    if (kind === 'GuardedMemory') return 'its `snapshot()` takes one of a memory alone'
    if (kindOf(ownOf(value, 'instance')) === 'WebAssembly.Instance') return 'pass its `instance`'
    if (memoryIn(value, null) !== null) return 'pass the instance itself, and not its exports'
    return undefined
  },

  exports(value) {
    if (kindOf(value) === 'WebAssembly.Instance') return 'pass its `exports`'
    return undefined
  },

  path(value) {
    const kind = kindOf(value)
    if (kind === 'number') return 'fromFd(fd) takes a file descriptor'
    if (kind === 'FileHandle') return 'fromFd(handle.fd) takes its descriptor'
    if (kind === 'promise') return AWAIT
    if (isBytes(value))
      return 'for a path in a Buffer pass its toString(); HostRegion.copyFrom(bytes) takes contents'
    return undefined
  },

  fd(value) {
    const kind = kindOf(value)
    if (kind === 'string' || kind === 'URL') return 'open(path) and load(path) take a path'
    if (kind === 'FileHandle') return 'pass its `fd`'
    if (kind === 'promise') return AWAIT
    if (kind === 'HostRegion' || kind === 'Snapshot')
      return 'use it as it is, or pass its descriptor'
    return undefined
  },

  /** The size of a region, of which somebody may think that it takes what is to be in it. */
  regionSize(value) {
    const kind = kindOf(value)
    if (isBytes(value)) return 'HostRegion.copyFrom(it) makes a region of these bytes'
    if (kind === 'array') return 'HostRegion.copyFrom(Float64Array.from(it)) makes a region of them'
    return instead.number(value)
  },

  number(value) {
    const kind = kindOf(value)
    if (kind === 'bigint') return 'pass Number(it)'
    if (kind === 'string') {
      if (value.trim() !== '' && Number.isFinite(Number(value))) return `pass ${Number(value)}`
      const unit = /^\s*(\d+)\s*([KMGT])i?B?\s*$/i.exec(value)
      if (unit === null) return undefined
      const power = 10 * (1 + 'KMGT'.indexOf(unit[2].toUpperCase()))
      return `pass ${unit[1] === '1' ? '' : `${unit[1]} * `}2 ** ${power}`
    }
    return kind === 'promise' ? AWAIT : undefined
  },

  signal(value) {
    return kindOf(value) === 'AbortController' ? 'pass its `signal`' : undefined
  },

  allocator(value) {
    const kind = kindOf(value)
    if (kind === 'function') return 'pass { malloc, free }'
    if (kind === 'WebAssembly.Instance') return allocatorIn(value.exports, 'instance.exports')
    return allocatorIn(value, 'exports')
  },

  list(value) {
    return kindOf(value) === 'string' ? `pass [${inspect(value)}]` : undefined
  }
}

function allocatorIn(exports, called) {
  for (const [malloc, free] of [
    ['malloc', 'free'],
    ['_malloc', '_free']
  ]) {
    if (typeof ownOf(exports, malloc) === 'function' && typeof ownOf(exports, free) === 'function')
      return `pass { malloc: ${called}.${malloc}, free: ${called}.${free} }`
  }
  return undefined
}

/** The name that is at most two typing errors away (one in a short name). */
function nearestOf(name, names) {
  const most = name.length < 4 ? 1 : 2
  return names
    .map(other => [editsBetween(name.toLowerCase(), other.toLowerCase()), other])
    .filter(([edits, other]) => edits <= most || other.startsWith(name))
    .sort(([a], [b]) => a - b)[0]?.[1]
}

// Levenshtein's distance; where the lengths alone make it more than two, their difference, since
// what is given may be a text of any length. A package for these lines would be the only one that
// is needed at run time.
function editsBetween(a, b) {
  const least = Math.abs(a.length - b.length)
  if (least > 2) return least
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1))
    }
    row = next
  }
  return row[b.length]
}

// A property of its own, if it is no getter.
function ownOf(value, key) {
  if (value === null || typeof value !== 'object') return undefined
  try {
    return Object.getOwnPropertyDescriptor(value, key)?.value
  } catch {
    return undefined
  }
}

/** By which name a module's exports have a memory. */
function memoryIn(exports, otherwise = 'memory') {
  if (exports === null || typeof exports !== 'object') return otherwise
  try {
    const isMemory = name => kindOf(ownOf(exports, name)) === 'WebAssembly.Memory'
    return Object.getOwnPropertyNames(exports).find(isMemory) ?? otherwise
  } catch {
    return otherwise
  }
}

module.exports = { received, instead, nearestOf }
