'use strict'

// Bytes behind an HTTP server, by ranges. One version of them: whatever tells of another is an
// error. A body that ends early goes on where it has ended.

const dns = require('node:dns')
const http = require('node:http')
const https = require('node:https')
const { setTimeout: sleep } = require('node:timers/promises')
const { providerFailed, textOf } = require('../failure.js')
const { requestRange, wordsOf } = require('./http-request.js')

const FIRST_PAUSE_MS = 100
const MOST_PAUSE_MS = 10_000
// A server's address that was good, but for other than one that moves. After that a new one is
// waited for, but not for long.
const LOOKUP_MS = 60_000
const LOOKUP_WAIT_MS = 200
const DEFAULT_CHUNK_BYTES = 256 * 2 ** 10
const MOST_REQUEST_BYTES = 4 * 2 ** 20
// How long one answer may take, in times of `stallMs`: one byte now and then is no progress.
const MOST_STALLS = 10
// How long the end of an answer is waited for when all of its bytes are here.
const END_MS = 500
// What a redirect led to may have expired: then the way there is gone again.
const EXPIRED = new Set([401, 403, 404, 410])

/**
 * Remembers where hosts are: a lookup takes a thread of libuv's few, and all of them may stand
 * still in touches that wait for this. Then an old answer must do.
 */
function rememberingLookup() {
  const found = new Map()
  const lookup = (host, wanted, callback) => {
    const key = JSON.stringify([host, wanted.all, wanted.family, wanted.hints])
    const known = found.get(key)
    if (known !== undefined && Date.now() - known.atMs < LOOKUP_MS) {
      return process.nextTick(callback, null, ...known.answer)
    }
    let isAnswered = false
    const finish = (...said) => {
      if (isAnswered) return
      isAnswered = true
      clearTimeout(timer)
      callback(...said)
    }
    const timer = known && setTimeout(() => finish(null, ...known.answer), LOOKUP_WAIT_MS)
    dns.lookup(host, wanted, (error, ...answer) => {
      // An old answer is better than none.
      if (error && known !== undefined) return finish(null, ...known.answer)
      if (!error) found.set(key, { answer, atMs: Date.now() })
      finish(error, ...answer)
    })
  }
  return { lookup, forget: () => found.forEach(entry => (entry.atMs = 0)) }
}

async function open(spec, { concurrency, signal, told }) {
  const url = new URL(spec.url)
  const { username, password } = url
  const auth =
    username === '' ? undefined : `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  url.username = url.password = ''
  url.hash = ''
  const agent = { keepAlive: true, maxSockets: concurrency, maxFreeSockets: concurrency }
  const source = {
    ...rememberingLookup(),
    url,
    auth,
    headers: spec.headers,
    stallMs: spec.stallMs,
    agents: { 'http:': new http.Agent(agent), 'https:': new https.Agent(agent) }
  }
  const provider = new HttpProvider(source, spec, told)
  try {
    await provider.open(signal)
  } catch (error) {
    provider.close()
    throw error
  }
  return provider
}

class HttpProvider {
  #source
  #retries
  #immutable
  #told
  // Where the redirects led to.
  #url
  #version

  constructor(source, { retries, immutable }, told) {
    this.#source = source
    this.#url = source.url
    this.#retries = retries
    this.#immutable = immutable
    this.#told = told
  }

  get byteLength() {
    return this.#version.total
  }

  get identity() {
    const { etag, lastModified, total } = this.#version
    if (etag === undefined && lastModified === undefined) return undefined
    // The address that was given: what a redirect leads to may be another one each time.
    return ['http', this.#source.url.href, etag ?? lastModified, total]
  }

  get defaultChunkBytes() {
    return DEFAULT_CHUNK_BYTES
  }

  get mostBytes() {
    return MOST_REQUEST_BYTES
  }

  async open(signal) {
    await this.#patiently(signal, async () => {
      const { url, response, ...version } = await this.#ask(this.#source.url, 0, 0, signal)
      await this.#pour(response, 1, () => {}, url, signal)
      this.#url = url
      this.#version = version
    })
    const { etag, lastModified } = this.#version
    if (etag === undefined && lastModified === undefined && !this.#immutable) {
      throw providerFailed(
        `${wordsOf(this.#url)} has neither a strong ETag nor Last-Modified, by which a change could ` +
          'be noticed; pass provider.immutable: true if it never changes'
      )
    }
  }

  async read(byteOffset, byteLength, sink, signal) {
    const end = byteOffset + byteLength
    await this.#patiently(signal, async progress => {
      sink.restart()
      const first = end - sink.left
      const { url, response } = await this.#ask(this.#url, first, end - 1, signal)
      this.#url = url
      const due = sink.left
      try {
        await this.#pour(response, due, chunk => sink.write(chunk), url, signal)
      } finally {
        // Half a chunk is no progress: it is fetched anew.
        sink.restart()
        if (sink.left < due) progress()
      }
    })
  }

  close() {
    for (const agent of Object.values(this.#source.agents)) agent.destroy()
  }

  #pour(response, byteLength, take, url, signal) {
    const { stallMs } = this.#source
    return pour(response, byteLength, take, { where: wordsOf(url), stallMs, signal })
  }

  async #ask(url, first, last, signal) {
    const what = { first, last, version: this.#version, signal }
    try {
      return await requestRange(this.#source, url, what)
    } catch (error) {
      const isMoved = url.href !== this.#source.url.href && EXPIRED.has(error.status)
      if (!isMoved) throw error
      return requestRange(this.#source, this.#source.url, what)
    }
  }

  /** Tries again what may succeed then. Each time that it got further, the count begins anew. */
  async #patiently(signal, attempt) {
    let failed = 0
    for (;;) {
      try {
        return await attempt(() => (failed = 0))
      } catch (error) {
        if (signal.aborted || !error.isTransient || failed >= this.#retries) throw error
        // Not all at the same moment, if there are many.
        const pause = Math.min(MOST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failed)
        const pauseMs = error.retryAfterMs ?? pause * (0.5 + Math.random() / 2)
        failed++
        this.#told.retry()
        await sleep(pauseMs, undefined, { signal })
      }
    }
  }
}

/**
 * A body of `byteLength` bytes, each piece to `take`. One that stalls, ends early or goes on longer
 * is an error; so is one that trickles. One that has all of its bytes and no end is none.
 */
function pour(response, byteLength, take, { where, stallMs, signal }) {
  return new Promise((resolve, reject) => {
    let left = byteLength
    const fail = (message, extra) => {
      stop()
      response.destroy()
      reject(providerFailed(`${where} ${message}`, extra))
    }
    const failTransiently = message => fail(message, { isTransient: !signal.aborted })
    // However the answer ends: what counts is whether all of its bytes are here.
    const end = message => {
      if (left > 0) return failTransiently(message)
      stop()
      resolve()
    }
    const drop = () => {
      response.destroy()
      end()
    }
    let stalled = setTimeout(() => failTransiently(`has sent nothing for ${stallMs} ms`), stallMs)
    const late = setTimeout(
      () => failTransiently(`has taken longer than ${stallMs * MOST_STALLS} ms for an answer`),
      stallMs * MOST_STALLS
    )
    const stop = () => {
      clearTimeout(stalled)
      clearTimeout(late)
    }
    response.on('data', chunk => {
      if (chunk.length > left) return fail('sends more bytes than it was asked for')
      left -= chunk.length
      if (left > 0) stalled.refresh()
      else {
        clearTimeout(stalled)
        stalled = setTimeout(drop, END_MS)
      }
      try {
        take(chunk)
      } catch (error) {
        stop()
        response.destroy()
        reject(error)
      }
    })
    response.on('error', error => end(`has broken off: ${textOf(error)}`))
    for (const event of ['end', 'close']) {
      response.once(event, () => end(`has ended its answer ${left} bytes too early`))
    }
    response.resume()
  })
}

module.exports = { open }
