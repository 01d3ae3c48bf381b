'use strict'

// What a checkpoint is of: a captured unit, or one instance of which it can be proved that nothing
// of its state is hidden. What can't be restored is refused here, before anything is taken.

const { types } = require('node:util')
const check = require('../support/arguments.js')
const { makeError } = require('../support/errors.js')
const { received } = require('../support/given.js')
const { wrongValue } = require('../support/wrong.js')
const { moduleBytes, unshared } = require('../platform/bytes.js')
const {
  addedNames,
  expose,
  isModule,
  notRestorable,
  refuseNotRestorable,
  reportOf
} = require('../instance/module.js')
const { notRestorable: notRestorableOf, reachable } = require('../instance/reachable.js')
const { groupsIn, insideFrom, unitInside } = require('../capture/unit.js')

/** What is to be kept: `groups`, `calls` and `timeline`, see insideFrom in lib/capture/unit.js. */
function targetOf(target, module, accept) {
  const captured = unitInside(target)
  if (captured !== undefined && module !== undefined) {
    throw wrongValue('options.module', 'left out where the target was captured', module)
  }
  const inside = captured ?? insideOfInstance(target, module, accept)
  const groups = groupsIn(inside)
  if (groups.every(({ linear }) => linear === undefined)) {
    throw makeError(
      'ERR_HOSTMAP_UNSUITABLE_MODULE',
      inside.memories.length > 0
        ? 'the engine is gone: nobody holds it, and it was collected'
        : 'none of the instances has a memory, so there is nothing that a checkpoint could keep'
    )
  }
  for (const { found, report } of groups.flatMap(({ parts }) => parts)) {
    if (report !== undefined) refuseNotRestorable(notRestorable(report), accept)
    refuseNotRestorable(notRestorableOf(found), accept)
  }
  return { groups, calls: inside.calls, timeline: inside.timeline }
}

function insideOfInstance(instance, module, accept) {
  const exports = isInstance(instance) ? instance.exports : undefined
  if (exports === undefined) throw notCaptured(instance)
  if (module === undefined) {
    refuseNotRestorable(
      [
        ['hidden-globals', `mutable globals that it does not export can't be reached; ${INSTEAD}`],
        ['hidden-tables', `tables that it does not export can't be reached; ${INSTEAD}`]
      ],
      accept
    )
  }
  const report = module === undefined ? undefined : reportGiven(module)
  if (report !== undefined) refuseHidden(report, exports, accept)
  return insideFrom([{ instance, found: reachable(exports), report }], { suspended: 0 })
}

const INSTEAD =
  'let capture run what makes the instance, or make it of what exposeState gives and pass that as options.module'

function reportGiven(module) {
  if (!isModule(module)) {
    return expose(unshared(moduleBytes(module, 'options.module')), 'options.module').report
  }
  const report = reportOf(module)
  if (report !== undefined) return report
  throw makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    "options.module is a WebAssembly.Module that tells nothing of what it hides; pass the module's bytes, or compile what exposeState gives"
  )
}

/** What the module has, and the instance does not show. */
function refuseHidden(report, exports, accept) {
  const missing = addedNames(report).filter(name => !(name in exports))
  const named = kind => missing.filter(name => name.startsWith(`hostmap:${kind}`))
  const found = [
    ['hidden-globals', named('global'), 'mutable globals'],
    ['hidden-tables', named('table'), 'tables']
  ]
    .filter(([, names]) => names.length > 0)
    .map(([name, names, what]) => [
      name,
      `the module has ${names.length} ${what} that the instance does not export; ${INSTEAD}`
    ])
  refuseNotRestorable(found, accept)
}

const isInstance = value =>
  check.isObject(value) &&
  check.isObject(value.exports) &&
  value[Symbol.toStringTag] === 'WebAssembly.Instance'

function notCaptured(value) {
  if (types.isPromise(value)) {
    return makeError(
      'ERR_INVALID_ARG_TYPE',
      'target must be a CapturedUnit, or what a captured factory gave; received a promise: await it'
    )
  }
  const isThing = (typeof value === 'object' && value !== null) || typeof value === 'function'
  return makeError(
    isThing ? 'ERR_HOSTMAP_NOT_CAPTURED' : 'ERR_INVALID_ARG_TYPE',
    `target must be a CapturedUnit, what a captured factory gave, or a WebAssembly.Instance; received ${received(value)}${
      isThing
        ? ". Of an engine that is made already, what its modules hide can't be reached: make it by const { value, unit } = await capture(() => ...)"
        : ''
    }`
  )
}

module.exports = { targetOf }
