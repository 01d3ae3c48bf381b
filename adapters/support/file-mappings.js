'use strict'

// What C's mmap() gives for one file whose bytes are a region: addresses in mappings of the region,
// in place of blocks that Emscripten fills with a copy.
//
// munmap() can't be seen from here: it frees in C, and calls JavaScript only for files that are
// still open and ranges that may be written. So each mapping belongs to one of three kinds:
//
// - A view. The adapter owns its block, says so (`allocated: false`: C does not free it), and gives
//   addresses in it to every later mmap() of that range that may see the same bytes. Nothing is
//   lost when munmap() goes unseen. Views of a file take at most twice its size of address space.
// - A block of C's own, which munmap() frees, for programs that write to copies (MAP_PRIVATE and
//   PROT_WRITE) and where views would take too much: a mapping with `owner: 'engine'`.
// - A copy, as Emscripten makes it, where the module shows no allocator for either.

const {
  EMSCRIPTEN_PAGE,
  allocatorOf,
  guardedMemoryOf,
  memoryOf
} = require('./emscripten-module.js')
const { mapInCBlock, ownBlocks } = require('./engine-blocks.js')
const { MAP_PRIVATE, PROT_WRITE } = require('./memfs.js')
const { PAGE_BYTES } = require('./file-contents.js')

const roundUp = (length, unit) => Math.ceil(length / unit) * unit

/** The memory's bytes in a view, or in a part of it. */
function seenIn({ mapping, from, end }, first = from, last = end) {
  return new Uint8Array(mapping.memory.buffer, mapping.address + first - from, last - first)
}

class FileMappings {
  #module
  #contents
  /** Mappings that mmap() gives addresses in: { from, end, mapping }, by position. */
  #views = []
  #taken = 0
  /** Whether C got something else than a view that it may write to the file from. */
  #isApart = false

  /**
   * `contents`: as FileContents. `taken`: what earlier views took of the address space, and still
   * take.
   */
  constructor(module, contents, taken = 0) {
    this.#module = module
    this.#contents = contents
    this.#taken = taken
  }

  /**
   * As `stream_ops.mmap`: { ptr, allocated }. `fallback`: makes the copy that Emscripten makes, of
   * the stream that C asks with.
   */
  map({ length, position, prot, flags }, fallback) {
    const separate = (flags & MAP_PRIVATE) !== 0 && (prot & PROT_WRITE) !== 0
    // Empty ranges, and ranges past the end, have nothing to map.
    const end = Math.min(position + length, this.#contents.base)
    if (memoryOf(this.#module) !== undefined && position % PAGE_BYTES === 0 && position < end) {
      const address = separate
        ? undefined
        : (this.#find(position, position + length) ?? this.#view(position, length))
      if (address !== undefined) return { ptr: address, allocated: false }
      this.#isApart ||= !separate
      const block = this.#cBlock(position, length)
      if (block !== undefined) return { ptr: block, allocated: true }
      if (separate) {
        const own = this.#ownView(position, length, 'private')
        if (own !== undefined) return { ptr: own.mapping.address, allocated: false }
      }
    }
    this.#isApart ||= !separate
    return fallback()
  }

  /** The views that serve later calls. GuardedMemory shows them, so others may unmap one. */
  #shown() {
    for (const view of this.#views) if (view.mapping.unmapped) this.#taken -= view.size
    this.#views = this.#views.filter(({ mapping }) => !mapping.unmapped)
    return this.#views.filter(({ shown }) => shown)
  }

  #find(from, end) {
    const view = this.#shown().find(has => has.from <= from && has.end >= end)
    return view === undefined ? undefined : view.mapping.address + from - view.from
  }

  /** A new view: of the range, or of the whole file if it has one of another range already. */
  #view(position, length) {
    const { access, size } = this.#contents
    const ranges = [[position, length]]
    if (this.#shown().length > 0) ranges.unshift([0, Math.max(size, position + length)])
    for (const [from, bytes] of ranges) {
      const view = this.#ownView(from, bytes, access)
      if (view !== undefined) {
        view.shown = true
        return view.mapping.address + position - from
      }
    }
    return undefined
  }

  /** A mapping in a block that the adapter owns; undefined if there is no room for it. */
  #ownView(from, length, access) {
    const size = roundUp(length, EMSCRIPTEN_PAGE)
    if (allocatorOf(this.#module).own === undefined) return undefined
    if (this.#taken + size > 2 * roundUp(this.#contents.size, EMSCRIPTEN_PAGE)) return undefined
    const mapping = this.#place(from, length, access, (region, part) => {
      // Room behind the region's part, for what C expects to be mapped there.
      const allocator = ownBlocks(this.#module, size - part.byteLength)
      return guardedMemoryOf(this.#module).map(region, { ...part, access, allocator })
    })
    if (mapping === undefined) return undefined
    this.#taken += size
    const view = { from, end: from + length, size, mapping, shown: false }
    this.#views.push(view)
    return view
  }

  /** The address of a copy-on-write mapping in a block that munmap() frees. */
  #cBlock(from, length) {
    return this.#place(from, length, 'private', (region, part) =>
      mapInCBlock(this.#module, region, length, part)
    )?.address
  }

  /** Maps the region's part of the range, and writes the rest of it behind. */
  #place(from, length, access, map) {
    const { region, start, base } = this.#contents
    const byteLength = Math.min(length, base - from)
    if (byteLength <= 0 || region.closed || (start + from) % PAGE_BYTES !== 0) return undefined
    let mapping
    try {
      mapping = map(region, { byteOffset: start + from, byteLength })
    } catch (error) {
      // No room, or the kernel refuses: C gets a copy or ENOMEM, as without this adapter.
      if (error.code === 'ERR_HOSTMAP_INTERNAL') throw error
      return undefined
    }
    if (mapping === undefined) return undefined
    const heap = new Uint8Array(mapping.memory.buffer)
    const { address } = mapping
    // What follows the region's part reads as zeros; in its last page, too, if that is a copy.
    const part = base - from
    const mapped = access === 'private' ? part : roundUp(part, PAGE_BYTES)
    const whole = roundUp(length, PAGE_BYTES)
    if (mapped < whole) heap.fill(0, address + mapped, address + whole)
    this.#contents.eachOwn(from, from + length, (at, end) => {
      this.#contents.read(heap, address + at - from, end - at, at)
    })
    return mapping
  }

  /** After the program wrote [from, end) of the file: views show it. */
  written(from, end) {
    if (this.#contents.access === 'shared') return
    const views = this.#shown()
    if (views.length === 0) return
    const heap = new Uint8Array(views[0].mapping.memory.buffer)
    for (const view of views) {
      const first = Math.max(from, view.from)
      const last = Math.min(end, view.end)
      if (first < last) {
        this.#contents.read(heap, view.mapping.address + first - view.from, last - first, first)
      }
    }
  }

  /**
   * As `stream_ops.msync`, which C's munmap() calls too: writes to the file what differs. `bytes`
   * are the memory's, mostly a copy without an address, that are said to be the file's at
   * `position`. Until 3.1.34 at least, msync() of C always says 0, so that is believed only if a
   * view shows it.
   */
  sync(bytes, position, write) {
    if (this.#contents.access === 'shared') return
    const end = position + bytes.length
    const shown = this.#shown()
    const isRight = view =>
      view.from <= position &&
      view.end >= end &&
      Buffer.compare(seenIn(view, position, end), bytes) === 0
    if (this.#isApart || shown.some(isRight)) this.#writeBack(bytes, position, write)
    else for (const view of shown) this.#writeBack(seenIn(view), view.from, write)
  }

  #writeBack(bytes, position, write) {
    const end = Math.min(position + bytes.length, this.#contents.size)
    for (let at = position; at < end; at += PAGE_BYTES) {
      const length = Math.min(PAGE_BYTES, end - at)
      const seen = bytes.subarray(at - position, at - position + length)
      if (Buffer.compare(seen, this.#contents.slice(at, length)) !== 0) write(seen.slice(), at)
    }
  }

  /** Whether all that C may write to the file is in views. */
  get isWhole() {
    return !this.#isApart
  }

  /** How many bytes of address space its views take. */
  get taken() {
    this.#shown()
    return this.#taken
  }

  /** How many mappings the adapter owns. */
  get count() {
    this.#shown()
    return this.#views.length
  }

  /** Unmaps them and frees their blocks: no address that mmap() gave may be in use. */
  release() {
    const views = this.#views
    this.#views = []
    this.#taken = 0
    for (const { mapping } of views) mapping.unmap()
  }
}

module.exports = { FileMappings }
