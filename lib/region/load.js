'use strict'

// HostRegion.load: a copy of a file, made by another thread.

const native = require('../platform/binding.js')
const { runTask } = require('../platform/task.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')

/** What the caller gave, checked. */
function optionsOfLoad(path, options) {
  const text = check.path(path)
  const { byteOffset = 0, hugePages = true, ...rest } = read.load(options)
  const given = { ...rest, path: text, byteOffset, hugePages }
  check.wholeNumber(given.byteOffset, 'options.byteOffset')
  check.optional(given.byteLength, check.wholeNumber, 'options.byteLength', 1)
  check.optional(given.name, check.regionName, 'options.name')
  check.boolean(given.hugePages, 'options.hugePages')
  check.optional(given.signal, check.abortSignal, 'options.signal')
  check.optional(given.onProgress, check.callback, 'options.onProgress')
  return given
}

/** Gives what the native part made. */
function load({ path, byteOffset, byteLength, name, hugePages, signal, onProgress }) {
  return runTask(
    task => native.NativeRegion.load(task, path, byteOffset, byteLength, name, hugePages),
    `The load of ${path}`,
    signal,
    onProgress
  )
}

module.exports = { optionsOfLoad, load }
