'use strict'

// The options of `HostRegion.paged`, as plain data for the worker.

const path = require('node:path')
const { pathToFileURL } = require('node:url')
const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError } = require('../support/errors.js')
const { outOfRange, wrongType, wrongValue } = require('../support/wrong.js')

const KINDS = ['url', 'frames', 'module']
// A few bytes are kept of each.
const MOST_CHUNKS = 2 ** 28
const MOST_CHUNK_BYTES = 2 ** 30
// A touch of two chunks at a time, by many threads, must find both.
const FEWEST_CACHED_CHUNKS = 16
const MOST_TIMEOUT_MS = 2 ** 31 - 1
const MOST_CONCURRENCY = 64

const DEFAULT_CONCURRENCY = 4
const DEFAULT_TIMEOUT_MS = 30_000
const DEFAULT_READ_AHEAD_BYTES = 16 * 2 ** 20
const DEFAULT_STALL_MS = 10_000
const DEFAULT_RETRIES = 4
const MOST_RETRIES = 100

// What this sets by itself.
const OWN_HEADERS = [
  'range',
  'if-range',
  'accept-encoding',
  'connection',
  'content-length',
  'host',
  'transfer-encoding'
]
const HEADER_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const NOT_IN_HEADER = /[^\t\x20-\x7e\x80-\xff]/

function optionsOfPaged(options) {
  const given = read.paged(options)
  const { byteLength, chunkBytes, cacheBytes, name = 'region', signal, userfaultfd } = given
  const {
    timeoutMs = DEFAULT_TIMEOUT_MS,
    concurrency = DEFAULT_CONCURRENCY,
    readAheadBytes = DEFAULT_READ_AHEAD_BYTES
  } = given
  const provider = providerOf(given.provider)
  check.optional(byteLength, check.regionSize, 'options.byteLength')
  check.optional(chunkBytes, chunkSize, 'options.chunkBytes')
  check.optional(cacheBytes, check.wholeNumber, 'options.cacheBytes', 1)
  check.wholeNumber(readAheadBytes, 'options.readAheadBytes')
  check.wholeNumber(concurrency, 'options.concurrency', 1, MOST_CONCURRENCY)
  check.wholeNumber(timeoutMs, 'options.timeoutMs', 1, MOST_TIMEOUT_MS)
  check.regionName(name, 'options.name')
  check.optional(userfaultfd, check.boolean, 'options.userfaultfd')
  check.optional(signal, check.abortSignal, 'options.signal')
  const diskCache = diskCacheOf(given.diskCache)
  return {
    ...provider,
    byteLength,
    chunkBytes,
    cacheBytes,
    readAheadBytes,
    concurrency,
    timeoutMs,
    diskCache,
    name,
    userfaultfd,
    signal
  }
}

function chunkSize(value, called) {
  const page = native.hostPageSize()
  check.wholeNumber(value, called, page, MOST_CHUNK_BYTES)
  if (value % page === 0) return value
  throw outOfRange(called, `a multiple of ${page}, the bytes of a host page`, value)
}

function mustFitChunks(byteLength, chunkBytes) {
  if (byteLength / chunkBytes <= MOST_CHUNKS) return
  throw outOfRange(
    'options.chunkBytes',
    `at least ${Math.ceil(byteLength / MOST_CHUNKS)}, so that ${byteLength} bytes are at most ${MOST_CHUNKS} chunks`,
    chunkBytes
  )
}

/** What is cached must leave room for touches at the same time. */
function mustFitCache(cacheBytes, chunkBytes) {
  const least = FEWEST_CACHED_CHUNKS * chunkBytes
  if (cacheBytes === undefined || cacheBytes >= least) return
  throw outOfRange(
    'options.cacheBytes',
    `at least ${least}, ${FEWEST_CACHED_CHUNKS} chunks of ${chunkBytes} bytes`,
    cacheBytes
  )
}

const EXPECTED = 'an object with url, frames or module'

function providerOf(value) {
  if (!check.isObject(value) || check.isArray(value)) {
    throw wrongType('options.provider', EXPECTED, value)
  }
  const kinds = KINDS.filter(kind => value[kind] !== undefined)
  if (kinds.length !== 1) {
    const what = kinds.length === 0 ? 'none of them' : kinds.join(' and ')
    throw makeError(
      'ERR_INVALID_ARG_VALUE',
      `options.provider must have one of url, frames and module; it has ${what}`
    )
  }
  return PROVIDERS[kinds[0]](value)
}

const PROVIDERS = {
  url(value) {
    const called = 'options.provider'
    const { url, headers, retries, stallMs, immutable } = read.httpProvider(value, called)
    const spec = {
      url: httpUrl(url, `${called}.url`),
      headers: headersOf(headers, `${called}.headers`),
      retries: retries ?? DEFAULT_RETRIES,
      stallMs: stallMs ?? DEFAULT_STALL_MS,
      immutable: immutable ?? false
    }
    check.wholeNumber(spec.retries, `${called}.retries`, 0, MOST_RETRIES)
    check.wholeNumber(spec.stallMs, `${called}.stallMs`, 1, MOST_TIMEOUT_MS / 10)
    check.boolean(spec.immutable, `${called}.immutable`)
    return { kind: 'http', spec }
  },
  frames(value) {
    const called = 'options.provider'
    const { frames } = read.framesProvider(value, called)
    return {
      kind: 'frames',
      spec: { frames: path.resolve(check.path(frames, `${called}.frames`)) }
    }
  },
  module(value) {
    const called = 'options.provider'
    const { module, data } = read.moduleProvider(value, called)
    return { kind: 'module', spec: { module: moduleUrl(module, `${called}.module`), data } }
  }
}

function httpUrl(value, called) {
  const text = check.isObject(value) && typeof value.href === 'string' ? value.href : value
  if (typeof text !== 'string') throw wrongType(called, 'a string or a URL', value)
  let url
  try {
    url = new URL(text)
    // Throws where they are no percent-encoding.
    decodeURIComponent(url.username + url.password)
  } catch {
    throw wrongValue(called, 'a URL with its scheme and host', text)
  }
  if (url.protocol === 'http:' || url.protocol === 'https:') return url.href
  const remedy =
    url.protocol === 'file:'
      ? 'HostRegion.open maps a file, which is paged by the kernel'
      : undefined
  throw wrongValue(called, 'a http: or https: URL', text, remedy)
}

function headersOf(value, called) {
  if (value === undefined) return {}
  check.object(value, called)
  const entries = typeof value.entries === 'function' ? [...value.entries()] : Object.entries(value)
  return Object.fromEntries(
    entries.map(([name, text]) => {
      const where = `${called}['${String(name).slice(0, 50)}']`
      if (typeof text !== 'string') throw wrongType(where, 'a string', text)
      if (typeof name !== 'string' || !HEADER_NAME.test(name) || NOT_IN_HEADER.test(text)) {
        throw wrongValue(where, 'a name and a text as HTTP has them', text)
      }
      if (OWN_HEADERS.includes(name.toLowerCase())) {
        throw wrongValue(where, 'a header that paging does not set by itself', text)
      }
      return [name.toLowerCase(), text]
    })
  )
}

/** The address of a module, for the worker's `import`. */
function moduleUrl(value, called) {
  const text = check.isObject(value) && typeof value.href === 'string' ? value.href : value
  if (typeof text === 'string' && text.startsWith('data:')) return text
  if (typeof text === 'string' && text.startsWith('file:')) return text
  return pathToFileURL(path.resolve(check.path(value, called))).href
}

function diskCacheOf(value) {
  if (value === undefined) return undefined
  const isPath =
    typeof value === 'string' || (check.isObject(value) && typeof value.href === 'string')
  if (isPath) return { path: path.resolve(check.path(value, 'options.diskCache')) }
  const { path: file, key } = read.diskCache(value, 'options.diskCache')
  if (key !== undefined && typeof key !== 'string') {
    throw wrongType('options.diskCache.key', 'a string', key)
  }
  return { path: path.resolve(check.path(file, 'options.diskCache.path')), key }
}

module.exports = { optionsOfPaged, mustFitCache, mustFitChunks }
