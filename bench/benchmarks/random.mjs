// The cost of reading at random places, by the size of the host's pages.

import { GuardedMemory, HostRegion, limits } from '../../index.mjs'
import { GiB, KiB, MiB, QUICK, WASM_PAGE, fillWithNoise } from '../lib/dataset.mjs'
import { availableBytes } from '../lib/machine.mjs'
import { Samples, bytes, collectGarbage, each, notMeasured, timeOnce } from '../lib/measure.mjs'
import { hasNative, runNative } from '../lib/native.mjs'
import { compileRandom } from '../lib/random.mjs'
import { formatBytes, ratioOf } from '../lib/table.mjs'
import { withFile } from '../lib/with-file.mjs'

export const title = 'Random reads'
export const measures =
  'A Wasm function reads 8 bytes at a time, at random places of its choice in the dataset. Every page was read before, so this measures the caches of the processor and of its address translation (TLB), not page faults.'

export const cases = [{ address: 'i32' }, { address: 'i64' }]

const STEP_BYTES = 256 * MiB
/** A 32-bit memory of 4 GiB has no room for anything beside the dataset. */
const MOST_BYTES = { i32: 3.75 * GiB, i64: 4 * GiB }
const READS = QUICK ? 1_000_000 : 4_000_000
const READS_IN_CHAIN = READS / 5
const TURNS = QUICK ? 1 : 2
const ROUNDS = 3
const PROGRAMS = { random: READS, chain: READS_IN_CHAIN }
const PAGES = ['small', 'huge']
/** What the region is asked for. */
const HUGE_PAGES = { small: false, huge: true }
/** Reads within parts of the dataset, for the plot. */
const PART_SIZES = Array.from({ length: 15 }, (_, index) => 64 * KiB * 2 ** index)
const READS_OF_PART = { random: READS / 4, chain: READS_IN_CHAIN / 4 }

/** As much as requested, if there is memory for it. There is one dataset at a time. */
function chooseSize(address) {
  const wanted = Math.min(
    Number(process.env.HOSTMAP_BENCH_GIB || (QUICK ? 0.25 : 4)) * GiB,
    MOST_BYTES[address]
  )
  const room = Math.floor((availableBytes() - GiB) / STEP_BYTES) * STEP_BYTES
  const byteLength = Math.max(STEP_BYTES, Math.min(wanted, room))
  return {
    byteLength,
    reason: byteLength < wanted ? `${formatBytes(wanted + GiB)} of memory are not free` : null
  }
}

export async function measure({ address }, onProgress) {
  const { byteLength, reason } = chooseSize(address)
  if (address === 'i64' && limits().wasm.maxPages64 === 0)
    return { address, byteLength, unsupported: true }
  const over = await compileRandom(address)
  const samples = new Samples()
  const setting = { address, byteLength, over, samples, sums: new Map() }
  let hugeBytes
  for (let turn = 0; turn < TURNS; turn++) {
    const ways = [
      () => plainTurn(setting),
      () => mappedTurn(setting, 'small'),
      () => (hugeBytes = mappedTurn(setting, 'huge'))
    ]
    for (let i = 0; i < ways.length; i++) {
      ways[(turn + i) % ways.length]()
      await collectGarbage()
      onProgress((turn + (i + 1) / ways.length) / TURNS)
    }
  }
  const figure = (program, way) => {
    const summary = samples.summary(`${program} ${way}`)
    return summary ? each(summary, PROGRAMS[program]) : notMeasured('no native program')
  }
  const pointOf = (program, way, partBytes) => [
    partBytes,
    each(samples.summary(`${program} ${way} ${partBytes}`), READS_OF_PART[program]).median
  ]
  const programs = Object.keys(PROGRAMS).map(program => ({
    program,
    curves: Object.fromEntries(
      ['plain', ...PAGES].map(way => [
        way,
        [
          ...partsOf(byteLength).map(partBytes => pointOf(program, way, partBytes)),
          [byteLength, figure(program, way).median]
        ]
      ])
    ),
    plain: figure(program, 'plain'),
    ...Object.fromEntries(
      PAGES.flatMap(pages => [
        [pages, figure(program, pages)],
        [`${pages}Native`, figure(program, `${pages} native`)]
      ])
    )
  }))
  return { address, byteLength, reason, hugeBytes: bytes(hugeBytes), programs }
}

/** All ways must find the same as the first one. */
function check({ sums }, program, sum) {
  if (!sums.has(program)) sums.set(program, sum)
  if (sums.get(program) !== sum || sum === 0n)
    throw new Error(`${program}: two ways read different bytes`)
}

function readTurn(setting, way, guarded, at) {
  const { byteLength, over, samples } = setting
  const exports = over(guarded.memory)
  touch(new Uint8Array(guarded.buffer, at, byteLength))
  for (const [program, reads] of Object.entries(PROGRAMS)) {
    for (let round = 0; round < ROUNDS; round++) {
      let sum
      const ns = timeOnce(() => (sum = exports[program](BigInt(at), BigInt(byteLength / 8), reads)))
      check(setting, program, BigInt.asUintN(64, sum))
      samples.add(`${program} ${way}`, [ns])
    }
    for (const partBytes of partsOf(byteLength)) {
      const reads = READS_OF_PART[program]
      // The first round fills the caches.
      for (let round = -1; round < ROUNDS; round++) {
        const ns = timeOnce(() => exports[program](BigInt(at), BigInt(partBytes / 8), reads))
        if (round >= 0) samples.add(`${program} ${way} ${partBytes}`, [ns])
      }
    }
  }
}

const partsOf = byteLength => PART_SIZES.filter(partBytes => partBytes < byteLength)

function touch(array) {
  let sum = 0
  for (let i = 0; i < array.length; i += 4096) sum += array[i]
  return sum
}

function memoryOf({ address }, byteLength) {
  const initial = 1 + byteLength / WASM_PAGE
  return new GuardedMemory(address === 'i64' ? { initial: BigInt(initial), address } : { initial })
}

function plainTurn(setting) {
  const guarded = memoryOf(setting, setting.byteLength)
  fillWithNoise(new Uint8Array(guarded.buffer, WASM_PAGE, setting.byteLength))
  readTurn(setting, 'plain', guarded, WASM_PAGE)
}

/**
 * Ours, and the native program over the very same pages. Gives how many bytes of them are in huge
 * ones.
 */
function mappedTurn(setting, pages) {
  const { byteLength, samples } = setting
  const region = HostRegion.allocate(byteLength, { hugePages: HUGE_PAGES[pages] })
  fillWithNoise(new Uint8Array(region.view()))
  const guarded = memoryOf(setting, 0)
  const mapping = guarded.map(region, { populate: true })
  readTurn(setting, pages, guarded, mapping.address)
  if (hasNative()) {
    for (const [program, reads] of Object.entries(PROGRAMS)) {
      const { ns, sum } = withFile(region, file =>
        runNative('read', file, byteLength, 'touched', program, reads, ROUNDS)
      )
      check(setting, program, BigInt(sum))
      samples.add(`${program} ${pages} native`, ns)
    }
  }
  const hugeBytes = pages === 'huge' ? region.hugePages.bytes : 0
  mapping.unmap()
  region.close()
  return hugeBytes
}

const BITS = { i32: '32-bit memory', i64: '64-bit memory' }
const HOW = { random: 'independent reads', chain: 'each place found by the read before' }

export function report(results) {
  const measured = results.filter(({ unsupported }) => !unsupported)
  const missing = results
    .filter(({ unsupported }) => unsupported)
    .map(({ address }) => BITS[address])
  const reasons = measured.flatMap(({ byteLength, reason }) =>
    reason ? [`Only ${formatBytes(byteLength)}: ${reason}.`] : []
  )
  const table = {
    id: 'random',
    title: '8 bytes at random places',
    rowLabel: 'memory, reads',
    columns: [
      { key: 'plain', label: 'plain memory' },
      { key: 'small', label: 'mapped, 4 KiB pages' },
      { key: 'huge', label: 'mapped, 2 MiB pages' },
      { key: 'smallNative', label: 'native, 4 KiB pages' },
      { key: 'hugeNative', label: 'native, 2 MiB pages' },
      { key: 'hugeBytes', label: 'in 2 MiB pages' },
      { label: '4 KiB : 2 MiB', ratio: ['small', 'huge'] },
      { label: '4 KiB : 2 MiB, native', ratio: ['smallNative', 'hugeNative'] },
      { label: 'native : mapped, 2 MiB', ratio: ['hugeNative', 'huge'] }
    ],
    note: [
      'The time of one read. Independent reads: the processor works on several at once. Plain memory has the pages that the system gives V8: huge ones only if transparent huge pages are `always`. Native: a Rust program with the same loop, over its own mapping of the same pages. A 32-bit memory has no room for anything beside 4 GiB of data, so it has 3.75 GiB.',
      ...reasons,
      ...missing.map(bits => `This V8 has no ${bits}.`)
    ].join(' '),
    rows: measured.flatMap(({ address, byteLength, hugeBytes, programs }) =>
      programs.map(({ program, curves, ...cells }) => ({
        label: `${BITS[address]}, ${formatBytes(byteLength)}, ${HOW[program]}`,
        parameters: { address, byteLength, program, curves },
        cells: { ...cells, hugeBytes }
      }))
    )
  }
  const promises = table.rows.map(row => ({
    text: `rate of random reads with 2 MiB pages, to that with 4 KiB pages, ${row.label}`,
    value: ratioOf(row, ['small', 'huge']),
    unit: 'ratio',
    atLeast: 1.5
  }))
  return { tables: [table], promises, plots: [plotOf(measured[0])] }
}

const plotOf = ({ address, programs }) => ({
  name: 'random',
  title: `Reading 8 bytes at random places of a part of a ${BITS[address]}`,
  xLabel: 'bytes of the part',
  xUnit: 'bytes',
  panels: programs.map(({ program, curves }) => ({
    title: HOW[program],
    lines: Object.entries({
      plain: 'plain memory',
      small: 'mapped, 4 KiB pages',
      huge: 'mapped, 2 MiB pages'
    }).map(([way, label]) => ({ label, points: curves[way] }))
  }))
})
