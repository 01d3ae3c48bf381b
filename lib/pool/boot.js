'use strict'

// Boots one unit of a pool of a factory: make and init in one capture, then the checkpoint to which
// the unit goes back. All that is called here is the user's code, and may take its time.

const { AsyncResource } = require('node:async_hooks')
const { makeError } = require('../support/errors.js')
const { wrongType } = require('../support/wrong.js')
const { instead } = require('../support/given.js')
const { findLinear } = require('../memory/find.js')
const { isModule } = require('../instance/module.js')
const { guardedOf } = require('../guarded/guarded-memory.js')
const { captureSteps } = require('../capture/capture.js')
const { isWithin } = require('../capture/context.js')
const { isBytes } = require('../capture/exposed.js')
const { unitInside } = require('../capture/unit.js')
const { checkpoint } = require('../checkpoint/checkpoint.js')

/**
 * A unit as hooks and `state` see it; unlike what is lent it can be used before and after a
 * request.
 *
 * @param living gives its instances
 */
const shownOf = (value, instance, memory, living) =>
  Object.freeze({
    value,
    instance,
    get instances() {
      return living()
    },
    exports: instance.exports,
    memory
  })

/**
 * Gives `shown` (see above), `inside` (lib/capture/unit.js), the `checkpoint`, and the `records` of
 * the instances (lib/capture/exposed.js).
 *
 * @param owner whose boot it is: see CaptureContext
 * @param asked the pool's options
 * @param check is called with the records before anything is kept; throws where they won't do
 */
async function boot(owner, asked, check) {
  const { make, init, state, destroy } = asked
  let shown
  let instances
  try {
    const failure = failureLater()
    const { unit, records } = await captureSteps({
      owner,
      make: () => Promise.race([make(toolsFor(owner, failure.tell)), failure.told]),
      then: (value, soFar) => {
        instances = () => soFar.map(({ instance }) => instance)
        shown = firstShown(value, soFar, () => instances())
        return init === undefined ? undefined : Promise.race([init(shown), failure.told])
      }
    })
    instances = weakly(records)
    check(records)
    const kept = checkpoint(unit, {
      state: state.map(keep => () => keep(shown)),
      accept: asked.accept,
      exclusive: true,
      keepResidentBytes: asked.keepResidentBytes,
      name: 'pool'
    })
    restoreOnce(kept)
    return { shown, checkpoint: kept, inside: unitInside(unit) }
  } catch (error) {
    if (shown !== undefined && destroy !== undefined) await destroyed(destroy, shown)
    throw error
  }
}

// What can't go back is told to who makes it, and not by each request. And the first restore takes
// longer than the others.
function restoreOnce(kept) {
  try {
    kept.restore()
  } catch (error) {
    kept.close()
    throw error
  }
}

// The boot's own error says more.
async function destroyed(destroy, shown) {
  try {
    await destroy(shown)
  } catch {
    // See above.
  }
}

/** The main instance is the first that has a memory: helpers and side modules come later. */
function firstShown(value, records, living) {
  const main = records.find(({ found }) => found.memory !== undefined)
  if (main === undefined) {
    throw makeError(
      'ERR_HOSTMAP_UNSUITABLE_MODULE',
      'make made no instance that has a memory, so there is nothing that a pool could bring back'
    )
  }
  const { instance, found, report } = main
  const address = report?.memory ? (report.memory.is64 ? 'i64' : 'i32') : undefined
  return shownOf(value, instance, guardedOf(findLinear(found.memory, address)), living)
}

/** Those that somebody holds: what nobody holds any more has no state that matters. */
function weakly(records) {
  const references = records.map(({ instance }) => new WeakRef(instance))
  return () => references.map(it => it.deref()).filter(it => it !== undefined)
}

/** `told` is rejected with what `tell` is called with first. */
function failureLater() {
  let tell
  const told = new Promise((resolve, reject) => {
    tell = reject
  })
  // Where nobody waits for it any more.
  told.catch(() => {})
  return { told, tell }
}

/**
 * What make gets. It works in the boot's context, wherever glue calls it.
 *
 * @param fail is called with what fails later: glue has nobody who hears of that
 */
function toolsFor(owner, fail) {
  const begin = AsyncResource.bind((source, imports, receive) => {
    if (!isWithin(owner)) throw tooLate()
    instantiate(source, imports)
      .then(made => receive(made.instance, made.module))
      .catch(fail)
  })
  return Object.freeze({
    instantiateWasm(source) {
      if (!isBytes(source) && !isModule(source)) throw noSource(source)
      return (imports, receive) => {
        begin(source, imports, receive)
        return {}
      }
    }
  })
}

async function instantiate(source, imports) {
  // Looked up now: it is the replacement, which captures.
  const made = await WebAssembly.instantiate(source, imports)
  return isModule(source) ? { instance: made, module: source } : made
}

const noSource = value =>
  wrongType('source', "a WebAssembly.Module, or a module's bytes", value, instead.module(value))

const tooLate = () =>
  makeError(
    'ERR_HOSTMAP_NOT_CAPTURED',
    'what instantiateWasm gave was called when make and init were over; each unit needs what its own make was given'
  )

module.exports = { boot }
