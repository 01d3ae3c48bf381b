'use strict'

// What an Emscripten module shows of itself: its memory, its allocator, its FS. Nothing is changed
// here. Properties are looked at before they are read: builds with assertions define getters for
// what they do not export, and those abort the module.

const { GuardedMemory } = require('../../index.js')
const { makeError, unsupportedEngine } = require('./errors.js')

const ENGINE = 'this Emscripten module'

/** An Emscripten page: what C's mmap() aligns its blocks to. */
const EMSCRIPTEN_PAGE = 65536

/** Emscripten's views of its memory, any of which leads to the buffer. */
const HEAPS = ['HEAPU8', 'HEAP8', 'HEAPU32', 'HEAP32']

/**
 * The value of a property that the module really shows. A getter counts only if the module's author
 * could have meant it: not one of those that abort.
 */
function shown(module, name) {
  let at = module
  while (at !== null && at !== undefined) {
    const property = Object.getOwnPropertyDescriptor(at, name)
    if (property !== undefined) return property.get === undefined ? property.value : undefined
    at = Object.getPrototypeOf(at)
  }
  return undefined
}

/** Throws unless this is a module that a factory made, or the object of a classic script. */
function mustBeModule(module) {
  const kind = module === null ? 'null' : typeof module
  if (kind !== 'object') {
    const hint = kind === 'function' ? ': call the factory, and await it' : ''
    throw makeError(
      'ERR_INVALID_ARG_TYPE',
      `module must be an Emscripten module, not ${kind}${hint}`
    )
  }
  if (typeof shown(module, 'then') === 'function') {
    throw makeError(
      'ERR_INVALID_ARG_TYPE',
      'module must be an Emscripten module, not a promise of one: await what the factory returned'
    )
  }
}

/** The module's exports as the engine made them; older versions call them `asm`. */
function exportsOf(module) {
  const exports = shown(module, 'wasmExports') ?? shown(module, 'asm')
  return typeof exports === 'object' && exports !== null ? exports : {}
}

function isMemory(value) {
  return Object.prototype.toString.call(value) === '[object WebAssembly.Memory]'
}

/** The memory, or a function that gives its buffer; undefined if the module shows neither. */
function memoryOf(module) {
  const memory = [shown(module, 'wasmMemory'), ...Object.values(exportsOf(module))].find(isMemory)
  if (memory !== undefined) return memory
  const heap = HEAPS.find(name => ArrayBuffer.isView(shown(module, name)))
  return heap === undefined ? undefined : () => shown(module, heap)?.buffer
}

/** A function of C's, by the names that it is exported by. */
function functionOf(module, ...names) {
  const exports = exportsOf(module)
  for (const name of names) {
    const found = shown(module, `_${name}`) ?? exports[name]
    if (typeof found === 'function') return found
  }
  return undefined
}

/** The module's own allocator, or what is shown of it. */
function allocatorOf(module) {
  const malloc = functionOf(module, 'malloc', 'emscripten_builtin_malloc')
  const free = functionOf(module, 'free', 'emscripten_builtin_free')
  const memalign = functionOf(module, 'emscripten_builtin_memalign', 'memalign', 'aligned_alloc')
  const pointer = address => (typeof address === 'bigint' ? address : address >>> 0)
  return {
    /** For blocks that the adapter frees. */
    own:
      free === undefined || (malloc ?? memalign) === undefined
        ? undefined
        : { malloc: malloc ?? (length => memalign(EMSCRIPTEN_PAGE, length)), free },
    /** For blocks that C frees, at munmap(): at a page. */
    aligned:
      memalign === undefined ? undefined : length => pointer(memalign(EMSCRIPTEN_PAGE, length))
  }
}

/** Whether the module runs: it has a memory, or says that it started. */
function mustBeReady(module) {
  if (memoryOf(module) !== undefined || shown(module, 'calledRun') === true) return
  const compiled = functionOf(module, 'malloc', 'free', 'main') !== undefined
  if (compiled || shown(module, 'FS') !== undefined) return
  throw makeError(
    'ERR_HOSTMAP_ENGINE_NOT_READY',
    `${ENGINE} shows neither memory, functions nor files: it is not initialized yet, or is no ` +
      'Emscripten module. Await the factory, or wait for onRuntimeInitialized'
  )
}

/** The GuardedMemory of the module. */
function guardedMemoryOf(module) {
  const memory = memoryOf(module)
  if (memory === undefined) {
    mustBeReady(module)
    throw unsupportedEngine({
      engine: ENGINE,
      missing: 'does not show its memory',
      instead: 'build it with -sEXPORTED_RUNTIME_METHODS=HEAPU8 or wasmMemory'
    })
  }
  return GuardedMemory.from(memory)
}

/** The allocator that `map` takes blocks from. */
function mustHaveAllocator(module) {
  const { own } = allocatorOf(module)
  if (own === undefined) {
    throw unsupportedEngine({
      engine: ENGINE,
      missing: 'does not show its allocator',
      instead: 'build it with -sEXPORTED_FUNCTIONS=_malloc,_free and what it exports already'
    })
  }
  return own
}

module.exports = {
  ENGINE,
  EMSCRIPTEN_PAGE,
  allocatorOf,
  guardedMemoryOf,
  memoryOf,
  mustBeModule,
  mustBeReady,
  mustHaveAllocator,
  shown
}
