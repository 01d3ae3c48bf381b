'use strict'

// What is known of one capture while it runs. Instances that are made in its async context are its.

const { living, scope } = require('./scope.js')
const { Timeline } = require('./timeline.js')

/** See Scope in scope.js. */
class CaptureContext {
  parent = living(scope())
  /** The capture in which this one began, which gets its instances, too; undefined if none. */
  #outer = current()
  /** By the instance: itself, what it shows of its state, and the report of its module. */
  records = new Map()
  /** Instantiations that are not over. */
  pending = 0
  /** The first thing that could not be captured, as an error. */
  problem = undefined
  /** How many calls into the instances are suspended, in this capture and those around it. */
  calls = this.#outer?.calls ?? { suspended: 0 }
  ended = false
  /** Of the unit; captures within one another share it, as they share instances. */
  timeline = this.#outer?.timeline ?? new Timeline()
  /** Whose capture it is; undefined for those that a caller of `capture` began. */
  owner
  /** Tables that were seen, and the functions that they had when their instances were new. */
  tables = this.#outer?.tables ?? { seen: new WeakSet(), first: new WeakSet() }

  constructor(owner) {
    this.owner = owner
  }

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
    const rest = this.#outer?.chain() ?? []
    return this.ended ? rest : [this, ...rest]
  }
}

/** The capture to which the code that runs now belongs; undefined if none. */
function current() {
  let it = living(scope())
  while (it !== undefined && !(it instanceof CaptureContext)) it = living(it.parent)
  return it
}

/** Whether the code that runs now belongs to a capture of that owner. */
const isWithin = owner =>
  current()
    ?.chain()
    .some(it => it.owner === owner) ?? false

module.exports = { CaptureContext, current, isWithin }
