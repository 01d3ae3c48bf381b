// The first `map` of a gigabyte into a memory, with room for it and without, and the next ones.

import { GiB, WASM_PAGE } from './dataset.mjs'
import { Samples, collectGarbage, timeOnce } from './measure.mjs'

const MAP_TURNS = 12
const LATER_CALLS = 50
export const FIRST_MAP_ROWS = [
  { key: 'grows', label: 'first `map` of 1 GiB, the memory grows' },
  { key: 'first', label: 'first `map` of 1 GiB, in a memory with room', atMost: 60_000 },
  { key: 'later', label: 'the next ones, after an unmap', atMost: 10_000 },
  { key: 'make', label: 'for comparison: `new GuardedMemory` with that room' }
]

/**
 * With a build of the package. Where it knows no `room`, its memories grow for the first mapping in
 * any case, and all that follows is in the space that they have grown by.
 */
export async function measureMap(build, onProgress) {
  const { GuardedMemory, HostRegion } = build
  const withRoom = roomOf(GuardedMemory)
  const region = HostRegion.allocate(GiB).seal()
  const samples = new Samples()
  // As many calls as a program makes that maps at all: V8 interprets the first ones.
  const small = HostRegion.allocate(WASM_PAGE).seal()
  const guarded = withRoom(16)
  for (let i = 0; i < 500; i++) guarded.map(small).unmap()
  for (let turn = 0; turn < MAP_TURNS; turn++) {
    const growing = new GuardedMemory({ initial: 1 })
    samples.add('grows', [timeOnce(() => growing.map(region))])
    await collectGarbage()
    let roomy
    samples.add('make', [timeOnce(() => (roomy = withRoom(GiB / WASM_PAGE)))])
    let mapping
    samples.add('first', [timeOnce(() => (mapping = roomy.map(region)))])
    for (let i = 0; i < LATER_CALLS; i++) {
      mapping.unmap()
      samples.add('later', [timeOnce(() => (mapping = roomy.map(region)))])
    }
    await collectGarbage()
    onProgress((turn + 1) / MAP_TURNS)
  }
  return Object.fromEntries(FIRST_MAP_ROWS.map(({ key }) => [key, samples.summary(key)]))
}

/** Makes memories with room for so many Wasm pages, if this build knows the option. */
function roomOf(GuardedMemory) {
  try {
    new GuardedMemory({ initial: 1, room: 1 })
    return room => new GuardedMemory({ initial: 1, room })
  } catch (error) {
    if (error.code !== 'ERR_INVALID_ARG_VALUE') throw error
    return () => new GuardedMemory({ initial: 1 })
  }
}
