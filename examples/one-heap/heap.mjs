// A heap in a GuardedMemory, and programs that are loaded into blocks of it.

import { readFileSync } from 'node:fs'
import { instrumentGrowth } from 'wasm-hostmap'

const read = name => readFileSync(new URL(`${name}.wasm`, import.meta.url))
const compile = name => new WebAssembly.Module(read(name))

// The allocator grows the memory. V8 makes all of it writable then, but if the host does it, the
// dataset is read-only again before any program runs.
const ALLOCATOR = instrumentGrowth(read('heap'))
const ALLOCATOR_MODULE = new WebAssembly.Module(ALLOCATOR.bytes)
const STACK_BYTES = 64 * 1024
const STACK_ALIGN = 16

export const PROGRAMS = {
  select: compile('select'),
  group: compile('group'),
  report: compile('report')
}

/** The numbers of a section `dylink.0`, as the WebAssembly tool conventions have them. */
function linking(module) {
  const [section] = WebAssembly.Module.customSections(module, 'dylink.0')
  const bytes = new Uint8Array(section)
  let at = 0
  const number = () => {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value >>> 0
    }
  }
  const MEMORY_INFO = 1
  if (number() !== MEMORY_INFO) throw new Error('dylink.0 does not begin with what memory it needs')
  number() // the bytes of this part
  return { dataBytes: number(), dataAlign: 2 ** number(), tableEntries: number() }
}

/** One memory, and the allocator in it. All that is loaded into it calls that allocator. */
export class Heap {
  #allocator
  #guarded
  #table = new WebAssembly.Table({ element: 'anyfunc', initial: 0 })
  #stacks = []
  #stacksPerBlock

  /**
   * @param stacksPerBlock how many stacks are taken from the heap at once: a growth of the memory
   *   costs the more, the larger it is
   */
  constructor(guarded, stacksPerBlock) {
    this.#guarded = guarded
    this.#stacksPerBlock = stacksPerBlock
    const { imports, bind } = ALLOCATOR.importsFor({ env: { memory: guarded.memory } })
    const instance = new WebAssembly.Instance(ALLOCATOR_MODULE, imports)
    bind(instance)
    this.#allocator = instance.exports
    this.#allocator._initialize()
  }

  /** A block of the heap. What was in it before, is still there. */
  allocate(byteLength, align = STACK_ALIGN) {
    const size = Math.ceil(Math.max(byteLength, 1) / align) * align
    const address = this.#allocator.aligned_alloc(align, size) >>> 0
    if (address === 0) throw new Error(`the heap has no ${size} bytes left`)
    return address
  }

  #takeStack() {
    if (this.#stacks.length === 0) {
      const block = this.allocate(this.#stacksPerBlock * STACK_BYTES)
      for (let n = 0; n < this.#stacksPerBlock; n++) this.#stacks.push(block + n * STACK_BYTES)
    }
    return this.#stacks.pop()
  }

  free(address) {
    this.#allocator.free(address)
  }

  bytes(address, byteLength) {
    return new Uint8Array(this.#guarded.buffer, address, byteLength)
  }

  /** Loads a program: its data and its stack are blocks of the heap. Returns what it exports. */
  load(module) {
    const { dataBytes, dataAlign, tableEntries } = linking(module)
    const data = this.allocate(dataBytes, Math.max(dataAlign, STACK_ALIGN))
    this.bytes(data, dataBytes).fill(0)
    const stack = this.#takeStack()
    const constant = value => new WebAssembly.Global({ value: 'i32' }, value)
    const { malloc, free } = this.#allocator
    const { exports } = new WebAssembly.Instance(module, {
      heap: { malloc, free },
      env: {
        memory: this.#guarded.memory,
        __indirect_function_table: this.#table,
        __memory_base: constant(data),
        __table_base: constant(this.#table.grow(tableEntries)),
        // Stacks grow downwards. Below this one is another's block, and no guard page.
        __stack_pointer: new WebAssembly.Global(
          { value: 'i32', mutable: true },
          stack + STACK_BYTES
        )
      }
    })
    exports.__wasm_apply_data_relocs?.()
    return exports
  }
}
