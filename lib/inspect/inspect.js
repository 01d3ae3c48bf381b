'use strict'

// inspect(): what is where in this process, as plain data of one moment. Holds nothing, changes
// nothing, and costs nothing as long as it is not called: what it lists is what the native part and
// the registries have anyway.

const { threadId } = require('node:worker_threads')
const { VERSION } = require('../platform/place.js')
const { PAGE_BYTES } = require('../platform/pages.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError } = require('../support/errors.js')
const { readMap } = require('../process/map.js')
const { PageMap } = require('../process/pages.js')
const { residentOfAll } = require('../process/resident.js')
const { addResident } = require('../process/attribute.js')
const { seenObjects } = require('./objects.js')

// What the readers of saved inspections go by.
const FORMAT = 'wasm-hostmap.inspection'
const FORMAT_VERSION = 1

function inspect(options) {
  const { processMap = true, pages = false } = read.inspect(options)
  check.boolean(processMap, 'options.processMap')
  check.boolean(pages, 'options.pages')
  const takenAt = new Date().toISOString()
  const objects = seenObjects()
  const head = {
    format: FORMAT,
    version: FORMAT_VERSION,
    takenAt,
    pid: process.pid,
    threads: [threadId],
    hostmap: VERSION,
    runtime: `Node.js ${process.version}`,
    pageBytes: PAGE_BYTES
  }
  if (!processMap) return { ...head, ...objects, resident: null, processMap: null }
  const map = mapOfThisProcess()
  const pageMap = pageMapOfThisProcess()
  try {
    addResident(objects, map, pageMap)
    const shown = pages ? map.map(it => ({ ...it, pages: pageMap?.runsOf(it) ?? null })) : map
    return { ...head, ...objects, resident: residentOfAll(map), processMap: shown }
  } finally {
    pageMap?.close()
  }
}

function mapOfThisProcess() {
  try {
    return readMap('self')
  } catch (cause) {
    const { syscall, errno, message } = cause
    throw makeError(
      'ERR_HOSTMAP_READ_FAILED',
      `the process's map, /proc/self/smaps, can't be read: ${message}; inspect({ processMap: false }) does without it`,
      { syscall, errno, cause }
    )
  }
}

/** Without it, figures of parts of an entry are not as exact. */
function pageMapOfThisProcess() {
  try {
    return new PageMap('self', PAGE_BYTES)
  } catch {
    return undefined
  }
}

module.exports = { inspect }
