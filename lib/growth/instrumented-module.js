'use strict'

// Modules whose memory.grow asks the host: see src/module/growth.rs. The host's functions are
// called by a module's code, so nothing here may leave a memory half grown.

const { inspect, types } = require('node:util')
const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError, callNative } = require('../support/errors.js')
const { roomOnStack } = require('../support/stack.js')
const { wrongType } = require('../support/wrong.js')
const { bytes: checkBytes, unshared } = require('../platform/bytes.js')
const { runTask } = require('../platform/task.js')
const v8 = require('../platform/v8.js')

const { pending, tell } = require('../observe/events.js')
const { growAsModule } = require('../memory/growth.js')
const { noteGiven } = require('../instance/table-writes.js')
const { GuardedMemory } = require('../guarded/guarded-memory.js')

const { Uint8Array, WASM_PAGE_BYTES, bufferOf, isMemory, sizeOf } = v8

// Taken now, like those of v8.js.
const { compile, instantiate, validate } = WebAssembly
const { create, defineProperty, hasOwn } = Object

const MAKE = Symbol('make')
// Answers of the host's functions: see src/module/growth.rs.
const REFUSED = -1
const GROW_HERE = -2
// More than any address space has.
const MOST_PAGES = 2 ** 48

class InstrumentedModule {
  #bytes
  #importModule
  // { index, is64, import, exportName, added } of each memory that code grows.
  #memories
  #onGrow
  #limit

  constructor(make, made, asked) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'InstrumentedModule has no public constructor: use instrumentGrowth'
      )
    }
    const { bytes, importModule, memories } = made
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#importModule = importModule
    this.#memories = memories
    this.#onGrow = asked.onGrow
    this.#limit = asked.limit
  }

  get bytes() {
    return this.#bytes
  }

  get importModule() {
    return this.#importModule
  }

  importsFor(imports) {
    check.optional(imports, check.object, 'imports')
    const functions = {}
    // The caller's objects are not written: V8 asks for what the module imports, and finds it
    // behind this.
    const all = create(imports ?? null)
    const growths = this.#memories.map(memory => {
      const growth = new Growth(memory, this.#onGrow, this.#limit)
      functions[`grow:${memory.index}`] = growth.function
      if (memory.import) growth.bind(pinImport(all, imports, memory.import))
      return growth
    })
    put(all, this.#importModule, functions)
    return {
      imports: all,
      bind: instance => {
        const exports = exportsOf(instance)
        for (const growth of growths) growth.bind(exports[growth.exportName])
      }
    }
  }

  async instantiate(imports) {
    const { imports: all, bind } = this.importsFor(imports)
    const module = await compile(this.#bytes)
    noteGiven(module, all)
    const instance = await instantiate(module, all)
    bind(instance)
    return instance
  }

  [inspect.custom](depth, options) {
    if (!(#bytes in this)) return 'InstrumentedModule {}'
    const { importModule } = this
    const memories = this.#memories.map(({ index }) => index)
    return `InstrumentedModule ${inspect({ importModule, memories }, options)}`
  }
}

/** The growth of one memory of one instance. */
class Growth {
  // undefined until the instance is there, if its module makes the memory.
  #memory
  #index
  #address
  #onGrow
  #limit
  // How often a growth was granted: onGrow may call a module that grows the same memory.
  #granted = 0

  constructor({ index, is64, exportName }, onGrow, limit) {
    this.exportName = exportName
    this.#index = index
    this.#onGrow = onGrow
    this.#limit = limit
    this.#address = is64 ? 'i64' : 'i32'
    // Wasm's integers have signs for JavaScript.
    this.function = is64
      ? (pages, size) => BigInt(this.#grow(Number(BigInt.asUintN(64, pages)), Number(size)))
      : (pages, size) => this.#grow(pages >>> 0, size >>> 0)
  }

  bind(memory) {
    if (!isMemory(memory)) return
    this.#memory = memory
    // Other threads may have mapped into it, and then this one must know its mappings.
    if (types.isSharedArrayBuffer(bufferOf(memory))) this.#from(memory)
  }

  #grow(wasmPages, size) {
    if (wasmPages > MOST_PAGES || (wasmPages > 0 && !this.#mayGrow(wasmPages, size))) return REFUSED
    if (this.#memory === undefined) return GROW_HERE
    // From here on the stack must not end: a memory that has grown would not be protected.
    roomOnStack()
    const before = growAsModule(this.#memory, wasmPages, this.#address)
    if (pending.length > 0) tell()
    return before
  }

  #mayGrow(wasmPages, size) {
    if ((size + wasmPages) * WASM_PAGE_BYTES > this.#limit) return false
    if (this.#onGrow !== undefined) {
      const granted = this.#granted
      const onGrow = this.#onGrow
      const answer = onGrow(this.#request(wasmPages, size))
      if (answer === false) return false
      if (answer !== undefined && answer !== true) throw wrongAnswer(answer)
      // Something else grew it meanwhile. Of a memory that is not there yet nobody can tell by how
      // much.
      if (this.#memory === undefined) {
        if (this.#granted !== granted) return false
      } else if (sizeOf(bufferOf(this.#memory)) + wasmPages * WASM_PAGE_BYTES > this.#limit)
        return false
    }
    this.#granted += 1
    return true
  }

  // V8 may not tell what the module says.
  #from(memory) {
    return GuardedMemory.from(memory, { address: this.#address })
  }

  #request(wasmPages, size) {
    const memory = this.#memory
    const from = () => this.#from(memory)
    return {
      wasmPages,
      byteLength: size * WASM_PAGE_BYTES,
      newByteLength: (size + wasmPages) * WASM_PAGE_BYTES,
      memoryIndex: this.#index,
      // Not made where nobody asks for it.
      get memory() {
        return memory === undefined ? null : from()
      }
    }
  }
}

function wrongAnswer(answer) {
  // It may be rejected, too, and this says enough.
  if (types.isPromise(answer)) answer.catch(() => {})
  return wrongType(
    'what options.onGrow gives',
    'true, false or undefined, at once and not as a promise',
    answer
  )
}

const put = (object, key, value) =>
  defineProperty(object, key, { __proto__: null, value, enumerable: true })

/**
 * The memory that is imported, which V8 then takes, too: a getter may make another one each time.
 * V8 refuses what is no memory.
 */
function pinImport(all, imports, { module, name }) {
  if (!hasOwn(all, module)) {
    const theirs = imports?.[module]
    if (!check.isObject(theirs) && typeof theirs !== 'function') return undefined
    put(all, module, readOnce(theirs))
  }
  return all[module][name]
}

/** An object's properties, each as it was when it was first read. Getters see the object itself. */
function readOnce(object) {
  const seen = new Map()
  const get = (_, key) => {
    if (!seen.has(key)) seen.set(key, object[key])
    return seen.get(key)
  }
  return new Proxy(object, { __proto__: null, get })
}

function exportsOf(instance) {
  const exports = typeof instance === 'object' && instance !== null ? instance.exports : undefined
  if (typeof exports === 'object' && exports !== null) return exports
  throw wrongType('instance', 'a WebAssembly.Instance', instance)
}

function growthOptions(options, called, argument) {
  const { onGrow, limit = Infinity } = read.growth(options, called, argument)
  check.optional(onGrow, check.callback, `${called}.onGrow`)
  if (limit !== Infinity) check.wholeNumber(limit, `${called}.limit (in bytes)`)
  return { onGrow, limit }
}

function instrumentGrowth(module, options) {
  const asked = growthOptions(options, 'options')
  const bytes = unshared(checkBytes(module, 'module'))
  const made = callNative(() => native.instrumentGrowth(bytes))
  if (made.memories.length > 0) refuseTooLarge(bytes, made.bytes)
  return new InstrumentedModule(MAKE, made, asked)
}

/**
 * For pools: `asked` is what growthOptions gives. Gives the names of exports that were added, too.
 */
async function instrumentLater(bytes, asked) {
  const made = await runTask(
    task => native.instrumentGrowthLater(task, bytes),
    'The rewriting of the module'
  )
  const added = made.memories.filter(memory => memory.added).map(memory => memory.exportName)
  return { instrumented: new InstrumentedModule(MAKE, made, asked), added }
}

/**
 * Refuses a module that V8 took, and takes no more with what was added: a function too many, a code
 * too long.
 */
function refuseTooLarge(bytes, made) {
  if (validate(made) || !validate(bytes)) return
  throw makeError(
    'ERR_HOSTMAP_UNSUITABLE_MODULE',
    "growth can't be watched in the module: V8 takes it as it is, and no more with an import, a function and two types added for each memory"
  )
}

module.exports = {
  InstrumentedModule,
  instrumentGrowth,
  instrumentLater,
  growthOptions,
  refuseTooLarge
}
