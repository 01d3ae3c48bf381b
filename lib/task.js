'use strict'

const { abortError, fromNative } = require('./errors.js')

/** Waits for what `start` begins with a native task, which a signal ends early. `what`: for the error then. */
async function runTask(task, signal, what, start) {
  if (signal?.aborted) throw abortError(signal, what)
  const cancel = () => task.cancel()
  signal?.addEventListener('abort', cancel, { once: true })
  try {
    return await start()
  } catch (error) {
    throw signal?.aborted ? abortError(signal, what) : fromNative(error)
  } finally {
    signal?.removeEventListener('abort', cancel)
  }
}

module.exports = { runTask }
