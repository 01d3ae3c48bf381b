'use strict'

// The options of InstancePool.create, each checked here and nowhere else.

const { types } = require('node:util')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError } = require('../support/errors.js')
const { instead } = require('../support/given.js')
const { wrongType } = require('../support/wrong.js')
const { wrongThing } = require('../region/share.js')
const { checkAccept } = require('../instance/module.js')
const { isSnapshot } = require('../snapshot/snapshot.js')
const { growthOptions } = require('../growth/instrumented-module.js')

const MOST_INSTANCES = 1_000_000

function poolOptions(options) {
  const {
    imports,
    bind,
    init,
    snapshot,
    size = 1,
    max = 64,
    accept = [],
    keepResidentBytes,
    growth
  } = read.pool(options)
  if (typeof imports !== 'function' || check.isRevoked(imports))
    check.optional(imports, check.object, 'options.imports')
  if (types.isPromise(imports)) refuseLater(imports, 'options.imports')
  check.optional(bind, check.callback, 'options.bind')
  check.optional(init, check.callback, 'options.init')
  check.optional(snapshot, snapshotGiven, 'options.snapshot')
  if (init !== undefined && snapshot !== undefined) {
    throw makeError(
      'ERR_INVALID_ARG_VALUE',
      'options.init and options.snapshot are both given; a snapshot holds what init did: give one of them'
    )
  }
  check.wholeNumber(max, 'options.max', 1, MOST_INSTANCES)
  check.wholeNumber(size, 'options.size', 0, max, () => ', options.max')
  check.optional(keepResidentBytes, check.wholeNumber, 'options.keepResidentBytes')
  return {
    imports,
    bind,
    init,
    snapshot,
    size,
    max,
    accept: checkAccept(accept),
    keepResidentBytes,
    growth: growth === undefined ? undefined : growthOptions(growth, 'options.growth')
  }
}

function snapshotGiven(value, name) {
  if (!isSnapshot(value)) throw wrongThing(name, 'a Snapshot', value, instead.snapshot)
  return value
}

/** Refuses a promise: what is done later would be done to somebody's instance. */
function refuseLater(value, name) {
  if (typeof value?.then !== 'function') return
  // It may be rejected, too, and this says enough.
  if (types.isPromise(value)) value.catch(() => {})
  throw wrongType(name, 'there at once, and no promise: await it before create, or in init', value)
}

module.exports = { poolOptions, refuseLater }
