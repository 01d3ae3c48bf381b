'use strict'

// FinalizationRegistry as the code of a unit gets it: a genuine one, which knows of each
// registration in which epoch of the unit it was made. What was registered in a state that is gone
// names something in memory that is somebody else's by now, so its cleanup is not called.

// Taken now, like those of v8.js.
const { apply, defineProperty } = Reflect

/** A held value, with the epoch in which it was registered. */
class Held {
  #value
  #epoch

  constructor(value, epoch) {
    this.#value = value
    this.#epoch = epoch
  }

  static is(value) {
    return typeof value === 'object' && value !== null && #epoch in value
  }

  static valueOf(held) {
    return held.#value
  }

  static isOf(held, timeline) {
    return timeline.has(held.#epoch)
  }
}

/**
 * @param Registry the class that is there without us
 * @param timeline of the unit whose code makes it; the registry keeps nothing else of the unit
 * @param args what the constructor got
 * @param make makes one of a constructor's arguments
 */
function makeRegistry(Registry, timeline, args, make) {
  const [cleanup, ...rest] = args
  if (typeof cleanup !== 'function') return make(args)
  const returns = timeline.returns
  /** What calls a cleanup function, if the unit's state of now has what it is about. */
  const delivering = callback =>
    function (held) {
      // What came past `register`, below, may be of any epoch since the registry was made.
      if (!Held.is(held)) {
        return timeline.returns === returns ? apply(callback, this, [held]) : undefined
      }
      return Held.isOf(held, timeline) ? apply(callback, this, [Held.valueOf(held)]) : undefined
    }
  const registry = make([delivering(cleanup), ...rest])
  addMethods(registry, Registry, timeline, delivering)
  return registry
}

/** Own methods: other code's registries have V8's. */
function addMethods(registry, Registry, timeline, delivering) {
  let register
  let cleanupSome
  try {
    ;({ register, cleanupSome } = registry)
    // A subclass's own may do anything with what it gets, so it gets what was given.
    if (register !== Registry.prototype.register) return
  } catch {
    // Another script's class.
    return
  }
  const define = (name, value) =>
    defineProperty(registry, name, { value, writable: true, enumerable: false, configurable: true })
  define(
    'register',
    {
      register(target, held, ...token) {
        // V8 refuses to hold the target, and has to see that it is asked to.
        const isOurs = this === registry && !Object.is(target, held)
        return apply(register, this, [
          target,
          isOurs ? new Held(held, timeline.enter()) : held,
          ...token
        ])
      }
    }.register
  )
  // V8 has it by a flag only.
  if (typeof cleanupSome !== 'function') return
  define(
    'cleanupSome',
    {
      cleanupSome(callback, ...more) {
        const isOurs = this === registry && typeof callback === 'function'
        return apply(cleanupSome, this, [isOurs ? delivering(callback) : callback, ...more])
      }
    }.cleanupSome
  )
}

module.exports = { makeRegistry }
