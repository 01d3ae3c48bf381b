'use strict'

// What came of a cell, in one word, and what of it is against the promises.

const { pageBytes, PAGES, regionBytes, at, target, LENGTH, noise, shrunk } = require('./ground')
const { isTrap } = require('./guest')

const allPages = Array.from({ length: PAGES }, (_, page) => page)
const pageOf = (bytes, page) => bytes.subarray(page * pageBytes, (page + 1) * pageBytes)
const describe = error => `${error.name}: ${error.message}`

/** Bytes that were written at random as if always the same had been; others as they are. */
function withoutRandom(bytes, original) {
  const start = target - at
  const part = bytes.subarray(start, start + LENGTH)
  const before = original.subarray(start, start + LENGTH)
  if (part.length < LENGTH || part.equals(before) || part.every(byte => byte === 0)) return bytes
  return Buffer.concat([
    bytes.subarray(0, start),
    Buffer.alloc(LENGTH, 0x55),
    bytes.subarray(start + LENGTH)
  ])
}

/**
 * @param cell.access and what `parsePlace` gives
 * @param cell.traps whether V8 has its trap handler
 * @param cell.isRest whether it is past what a window shows: what is there is as if the file
 *   had shrunk to what it shows
 * @param plain.data, plain.zeros what the access does to plain bytes, the same as the region's
 *   before and after it shrank: `{ seen, error, after }`
 * @param came.seen, came.error what it saw or threw here
 * @param came.strayWrites, came.faults, came.lastFault as they are right after
 * @param came.before, came.content what the region's file has before and after
 * @param came.left what is in the memory or view after; if the file had shrunk, after it got
 *   its bytes back
 */
function judge(cell, plain, came) {
  const { access, target: where, state, isView, isRest, traps } = cell
  const { error, strayWrites, faults, lastFault, before } = came
  const [data, zeros, left, content] = [
    plain.data.after,
    plain.zeros.after,
    came.left,
    came.content
  ].map((bytes, i) =>
    access.random ? withoutRandom(bytes, i === 1 || (isRest && i === 2) ? shrunk : noise) : bytes
  )
  const isWritable = where === 'shared' || where === 'view, writable file'
  const isReadonly = isRest ? state === 'zeros' : !isWritable && where !== 'private'
  const changes = !data.equals(noise)
  // An exchange that finds another value asks for a page that can be written, and writes nothing.
  const writes = changes || access.update === true
  const original = isRest ? shrunk : noise
  const trapped = error !== undefined && isTrap(error)
  const refused =
    error !== undefined &&
    plain.data.error !== undefined &&
    describe(plain.data.error) === describe(error)
  const changed = allPages.filter(page => !pageOf(left, page).equals(pageOf(original, page)))
  // The first page is always there.
  const replaced = state === 'shrunk' ? changed.filter(page => page > 0) : []

  const problems = []
  const check = (holds, message) => holds || problems.push(message)
  const outcome = word()

  function word() {
    if (refused) return 'refused'
    if (trapped) return 'trap'
    if (error !== undefined)
      return error.code === undefined ? describe(error) : `error:${error.code}`
    const { seen } = state === 'shrunk' || isRest ? plain.zeros : plain.data
    if (came.seen !== seen) return `sees ${came.seen} instead of ${seen}`
    if (replaced.length > 0) return writes ? 'private page' : 'zeros'
    if (!content.equals(before)) return 'region'
    if (changed.length > 0 || strayWrites > 0) return 'private page'
    // What writes zeros over zeros, to pages that can be written, leaves no trace.
    if (isRest && access.touches !== false)
      return changes || (faults > 0 && writes) ? 'private page' : 'zeros'
    return access.touches === false || state === 'shrunk' ? 'untouched' : 'data'
  }

  // The bytes. A region changes by a write that is meant for it, and by nothing else.
  const written = isWritable && error === undefined
  const lasting = written ? (state === 'shrunk' ? pageOf(zeros, 0) : data) : before
  check(
    content.equals(lasting),
    written ? 'the region has not what was written' : 'the region changed'
  )
  if (error !== undefined) check(changed.length === 0, 'pages changed that should not')
  else if (isRest) check(left.equals(zeros), 'it has not what was written')
  else if (state !== 'shrunk') check(left.equals(data), 'it has not what was written')
  else
    for (const page of changed)
      check(pageOf(left, page).equals(pageOf(zeros, page)), `page ${page} is wrong`)
  check((access.touches === false) === (outcome === 'untouched') || refused, 'it is not touched')

  // The counts.
  // Zeros that zeros are written over don't show it.
  const touched = isRest
    ? allPages.filter(page => !pageOf(data, page).equals(pageOf(noise, page)))
    : changed
  const isStray = outcome === 'private page' && isReadonly && state !== 'grown'
  if (!isStray) check(strayWrites === 0, `${strayWrites} stray writes`)
  else if (touched.length > 0)
    check(strayWrites === touched.length, `${strayWrites} stray writes on ${touched.length} pages`)
  else check(strayWrites === 1, `${strayWrites} stray writes, not 1`)
  if (trapped) check(faults === (lastFault?.cause === 'readonly' ? 0 : 1), `${faults} faults`)
  else if (isRest) {
    // All of the rest is opened by the first access. The kernel is refused, and nothing faults.
    const opened = state === 'trap' && error === undefined && access.touches !== false
    check(faults === Number(opened), `${faults} faults`)
  } else
    check(faults === replaced.length, `${faults} faults, and ${replaced.length} pages replaced`)

  // The last fault.
  const happened = trapped || strayWrites > 0 || faults > 0
  check(
    happened === (lastFault !== null),
    happened ? 'there is no lastFault' : 'there is a lastFault'
  )
  if (trapped) check(traps && access.side === 'wasm', 'nothing can trap here')
  if (lastFault !== null) {
    const { address, byteOffset, operation, cause, outcome: way } = lastFault
    const earliest = access.everywhere ? 0 : Math.min(access.where ?? target, target) - at
    check(address === (isView ? null : at + byteOffset), `lastFault.address is ${address}`)
    check(
      byteOffset >= earliest && byteOffset < regionBytes,
      `lastFault.byteOffset is ${byteOffset}`
    )
    if (access.exact) check(byteOffset === target - at, `lastFault.byteOffset is ${byteOffset}`)
    check(
      operation === 'write' ? writes : operation === 'read' && cause !== 'readonly',
      `operation ${operation}`
    )
    const expected = isRest ? state === 'trap' && 'past-end' : state === 'shrunk' && 'file-shrunk'
    check(cause === 'readonly' ? isReadonly && writes : cause === expected, `cause ${cause}`)
    check(
      way === (trapped ? 'trap' : cause === 'readonly' ? 'private-page' : 'zeros'),
      `outcome ${way}`
    )
  }
  return { outcome, trapped, problems }
}

module.exports = { judge }
