'use strict'

// Who makes an instance: the async context tells the code of a factory from all other code that
// runs meanwhile. A context is what is known of one capture while it runs.

const { AsyncLocalStorage } = require('node:async_hooks')

const storage = new AsyncLocalStorage()

class CaptureContext {
  /** The capture in which this one began, which gets its instances, too; undefined if none. */
  #parent = current()
  /** By the instance: itself, what it shows of its state, and the report of its module. */
  records = new Map()
  /** Instantiations that are not over. */
  pending = 0
  /** The first thing that could not be captured, as an error. */
  problem = undefined
  /** How many calls into the instances are suspended, in this capture and those around it. */
  calls = this.#parent?.calls ?? { suspended: 0 }
  ended = false
  /** Tables that were seen, and the functions that they had when their instances were new. */
  tables = this.#parent?.tables ?? { seen: new WeakSet(), first: new WeakSet() }

  has(instance) {
    return this.records.has(instance)
  }

  add(record) {
    for (const { records } of this.chain()) records.set(record.instance, record)
  }

  /** The records. What began in the context may keep it alive, and must not keep instances. */
  take() {
    const records = [...this.records.values()]
    this.records = new Map()
    return records
  }

  /** Keeps the first error of what can't be captured. */
  refuse(error) {
    for (const context of this.chain()) context.problem ??= error
  }

  /** Counts an instantiation until it is over. */
  async during(instantiate) {
    const contexts = this.chain()
    for (const it of contexts) it.pending += 1
    try {
      return await instantiate()
    } finally {
      for (const it of contexts) it.pending -= 1
    }
  }

  /** This capture and those around it. */
  chain() {
    const rest = this.#parent?.chain() ?? []
    return this.ended ? rest : [this, ...rest]
  }

  static outward(context) {
    return context?.ended ? CaptureContext.outward(context.#parent) : context
  }
}

/** The capture to which the code that runs now belongs; undefined if none. */
function current() {
  return CaptureContext.outward(storage.getStore())
}

const run = (context, make) => storage.run(context, make)

/** To be called when no capture runs: on Node.js 20 and 22 it costs to follow contexts. */
const rest = () => storage.disable()

module.exports = { CaptureContext, current, run, rest }
