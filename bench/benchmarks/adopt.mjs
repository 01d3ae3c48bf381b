// What it costs that a memory takes over an array that exists, and gives it back.

import { readFileSync } from 'node:fs'
import { GuardedMemory, HostRegion } from '../../index.mjs'
import { GiB, KiB, MiB, QUICK, hostArray } from '../lib/dataset.mjs'
import { Samples, bytes, collectGarbage, timeOnce } from '../lib/measure.mjs'

export const title = 'Adopt'
export const measures =
  'An ArrayBuffer whose pages are all in memory, in a memory that has room: `adopt`, and `release`, which gives back an ArrayBuffer; beside `HostRegion.copyFrom` of the same array, and the bare copy into pages of the memory that are there (`TypedArray.set`). Garbage is collected before each call, and V8’s threads have time to end what they do. What V8 does when it hears of a large buffer is part of `release`: `new ArrayBuffer` beside it is that alone, since its pages come when they are touched.'

export const cases = [{}]

const SIZES = [128 * KiB, MiB, 64 * MiB, QUICK ? 128 * MiB : GiB]
const TURNS = QUICK ? 2 : 20
const COLUMNS = ['adopt', 'release', 'buffer', 'copyFrom', 'set']
// V8 sweeps in threads of its own: each CPU that runs one is interrupted for every 2 MiB moved.
const QUIET_MS = QUICK ? 1 : 100

async function quiet() {
  await collectGarbage()
  await new Promise(resolve => setTimeout(resolve, QUIET_MS))
}

const residentBytes = () =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'latin1'))[1]) * KiB

export async function measure(_, onProgress) {
  const found = []
  for (const [i, byteLength] of SIZES.entries()) {
    found.push(await measureSize(byteLength))
    onProgress((i + 1) / SIZES.length)
  }
  return found
}

async function measureSize(byteLength) {
  const guarded = new GuardedMemory({ initial: 1, maximum: 65536 })
  guarded.adopt(new ArrayBuffer(MiB)).release()
  const samples = new Samples()
  let { buffer } = hostArray(byteLength)
  let more = 0
  for (let turn = 0; turn < TURNS; turn++) {
    await quiet()
    const before = residentBytes()
    let adopted
    const adopt = timeOnce(() => (adopted = guarded.adopt(buffer, { copy: 'never' })))
    more = Math.max(more, residentBytes() - before)
    await quiet()
    const release = timeOnce(() => (buffer = adopted.release()))
    await quiet()
    const made = timeOnce(() => new ArrayBuffer(byteLength))
    // The first one grows the memory.
    if (turn === 0) continue
    samples.add('adopt', [adopt])
    samples.add('release', [release])
    samples.add('buffer', [made])
  }
  const place = guarded.adopt(buffer)
  const { address } = place
  buffer = place.release()
  const target = new Uint8Array(guarded.buffer, address, byteLength)
  const source = new Uint8Array(buffer)
  target.set(source)
  for (let turn = 1; turn < TURNS; turn++) {
    await collectGarbage()
    samples.add('set', [timeOnce(() => target.set(source))])
    let region
    samples.add('copyFrom', [timeOnce(() => (region = HostRegion.copyFrom(source)))])
    region.close()
  }
  const summaries = Object.fromEntries(COLUMNS.map(name => [name, samples.summary(name)]))
  const times = samples.ratio('copyFrom', 'adopt')
  return { byteLength, ...summaries, times, more: bytes(Math.max(0, more)) }
}

export function report([found]) {
  const table = {
    id: 'adopt',
    title: 'An array that exists, taken over and given back',
    rowLabel: 'array',
    columns: [
      { key: 'adopt', label: '`adopt`' },
      { key: 'release', label: '`release`' },
      { key: 'buffer', label: '`new ArrayBuffer`' },
      { key: 'copyFrom', label: '`copyFrom`' },
      { key: 'set', label: '`set`' },
      { key: 'times', label: '`copyFrom` : `adopt`' },
      { key: 'more', label: 'more memory meanwhile' }
    ],
    note: 'Ratios are medians over turns.',
    rows: found.map(({ byteLength, ...cells }) => ({
      label:
        byteLength >= GiB ? '1 GiB' : byteLength >= MiB ? `${byteLength / MiB} MiB` : '128 KiB',
      parameters: { byteLength },
      cells
    }))
  }
  return { tables: [table], promises: [] }
}
