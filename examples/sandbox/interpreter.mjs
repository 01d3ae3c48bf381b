// QuickJS in WebAssembly, driven through the module's exports. All of its state is in the instance,
// so restoring the instance restores the interpreter.

import { readFile } from 'node:fs/promises'
import { prelude } from './requests.mjs'

/** The bytes of the module. */
export const wasm = await readFile(new URL(import.meta.resolve('quickjs-wasi/quickjs.wasm')))

const MOST_BYTES = 2 ** 24 // of QuickJS's heap
const USUAL_BYTES = 2 ** 19 // that a request typically takes
const MOST_STEPS = 50 // QuickJS asks about once per ten thousand of its own steps

let running // the exports of the running instance; calls are synchronous
let stepsLeft

/** The module's imports, the same for all instances of a thread. */
export const imports = {
  env: {
    // An error thrown here unwinds all frames of the interpreter at once, as a trap does.
    host_interrupt() {
      if (stepsLeft-- === 0) throw new Error('too many steps')
      return 0
    },
    ...refuse('host_call', 'host_promise_rejection', 'host_module_normalize', 'host_module_load'),
    host_get_timezone_offset: () => 0
  },
  wasi_snapshot_preview1: {
    // The clock stops and nothing is random, so that answers can be compared. If your scripts need
    // random numbers, seed them after each acquire: all instances start in the same state,
    // including that of Math.random().
    clock_time_get(_clock, _precision, address) {
      new DataView(running.memory.buffer).setBigUint64(address, 1_700_000_000_000_000_000n, true)
      return 0
    },
    random_get(address, byteLength) {
      new Uint8Array(running.memory.buffer, address, byteLength).fill(42)
      return 0
    },
    ...refuse('fd_close', 'fd_fdstat_get', 'fd_seek', 'fd_write')
  }
}

function refuse(...names) {
  const refusal = name => () => {
    throw new Error(`${name} is not available in the sandbox`)
  }
  return Object.fromEntries(names.map(name => [name, refusal(name)]))
}

/** Brings an instance into the state that requests start in. */
export function initialize(exports) {
  running = exports
  exports._initialize()
  if (exports.qjs_init() !== 0) throw new Error('QuickJS could not start')
  exports.qjs_set_max_stack_size(0) // no limit but the real one
  exports.qjs_set_interrupt_handler(1)
  run(exports, prelude, Infinity)
  exports.qjs_set_memory_limit(MOST_BYTES)
  // Grow the memory now: it can't shrink, so an instance whose request grew it can't be reused.
  exports.wasm_free(exports.wasm_malloc(USUAL_BYTES))
}

/**
 * Evaluates a script and returns its value as a string. Frees nothing: the heap is restored as a
 * whole.
 * @throws {Error} the script's error, or the instance's, which is unusable then
 */
export function evaluate(exports, source) {
  return run(exports, source, MOST_STEPS)
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()

function run(exports, source, steps) {
  running = exports
  stepsLeft = steps
  const file = writeText(exports, 'request.js')
  const text = writeText(exports, source)
  const value = exports.qjs_eval(text.address, text.byteLength, file.address, 0)
  if (exports.qjs_is_exception(value))
    throw new Error(readText(exports, exports.qjs_get_exception()))
  return readText(exports, value)
}

function writeText(exports, text) {
  const bytes = encoder.encode(`${text}\0`)
  const address = exports.wasm_malloc(bytes.length)
  if (address === 0) throw new Error('out of memory')
  new Uint8Array(exports.memory.buffer).set(bytes, address)
  return { address, byteLength: bytes.length - 1 }
}

function readText(exports, value) {
  const length = exports.wasm_malloc(4)
  const address = length && exports.qjs_get_string_len(value, length)
  if (address === 0) throw new Error('out of memory')
  const byteLength = new DataView(exports.memory.buffer).getUint32(length, true)
  return decoder.decode(new Uint8Array(exports.memory.buffer, address, byteLength))
}
