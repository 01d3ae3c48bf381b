'use strict'

// What providers fail with. It crosses from the worker to the region's thread as plain data, and
// is bounded: texts may be a server's.

const { makeError } = require('../support/errors.js')

const MOST_MESSAGE = 500

/** `extra`: `isTransient` where trying again may help, `retryAfterMs` where a server said when. */
function failure(code, message, extra) {
  return makeError(code, message.slice(0, MOST_MESSAGE), extra)
}

const providerFailed = (message, extra) => failure('ERR_HOSTMAP_PROVIDER_FAILED', message, extra)
const sourceChanged = message => failure('ERR_HOSTMAP_SOURCE_CHANGED', message)
const wrongLength = message => failure('ERR_HOSTMAP_SOURCE_LENGTH', message)

/** The text of whatever was thrown. */
function textOf(thrown) {
  try {
    const text = typeof thrown?.message === 'string' ? thrown.message : String(thrown)
    const code = typeof thrown?.code === 'string' && !text.includes(thrown.code) ? thrown.code : ''
    return (text === '' ? code || 'an error without a message' : text).slice(0, MOST_MESSAGE)
  } catch {
    return 'something that has no text'
  }
}

/** An error as plain data; `errorOf` makes it anew on the other side. */
function dataOf(error) {
  try {
    const code = typeof error?.code === 'string' ? error.code : ''
    const isOurs = code.startsWith('ERR_HOSTMAP_')
    return {
      code: isOurs ? code : 'ERR_HOSTMAP_PROVIDER_FAILED',
      message: textOf(error),
      cause: isOurs && error.cause !== undefined ? textOf(error.cause) : undefined
    }
  } catch {
    // A getter that throws, say.
    return { code: 'ERR_HOSTMAP_PROVIDER_FAILED', message: textOf(error) }
  }
}

function errorOf({ code, message, cause }) {
  return makeError(code, message, cause === undefined ? undefined : { cause: new Error(cause) })
}

module.exports = { failure, providerFailed, sourceChanged, wrongLength, textOf, dataOf, errorOf }
