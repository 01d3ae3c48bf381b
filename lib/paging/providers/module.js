'use strict'

// Bytes that a module of the caller's makes or gets. It may do anything, so all that it gives is
// checked, and no buffer that it can still write to is used again.

const { createHash } = require('node:crypto')
const { types } = require('node:util')
const v8 = require('node:v8')
const { failure, providerFailed, wrongLength, textOf } = require('../failure.js')

const DEFAULT_CHUNK_BYTES = 256 * 2 ** 10

// The errors of calls that took too long.
const timeouts = new WeakSet()
const isTimeout = error => timeouts.has(error)

const SHAPE = 'open(data), which gives an object with read(byteOffset, target, { signal })'

async function open({ module: url, data }, { timeoutMs, isIdentified, signal }) {
  // Before the module has it, which may change it.
  const dataDigest = isIdentified ? digestOf(data) : null
  const opened = await inTime('open', timeoutMs, signal, new Context(), async () => {
    let exported
    try {
      exported = await import(url)
    } catch (error) {
      throw providerFailed(`the provider's module can't be loaded: ${textOf(error)}`, {
        cause: error
      })
    }
    const make = openOf(exported)
    if (make === undefined) {
      throw providerFailed(`the provider's module must export as its default ${SHAPE}`)
    }
    try {
      return await make(data)
    } catch (error) {
      throw providerFailed(`the provider's open has failed: ${textOf(error)}`, { cause: error })
    }
  })
  if (typeof opened?.read !== 'function') {
    throw providerFailed("the provider's open must give an object with a function read")
  }
  return new ModuleProvider(url, opened, { timeoutMs, dataDigest })
}

/** Shared memory changes while it is used, and says nothing of which bytes a provider gives. */
class DataSerializer extends v8.DefaultSerializer {
  _getSharedArrayBufferId() {
    return 0
  }

  _writeHostObject(value) {
    if (ArrayBuffer.isView(value) && types.isSharedArrayBuffer(value.buffer)) this.writeUint32(0)
    else super._writeHostObject(value)
  }
}

/** `null` for what has no bytes to compare, a port say. */
function digestOf(data) {
  const serializer = new DataSerializer()
  try {
    serializer.writeValue(data)
  } catch {
    return null
  }
  return createHash('sha256').update(serializer.releaseBuffer()).digest('hex')
}

function openOf(exported) {
  // A CommonJS module's `exports.default` comes as the default's default.
  for (const found of [exported.default, exported.default?.default]) {
    if (typeof found === 'function') return found
    if (typeof found?.open === 'function') return data => found.open(data)
  }
  return typeof exported.open === 'function' ? exported.open : undefined
}

class ModuleProvider {
  #url
  #opened
  #timeoutMs
  #dataDigest
  #byteLength
  #version

  constructor(url, opened, { timeoutMs, dataDigest }) {
    this.#url = url
    this.#opened = opened
    this.#timeoutMs = timeoutMs
    this.#dataDigest = dataDigest
    const { byteLength, version } = opened
    if (byteLength !== undefined && !(Number.isSafeInteger(byteLength) && byteLength > 0)) {
      throw providerFailed(
        "the byteLength that the provider's open gives must be a whole number from 1 on"
      )
    }
    if (version !== undefined && typeof version !== 'string') {
      throw providerFailed("the version that the provider's open gives must be a string")
    }
    this.#byteLength = byteLength
    this.#version = version
  }

  get byteLength() {
    return this.#byteLength
  }

  get identity() {
    if (this.#version === undefined) return undefined
    return ['module', this.#url, this.#version, this.#dataDigest]
  }

  get defaultChunkBytes() {
    return DEFAULT_CHUNK_BYTES
  }

  /** One chunk at a time. */
  get mostBytes() {
    return 0
  }

  async read(byteOffset, byteLength, sink, signal) {
    const target = sink.space
    const context = new Context()
    let count
    try {
      count = this.#opened.read(byteOffset, target, context)
      // One that has it all at once needs no timer.
      if (typeof count === 'object' && count !== null) {
        const answer = count
        count = await inTime('read', this.#timeoutMs, signal, context, () => answer)
      }
    } catch (error) {
      sink.abandon()
      if (isTimeout(error) || signal.aborted) throw error
      // Whatever code it has: it is the provider's.
      throw providerFailed(`the provider's read has failed: ${textOf(error)}`, { cause: error })
    }
    if (target.byteLength !== byteLength) {
      sink.abandon()
      throw providerFailed("the provider's read must not transfer its target")
    }
    if (count !== byteLength) {
      sink.abandon()
      const said = typeof count === 'number' ? `${count} bytes` : `${typeof count}, no number`
      throw wrongLength(
        `the provider's read gives ${said} where it must fill all ${byteLength} bytes of its target`
      )
    }
    sink.seize()
    sink.add(byteLength)
  }

  async close() {
    await this.#opened.close?.()
  }
}

/** What a read is told beside. Most never look at it, and a signal takes some microseconds. */
class Context {
  #controller
  #reason

  get signal() {
    this.#controller ??= new AbortController()
    if (this.#reason !== undefined) this.#controller.abort(this.#reason)
    return this.#controller.signal
  }

  static abort(context, reason) {
    context.#reason = reason
    context.#controller?.abort(reason)
  }
}

/** What a call gives, or an error after a time, or when the signal says so: `context` is told. */
function inTime(what, timeoutMs, signal, context, call) {
  return new Promise((resolve, reject) => {
    const end = error => {
      settle(reject)(error)
      Context.abort(context, error)
    }
    const abort = () => end(signal.reason)
    const timer = setTimeout(() => {
      const message = `the provider's ${what} has not answered within ${timeoutMs} ms`
      const error = failure('ERR_HOSTMAP_PROVIDER_FAILED', message)
      timeouts.add(error)
      end(error)
    }, timeoutMs)
    signal.addEventListener('abort', abort, { once: true })
    const settle = settled => value => {
      clearTimeout(timer)
      signal.removeEventListener('abort', abort)
      settled(value)
    }
    try {
      Promise.resolve(call()).then(settle(resolve), settle(reject))
    } catch (error) {
      settle(reject)(error)
    }
  })
}

module.exports = { open }
