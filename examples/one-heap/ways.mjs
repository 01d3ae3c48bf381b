// Two ways to run three programs over one dataset. Each gives `query(least, rows)`, which says what
// it copied, and `stray()`, which lets one program write where another has its data.

import { GuardedMemory } from 'wasm-hostmap'
import { Heap, PROGRAMS } from './heap.mjs'
import { RECORD_BYTES } from './readings.mjs'

const decoder = new TextDecoder()

function textAt(heap, guarded, address) {
  const bytes = new Uint8Array(guarded.buffer)
  return decoder.decode(heap.bytes(address, bytes.indexOf(0, address) - address))
}

/** A memory with a heap, and the dataset in it. */
function makeHeap(region, stacksPerBlock) {
  const guarded = new GuardedMemory({ initial: 1 })
  const { pointer } = guarded.map(region)
  return { guarded, heap: new Heap(guarded, stacksPerBlock), readings: pointer }
}

/** All programs of all pipelines in one heap: what one makes, the next one reads where it is. */
export function oneHeap(region) {
  const { guarded, heap, readings } = makeHeap(region, 48)
  const count = region.byteLength / RECORD_BYTES

  const start = () => {
    const { select } = heap.load(PROGRAMS.select)
    const { group } = heap.load(PROGRAMS.group)
    const { report, stray } = heap.load(PROGRAMS.report)
    const free = address => heap.free(address)
    const query = (least, rows) => {
      const selection = select(readings, count, BigInt(least)) >>> 0
      const groups = group(selection) >>> 0
      const text = report(groups, rows) >>> 0
      const said = textAt(heap, guarded, text)
      ;[selection, groups, text].forEach(free)
      return { text: said, copiedBytes: 0 }
    }
    return { query, select, stray }
  }

  /** Whether a stray write of one program reaches what another has made. */
  const isReached = ({ select, stray }) => {
    const selection = select(readings, count, 0n) >>> 0
    stray(selection)
    const [found] = new Uint32Array(guarded.buffer, selection, 1)
    heap.free(selection)
    return found !== count
  }

  return { start, isReached, writesDataset: ({ stray }) => writesTo(stray, readings) }
}

/** A memory for each program: what one makes is copied for the next one. */
export function ownMemories(region) {
  const count = region.byteLength / RECORD_BYTES

  const start = () => {
    const [first, second, third] = [1, 2, 3].map(() => makeHeap(region, 1))
    const { select } = first.heap.load(PROGRAMS.select)
    const { group } = second.heap.load(PROGRAMS.group)
    const { report, stray } = third.heap.load(PROGRAMS.report)

    // The dataset has the same address in all of them, so that pointers to it mean the same.
    const { readings } = first
    if (second.readings !== readings || third.readings !== readings)
      throw new Error('two addresses')
    const copy = (from, address, byteLength, to) => {
      const copied = to.heap.allocate(byteLength)
      to.heap.bytes(copied, byteLength).set(from.heap.bytes(address, byteLength))
      from.heap.free(address)
      return copied
    }
    const wordAt = ({ guarded }, address) => new Uint32Array(guarded.buffer, address, 1)[0]

    const query = (least, rows) => {
      const selection = select(readings, count, BigInt(least)) >>> 0
      const selectionBytes = 4 + 4 * wordAt(first, selection)
      const selected = copy(first, selection, selectionBytes, second)
      const groups = group(selected) >>> 0
      const groupsBytes = 8 + 16 * 2 ** wordAt(second, groups)
      const grouped = copy(second, groups, groupsBytes, third)
      const text = report(grouped, rows) >>> 0
      const said = textAt(third.heap, third.guarded, text)
      second.heap.free(selected)
      third.heap.free(grouped)
      third.heap.free(text)
      return { text: said, copiedBytes: selectionBytes + groupsBytes }
    }
    return { query, select, stray, first, readings }
  }

  const isReached = ({ select, stray, first, readings }) => {
    const selection = select(readings, count, 0n) >>> 0
    writesTo(stray, selection) // traps if the other memory ends before
    const [found] = new Uint32Array(first.guarded.buffer, selection, 1)
    first.heap.free(selection)
    return found !== count
  }

  return { start, isReached, writesDataset: ({ stray, readings }) => writesTo(stray, readings) }
}

function writesTo(stray, address) {
  try {
    stray(address)
    return true
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) return false
    throw error
  }
}

export const ways = { oneHeap, ownMemories }
