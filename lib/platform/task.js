'use strict'

const native = require('./binding.js')
const { abortError, fromNative } = require('../support/errors.js')
const { isAborted, onAbort } = require('../support/signals.js')

// How often progress is told.
const PROGRESS_INTERVAL_MS = 100

/**
 * Waits for what `start` begins with a native task, which a signal ends early. `what`: for the
 * error then. An `onProgress` that throws ends it too, with what it threw.
 */
async function runTask(start, what, signal, onProgress) {
  if (signal?.aborted) throw abortError(signal, what)
  const task = new native.NativeTask()
  const cancel = () => task.cancel()
  let thrown
  const tell = () => {
    // Before the task has begun there is nothing to tell.
    if (task.totalBytes === 0) return
    try {
      onProgress(task.doneBytes, task.totalBytes)
    } catch (error) {
      thrown ??= { error }
      cancel()
    }
  }
  const check = () => {
    if (thrown !== undefined) throw thrown.error
    if (isAborted(signal)) throw abortError(signal, what)
  }
  const deafen = onAbort(signal, cancel)
  const timer = onProgress === undefined ? undefined : setInterval(tell, PROGRESS_INTERVAL_MS)
  const stop = () => {
    clearInterval(timer)
    return deafen()
  }
  let made
  try {
    made = await start(task)
  } catch (error) {
    stop()
    check()
    throw fromNative(error)
  }
  const failed = stop()
  try {
    // What was loaded when the end came is given up; what was done, stays done.
    if (made !== undefined && made !== null) check()
    if (failed !== undefined) throw failed.error
  } catch (error) {
    made?.close?.()
    throw error
  }
  return made
}

module.exports = { PROGRESS_INTERVAL_MS, runTask }
