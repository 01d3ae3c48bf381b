'use strict'

// One request for a range of bytes, over as many redirects as are allowed. Everything that a server
// says is checked here, before a byte of its body counts.

const http = require('node:http')
const https = require('node:https')
const { providerFailed, sourceChanged, wrongLength, textOf } = require('../failure.js')

const MOST_REDIRECTS = 5
// Of a body that is of no use: an error's page.
const MOST_IGNORED_BYTES = 64 * 2 ** 10
const MOST_IGNORED_MS = 1000
const TRANSIENT = new Set([408, 425, 429, 500, 502, 503, 504])
const REDIRECTS = new Set([301, 302, 303, 307, 308])
// No date is believed that is further away.
const MOST_RETRY_AFTER_MS = 60_000

const CONTENT_RANGE = /^bytes (?<first>\d{1,15})-(?<last>\d{1,15})\/(?<total>\d{1,15}|\*)$/i

/** What is said of an address: without a password or a query, which may be a key. */
function wordsOf(url) {
  return `${url.origin}${url.pathname}`.slice(0, 200)
}

/**
 * The response that has bytes `first` to `last`, both included, checked but for its body: `{ url,
 * response, total, etag, lastModified }`. Its body is paused.
 *
 * @param version what earlier responses said, or undefined for the first one
 */
async function requestRange(source, url, { first, last, version, signal }) {
  let at = url
  for (let hop = 0; hop <= MOST_REDIRECTS; hop++) {
    const response = await answer(source, at, { first, last, version, signal })
    if (!REDIRECTS.has(response.statusCode)) {
      return { url: at, response, ...checked(response, at, { first, last, version }) }
    }
    ignore(response)
    at = next(at, response)
  }
  throw providerFailed(`${wordsOf(url)} was redirected more than ${MOST_REDIRECTS} times`)
}

function next(url, { headers }) {
  let to
  try {
    to = new URL(headers.location, url)
  } catch {
    throw providerFailed(`${wordsOf(url)} is redirected to what is no address`)
  }
  if (to.protocol !== 'http:' && to.protocol !== 'https:') {
    throw providerFailed(`${wordsOf(url)} is redirected to ${to.protocol}, which is not followed`)
  }
  if (url.protocol === 'https:' && to.protocol === 'http:') {
    throw providerFailed(`${wordsOf(url)} is redirected to an address without https`)
  }
  return to
}

function answer(source, url, { first, last, version, signal }) {
  const { request } = url.protocol === 'https:' ? https : http
  const headers = {
    'accept-encoding': 'identity',
    // What a caller has given is for the host that he has named.
    ...(url.origin === source.url.origin ? source.headers : undefined),
    range: `bytes=${first}-${last}`
  }
  const condition = version?.etag ?? version?.lastModified
  if (condition !== undefined) headers['if-range'] = condition
  return new Promise((resolve, reject) => {
    const sent = request(url, {
      headers,
      agent: source.agents[url.protocol],
      lookup: source.lookup,
      auth: url.origin === source.url.origin ? source.auth : undefined,
      signal
    })
    const gone = message => {
      clearTimeout(timer)
      const error = providerFailed(`${wordsOf(url)} ${message}`, { isTransient: true })
      sent.destroy(error)
      reject(error)
    }
    const timer = setTimeout(
      () => gone(`has not answered within ${source.stallMs} ms`),
      source.stallMs
    )
    sent.once('response', response => {
      clearTimeout(timer)
      response.pause()
      resolve(response)
    })
    // For as long as it lives: an error that comes after the response is the response's, too.
    sent.on('error', error => {
      clearTimeout(timer)
      source.forget()
      if (error.code?.startsWith('ERR_HOSTMAP_')) return reject(error)
      reject(
        providerFailed(`${wordsOf(url)} can't be read: ${textOf(error)}`, {
          cause: error,
          isTransient: !signal.aborted
        })
      )
    })
    // An answer that is none, such as an upgrade, comes without an error.
    sent.once('close', () => gone('has closed the connection'))
    sent.end()
  })
}

/** Reads what little there may be, so that the connection can be used again. */
function ignore(response) {
  let left = MOST_IGNORED_BYTES
  response.on('error', () => {})
  response.on('data', ({ length }) => {
    left -= length
    if (left < 0) response.destroy()
  })
  const timer = setTimeout(() => response.destroy(), MOST_IGNORED_MS)
  response.once('close', () => clearTimeout(timer))
  response.resume()
}

/** Of a body that is not wanted: the whole file, say. */
function refuse(response, error) {
  response.on('error', () => {})
  response.destroy()
  throw error
}

function checked(response, url, { first, last, version }) {
  const { statusCode: status, headers } = response
  const where = wordsOf(url)
  if (TRANSIENT.has(status)) {
    ignore(response)
    throw providerFailed(`${where} has answered with the status ${status}`, {
      isTransient: true,
      retryAfterMs: retryAfter(headers['retry-after'])
    })
  }
  if (status === 200) {
    const changed = version !== undefined && !isSame(headers, version)
    refuse(
      response,
      changed
        ? sourceChanged(`${where} has changed since it was opened; open the region again`)
        : providerFailed(
            `${where} ignores ranges: it answered 200 with all of its bytes, and not 206; ` +
              'fetch it whole, with HostRegion.from'
          )
    )
  }
  if (status === 416) {
    const isEmpty = headers['content-range']?.trim() === 'bytes */0'
    if (version !== undefined) refuse(response, sourceChanged(`${where} has become shorter`))
    refuse(
      response,
      isEmpty
        ? wrongLength(`${where} has no bytes`)
        : providerFailed(`${where} has answered with the status 416`)
    )
  }
  if (status !== 206) {
    ignore(response)
    throw providerFailed(`${where} has answered with the status ${status}`, { status })
  }
  const coding = headers['content-encoding']?.trim().toLowerCase() ?? 'identity'
  if (coding !== 'identity') {
    refuse(response, providerFailed(`${where} packs its bytes (${coding}), though not asked to`))
  }
  const given = CONTENT_RANGE.exec(headers['content-range']?.trim() ?? '')?.groups
  if (given === undefined || given.total === '*') {
    const said = headers['content-range']
    const what = said === undefined ? 'no Content-Range' : `the Content-Range "${said}"`
    refuse(response, providerFailed(`${where} sends ${what}, by which nothing can be placed`))
  }
  const total = Number(given.total)
  if (version !== undefined && (total !== version.total || !isSame(headers, version))) {
    refuse(
      response,
      sourceChanged(`${where} has changed since it was opened; open the region again`)
    )
  }
  if (Number(given.first) !== first || Number(given.last) !== Math.min(last, total - 1)) {
    refuse(
      response,
      providerFailed(
        `${where} sends bytes ${given.first} to ${given.last} where ${first} to ${last} were asked for`
      )
    )
  }
  return { total, etag: strongTag(headers.etag), lastModified: headers['last-modified'] }
}

const strongTag = tag => (/^"[^"]*"$/.test(tag?.trim() ?? '') ? tag.trim() : undefined)

/** Whether a response tells of the version that was there first. */
const isSame = (headers, { etag, lastModified }) =>
  etag === undefined
    ? lastModified === undefined || headers['last-modified'] === lastModified
    : headers.etag?.trim() === etag

function retryAfter(text) {
  if (typeof text !== 'string') return undefined
  const ms = /^\s*\d{1,9}\s*$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now()
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), MOST_RETRY_AFTER_MS) : undefined
}

module.exports = { requestRange, wordsOf }
