'use strict'

// once: the state of an instance after an expensive call, in place of the call. A file has it, with
// the digest of the state before. Where that is not the instance's, the call is made.

const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError } = require('../support/errors.js')
const { roomOnStack } = require('../support/stack.js')
const { wrongValue } = require('../support/wrong.js')
const { pending, tell } = require('../observe/events.js')
const { unitInside } = require('../capture/unit.js')
const { checkCalls } = require('../checkpoint/calls.js')
const { targetOf } = require('../checkpoint/subject.js')
const { checkAccept } = require('../instance/module.js')
const { captureState, prepareRestore } = require('../instance/state.js')
const { digestOf } = require('../snapshot/digests.js')
const { secretKey } = require('../snapshot/keys.js')
const { BY_CALLER } = require('../snapshot/restore.js')
const { Snapshot, insideOf, restoreSnapshot, takeSnapshot } = require('../snapshot/snapshot.js')
const { digestOfState, refuseMapped } = require('./digest.js')
const { decodeResult, encodeResult } = require('./result.js')

// Beside the globals of the instance. No module exports that name: see exposeState.
const RECORD = 'hostmap:once'

// What a file may be that there is none to be used: missing, another's, damaged, of another module.
const NOT_USED = new Set([
  'ERR_HOSTMAP_SNAPSHOT_INVALID',
  'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
  'ERR_HOSTMAP_NOT_RESTORABLE'
])

async function once(target, fn, options) {
  check.callback(fn, 'fn')
  const asked = onceOptions(options)
  const subject = subjectOf(target, asked)
  const known = await load(subject, asked)
  let before
  try {
    // From here on nothing waits until the state is in place, or fn is called.
    checkCalls(subject.calls, 'once begins')
    before = digestOfState(subject, asked.moduleDigest)
    if (known !== undefined && known.before === before) {
      const found = decodeResult(known.result)
      if (found !== undefined && putInPlace(subject, known.snapshot, asked)) return found.value
    }
  } finally {
    if (known?.snapshot !== asked.from) known?.snapshot.close()
  }
  const given = await fn()
  checkCalls(subject.calls, 'fn has ended')
  refuseMapped(subject.linear)
  const result = encodeResult(given)
  const snapshot = take(subject, { before, result }, asked)
  try {
    await snapshot.save(asked.path, { key: asked.key })
  } finally {
    snapshot.close()
  }
  // A copy, as from the file.
  return decodeResult(result).value
}

function onceOptions(options) {
  const {
    snapshot,
    from,
    module,
    key,
    accept = [],
    exclusive,
    keepResidentBytes,
    hugePages
  } = read.once(options)
  const path = check.path(snapshot, 'options.snapshot')
  // Throws where it is none, or closed.
  if (from !== undefined) insideOf(from)
  if (module === undefined) {
    throw wrongValue(
      'options.module',
      "the module's bytes, to tell whose state the file has",
      module
    )
  }
  check.optional(exclusive, check.boolean, 'options.exclusive')
  check.optional(keepResidentBytes, check.wholeNumber, 'options.keepResidentBytes')
  check.optional(hugePages, check.boolean, 'options.hugePages')
  return {
    path,
    from,
    module,
    moduleDigest: digestOf(module),
    key: check.optional(key, secretKey, 'options.key'),
    accept: checkAccept(accept),
    exclusive,
    forSnapshot: { exclusive, keepResidentBytes, hugePages },
    forLoad: { keepResidentBytes, hugePages }
  }
}

/** The one instance, as `linear`, `found` and `calls`. */
function subjectOf(target, { module, accept }) {
  const isCaptured = unitInside(target) !== undefined
  const { groups, calls } = targetOf(target, isCaptured ? undefined : module, accept)
  const [group, ...others] = groups
  if (others.length > 0 || group.parts.length > 1 || group.linear === undefined) {
    throw makeError(
      'ERR_HOSTMAP_UNSUITABLE_MODULE',
      'once keeps the state of one instance, and the unit has several; use a checkpoint'
    )
  }
  return { linear: group.linear, found: group.parts[0].found, calls }
}

/**
 * What the file has: `snapshot`, and `before` and `result`. Undefined where it can't be used.
 * `snapshot` is to be closed, unless it is the caller's.
 */
async function load(subject, asked) {
  const snapshot = asked.from ?? (await fromFile(subject, asked))
  if (snapshot === undefined) return undefined
  const { state, moduleDigest } = insideOf(snapshot)
  const record = state?.globals.find(({ name }) => name === RECORD)?.value
  const [, before, result] = /^([\da-f]{64}) (.*)$/s.exec(record) ?? []
  if (before !== undefined && moduleDigest === asked.moduleDigest) {
    return { snapshot, before, result }
  }
  if (snapshot !== asked.from) snapshot.close()
  return undefined
}

/** The snapshot in the file: its own pages where that is possible, and else a copy. */
async function fromFile({ linear }, { path, module, key, forLoad }) {
  const { keepResidentBytes } = forLoad
  try {
    if (!linear.shared) {
      try {
        // A file that was damaged is not used, so all of it is looked at.
        return await Snapshot.open(path, { module, key, keepResidentBytes, verify: true })
      } catch (error) {
        if (error.code !== 'ERR_HOSTMAP_SNAPSHOT_UNGUARDED') throw error
      }
    }
    return await Snapshot.load(path, { module, key, ...forLoad })
  } catch (error) {
    if (error.syscall === 'open' && error.errno === -ENOENT) return undefined
    if (NOT_USED.has(error.code)) return undefined
    throw error
  }
}

const ENOENT = 2

/** False, and nothing is changed, where the instance can't be brought into that state. */
function putInPlace({ linear, found }, snapshot, { exclusive }) {
  const { state } = insideOf(snapshot)
  let putBack
  try {
    const globals = state.globals.filter(({ name }) => name !== RECORD)
    putBack = prepareRestore(found, { ...state, globals })
  } catch (error) {
    if (NOT_USED.has(error.code)) return false
    throw error
  }
  // The memory without its globals would be no state at all.
  roomOnStack()
  restoreSnapshot(linear, snapshot, { exclusive, globals: BY_CALLER })
  putBack()
  if (pending.length > 0) tell()
  return true
}

function take({ linear, found }, { before, result }, { module, forSnapshot }) {
  const state = captureState(found)
  const record = { name: RECORD, value: `${before} ${result}` }
  const kept = { globals: [...state.globals, record], tables: state.tables }
  return takeSnapshot(linear, { ...forSnapshot, module, name: 'once' }, kept)
}

module.exports = { once }
