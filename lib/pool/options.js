'use strict'

// The options of InstancePool.create, each checked here and nowhere else.

const { types } = require('node:util')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError } = require('../support/errors.js')
const { RUNTIME, SEES_REQUESTS } = require('../platform/engine.js')
const { instead } = require('../support/given.js')
const { wrongList, wrongType, wrongValue } = require('../support/wrong.js')
const { wrongThing } = require('../region/share.js')
const { checkAccept, isModule } = require('../instance/module.js')
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

const MOST_UNITS = 4

/** Whether it is what a pool of a factory is made of: options, in the place of a module. */
function isFactory(value) {
  if (!check.isObject(value) || check.isArray(value) || isModule(value)) return false
  return !ArrayBuffer.isView(value) && !types.isAnyArrayBuffer(value) && 'make' in value
}

function factoryOptions(options, more) {
  if (more !== undefined) {
    throw wrongValue('options', 'left out, since make is given: all options go beside it', more)
  }
  const {
    make,
    init,
    state = [],
    before,
    after,
    destroy,
    pending = 'discard',
    size = 1,
    max,
    maxMemoryBytes,
    accept = [],
    keepResidentBytes
  } = read.factoryPool(options)
  check.callback(make, 'options.make')
  if (!SEES_REQUESTS) throw noFactories()
  check.optional(init, check.callback, 'options.init')
  if (!check.isArray(state)) throw wrongList('options.state', state)
  state.forEach((value, index) => check.callback(value, `options.state[${index}]`))
  check.optional(before, check.callback, 'options.before')
  check.optional(after, check.callback, 'options.after')
  check.optional(destroy, check.callback, 'options.destroy')
  if (typeof pending === 'function') check.callback(pending, 'options.pending')
  else check.oneOf(pending, 'options.pending', PENDING)
  check.optional(max, check.wholeNumber, 'options.max', 1, MOST_INSTANCES)
  const most = max ?? MOST_INSTANCES
  check.wholeNumber(size, 'options.size', 0, most, () => (max === undefined ? '' : ', options.max'))
  check.optional(maxMemoryBytes, check.wholeNumber, 'options.maxMemoryBytes')
  check.optional(keepResidentBytes, check.wholeNumber, 'options.keepResidentBytes')
  return {
    make,
    init,
    state: [...state],
    before,
    after,
    destroy,
    pending,
    size,
    max: max ?? Math.max(size, MOST_UNITS),
    maxMemoryBytes,
    accept: checkAccept(accept),
    keepResidentBytes
  }
}

const PENDING = ['discard', 'ignore']

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

const noFactories = () =>
  makeError(
    'ERR_HOSTMAP_UNSUPPORTED_RUNTIME',
    `a pool of a factory needs to know what each request has begun, and ${RUNTIME} does not tell; ` +
      'use a pool of a module, or capture and checkpoint, where you know that no callback is outstanding'
  )

module.exports = { poolOptions, isFactory, factoryOptions, refuseLater }
