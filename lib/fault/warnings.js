'use strict'

// The warnings that a process gives for faults: one for each mapping, window or view and kind of
// fault. They come from the native part, which calls when there are any. A warning must never
// throw.

const native = require('../platform/binding.js')
const { UNHEARD, begin, channels, note, tell } = require('../observe/events.js')

// The process may be done before its event loop gets to the reports. One listener, however many
// copies of this package.
function reportAtExit() {
  const key = Symbol.for('wasm-hostmap.reportAtExit')
  if (process[key] === undefined) {
    const reporters = new Set()
    Object.defineProperty(process, key, { __proto__: null, value: reporters })
    process.on('beforeExit', () => {
      for (const reporter of reporters) reporter()
    })
    process.on('exit', () => {
      for (const reporter of reporters) reporter(true)
    })
  }
  process[key].add(atExit => report(atExit))
}

// Each mapping and view is reported once. At the process's exit there is no next tick to wait for.
function report(atExit = false) {
  let reports
  try {
    reports = native.takeFaultReports()
  } catch {
    return
  }
  for (const found of reports) noteFaults(found)
  for (const found of reports) warnOf(atExit, found)
  tell()
}

// One event for each kind, as there is one warning.
function noteFaults(found) {
  const startTime = begin(channels.fault)
  if (startTime === UNHEARD) return
  const { regionName, address, byteLength, access, regionOffset, isWindow, isImage } = found
  const kinds = { strayWrite: 'stray-write', missingPage: 'missing-page', pastEnd: 'past-end' }
  for (const [name, kind] of Object.entries(kinds)) {
    if (!found[name]) continue
    note(channels.fault, startTime, {
      kind,
      where: isImage
        ? 'snapshot'
        : address === undefined
          ? 'view'
          : isWindow
            ? 'window'
            : 'mapping',
      name: regionName,
      address: address ?? null,
      byteLength,
      access,
      byteOffset: regionOffset ?? null
    })
  }
}

function warnOf(atExit, found) {
  const { regionName, address, byteLength, access, regionOffset, isWindow, isImage } = found
  if (isImage) {
    reportImage(atExit, found)
    return
  }
  const range = `[${address}, ${address + byteLength})`
  const isView = address === undefined
  const where = isView
    ? `a view of region "${regionName}" (${byteLength} bytes of whole pages)`
    : isWindow
      ? `the window at ${range}, where it showed ${regionName === '' ? 'nothing' : `region "${regionName}"`}`
      : `the '${access}' mapping of region "${regionName}" at ${range}`
  const object = isView ? 'region' : isWindow ? 'window' : 'mapping'
  const at = regionOffset === undefined ? '' : `, last at byte ${regionOffset} of the region`
  if (found.strayWrite) {
    warn(
      atExit,
      'HOSTMAP_STRAY_WRITE',
      `A write hit ${where}${isWindow ? ' read-only' : ', which is read-only'}${at}. It went to a private copy of the page, and the region is as it was. ` +
        (isView
          ? "Write to a copy of the bytes instead, or take them by region.bytes() with access 'private'."
          : `See ${object}.strayWrites and ${object}.lastFault; ${isWindow ? 'slide' : 'map'} with access 'private' if writes are meant to be.`)
    )
  }
  if (found.missingPage) {
    warn(
      atExit,
      'HOSTMAP_MISSING_PAGE',
      `The contents of ${where}${isWindow ? ',' : ''} could not be had${at}, and zeros are in their place. Did its file get shorter, or did its ` +
        `disk fail or run full, or the provider of a paged region fail? See ${object}.lastFault; HostRegion.load reads a file once and keeps it.` +
        (!isWindow && access === 'shared'
          ? ' What is written there does not reach the region.'
          : '')
    )
  }
  if (found.pastEnd) {
    warn(
      atExit,
      'HOSTMAP_PAST_END',
      `An access hit the window at ${range} past what it shows${at}, and zeros are there now. ` +
        "See window.lastFault; open the window with rest 'zeros' if such accesses are meant to be."
    )
  }
}

// The file of an opened snapshot has lost pages that memories show.
function reportImage(atExit, { regionName, address, regionOffset }) {
  const where = address === undefined ? '' : ' that a memory shows'
  const at = regionOffset === undefined ? '' : ` (last at byte ${regionOffset} of the memory)`
  warn(
    atExit,
    'HOSTMAP_MISSING_PAGE',
    `The pages of snapshot "${regionName}"${where} could not be had${at}, and zeros are in their place. ` +
      'Did its file get shorter, or did its disk fail? What the memory holds is lost: restore it to another snapshot. ' +
      'Snapshot.load reads a file once and keeps it.'
  )
}

// Warnings of a kind that one thread gives. A program that maps for each request would drown in
// them.
const MOST_WARNINGS = 100
const given = new Map()

function warn(atExit, code, message) {
  const count = (given.get(code) ?? 0) + 1
  given.set(code, count)
  if (count > MOST_WARNINGS) return
  const text =
    count < MOST_WARNINGS ? message : `${message} No more warnings of this kind are given.`
  try {
    if (!atExit) return process.emitWarning(text, { type: 'HostmapWarning', code })
    process.emit('warning', Object.assign(new Error(text), { name: 'HostmapWarning', code }))
  } catch {
    // A script may have replaced what warnings are given with. Counts are right all the same.
  }
}

module.exports = { report, reportAtExit }
