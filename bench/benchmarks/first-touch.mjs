// The first pass over pages that are in memory and were never touched through this mapping: ways to
// get them into the page table, and what each costs those who touch little.

import { execFileSync, fork } from 'node:child_process'
import { closeSync, copyFileSync, readFileSync, rmSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { GuardedMemory, HostRegion } from '../../index.mjs'
import { GiB, MiB, QUICK, WASM_PAGE } from '../lib/dataset.mjs'
import { Samples, bytes, notMeasured, timeOnce } from '../lib/measure.mjs'
import { hasNative, runNative } from '../lib/native.mjs'
import { ownTimeNs, threadTimeNs } from '../lib/processor-time.mjs'
import { compileRandom } from '../lib/random.mjs'
import { temporaryFile, writeNoise } from '../lib/stream.mjs'
import { compileSum } from '../lib/sum.mjs'
import { formatBytes } from '../lib/table.mjs'

export const title = 'First touch'
export const measures =
  'A module adds up all 64-bit integers of a dataset that is in memory, with SIMD, through a mapping that nobody has touched; beside its scan of a copy in the same memory. Then the same with every processor but one kept busy by others, four modules, and a module that reads a few words here and there.'

const DATASET_BYTES = QUICK ? 128 * MiB : GiB
const TURNS = QUICK ? 3 : 7
const FEW_READS = 1000
const MODULES = 4
const COLD_TURNS = QUICK ? 2 : 7
const AHEAD = 'hostmap-ahead'

const BACKINGS = { ext4: 'file on a disk', tmpfs: 'file on tmpfs', memfd: 'memfd' }
export const cases = [...Object.keys(BACKINGS), 'cold'].map(backing => ({ backing }))

/** As `map` is called. Without options, as users do. */
const MAPPED = {
  default: { label: '`map`' },
  touched: { label: '`map`, `populate: false`', options: { populate: false } },
  before: {
    label: 'the same, not at a multiple of 2 MiB',
    options: { populate: false, hugePages: false }
  },
  populate: { label: '`map`, `populate: true`', options: { populate: true } }
}
const FEW = ['default', 'before']
const FIELDS = ['VmRSS', 'VmPTE']
/** Candidates, in a native program. */
const NATIVE = {
  untouched: { label: 'native, as touched' },
  sequential: { label: 'native, `MADV_SEQUENTIAL`' },
  populated: { label: 'native, `MADV_POPULATE_READ` before' },
  'ahead-touch': { label: 'native, a thread reads a byte of each 64 KiB' },
  'ahead-pages': { label: 'native, a thread populates a page of each 64 KiB' },
  'ahead-strides': { label: 'native, a thread populates 2 MiB at a time' }
}

/** The dataset, in memory, and how a native program opens it. */
function makeDataset(backing) {
  const file = temporaryFile('noise')
  writeNoise(file, DATASET_BYTES, () => {})
  if (backing === 'memfd') {
    const region = HostRegion.copyFrom(readFileSync(file))
    const fd = region.duplicateFd()
    process.on('exit', () => closeSync(fd))
    return { region, file: `/proc/${process.pid}/fd/${fd}` }
  }
  if (backing !== 'tmpfs') return { region: HostRegion.open(file), file }
  const copy = `/dev/shm/wasm-hostmap-bench-${process.pid}`
  process.on('exit', () => rmSync(copy, { force: true }))
  copyFileSync(file, copy)
  return { region: HostRegion.open(copy), file: copy }
}

/** Bytes of the process: resident, or of its page tables. */
const statusBytes = field =>
  1024 *
  Number(
    new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync('/proc/self/status', 'latin1'))[1]
  )

/** Runs `use` while another process keeps a processor busy. */
async function withBusyProcessor(use) {
  const child = fork(fileURLToPath(new URL('../lib/busy.mjs', import.meta.url)))
  try {
    await use()
  } finally {
    child.kill('SIGKILL')
  }
}

/** Fails if two ways did not read the same bytes. */
function makeCheck() {
  let expected
  return sum => {
    const unsigned = BigInt.asUintN(64, BigInt(sum))
    expected ??= unsigned
    if (unsigned !== expected) throw new Error('two ways read different bytes')
  }
}

/** Adds the time of an operation, and what processor time two threads took meanwhile. */
function timed(samples, name, operation) {
  const aheadNs = threadTimeNs(AHEAD)
  const ownNs = ownTimeNs()
  const startNs = process.hrtime.bigint()
  const result = operation()
  samples.add(name, [Number(process.hrtime.bigint() - startNs)])
  samples.add(`${name} own`, [ownTimeNs() - ownNs])
  samples.add(`${name} ahead`, [threadTimeNs(AHEAD) - aheadNs])
  return result
}

/** A memory that holds a copy, and has room for a mapping. */
function makeMemory(region, byteLength) {
  const guarded = new GuardedMemory({
    initial: 1 + byteLength / WASM_PAGE,
    room: (byteLength + 4 * MiB) / WASM_PAGE
  })
  const bytes = new Uint8Array(region.view({ byteLength }))
  new Uint8Array(guarded.buffer, WASM_PAGE, byteLength).set(bytes)
  return guarded
}

export const measure = ({ backing }, onProgress) =>
  backing === 'cold' ? measureCold(onProgress) : measureWarm(backing, onProgress)

async function measureWarm(backing, onProgress) {
  const { region, file } = makeDataset(backing)
  const samples = new Samples()
  const guarded = makeMemory(region, DATASET_BYTES)
  const sum = (await compileSum())(guarded.memory)
  const { random } = (await compileRandom('i32'))(guarded.memory)
  const check = makeCheck()

  const scan = (load, way) => {
    const { options } = MAPPED[way]
    timed(samples, `${load} ${way} all`, () => {
      const { address } = guarded.map(region, options)
      check(timed(samples, `${load} ${way}`, () => sum(address, DATASET_BYTES)))
    })
    const { address } = guarded.mappings[0]
    samples.add(`${load} ${way} second`, [timeOnce(() => sum(address, DATASET_BYTES))])
    guarded.mappings[0].unmap()
  }
  const native = (load, way) => {
    const read = runNative('read', file, DATASET_BYTES, way, 'simd', 2)
    check(read.sum)
    samples.add(`${load} ${way}`, [read.ns[0]])
    samples.add(`${load} ${way} second`, [read.ns[1]])
  }
  const turn = (load, index) => {
    const heap = () => timed(samples, `${load} heap`, () => sum(WASM_PAGE, DATASET_BYTES))
    const ways = [
      () => check(heap()),
      ...Object.keys(MAPPED).map(way => () => scan(load, way)),
      ...(hasNative() ? Object.keys(NATIVE) : []).map(way => () => native(load, way))
    ]
    for (let i = 0; i < ways.length; i++) ways[(index + i) % ways.length]()
  }
  for (let index = 0; index < TURNS; index++) {
    turn('alone', index)
    onProgress((0.45 * (index + 1)) / TURNS)
  }
  await withBusyProcessor(() => {
    for (let index = 0; index < TURNS; index++) {
      turn('busy', index)
      onProgress(0.45 + (0.4 * (index + 1)) / TURNS)
    }
  })

  const more = {}
  for (let index = 0; index < TURNS; index++) {
    for (const way of index % 2 ? FEW : [...FEW].reverse()) {
      const mapping = guarded.map(region, MAPPED[way].options)
      const before = FIELDS.map(statusBytes)
      const words = BigInt(DATASET_BYTES / 8)
      timed(samples, `few ${way}`, () => random(BigInt(mapping.address), words, FEW_READS))
      // Long enough for a thread that would map more.
      await setTimeout(50)
      more[way] = FIELDS.map((field, at) => statusBytes(field) - before[at])
      mapping.unmap()
    }
  }
  onProgress(0.9)
  await fourModules(region, samples)

  const rowsOf = load =>
    Object.entries({ heap: { label: 'a copy in the memory' }, ...MAPPED, ...NATIVE }).map(
      ([key, { label }]) => ({
        label,
        parameters: { way: key, load, backing },
        cells: {
          first: samples.summary(`${load} ${key}`) ?? notMeasured('no native program'),
          all: samples.summary(`${load} ${key} all`),
          own: samples.summary(`${load} ${key} own`),
          ahead: samples.summary(`${load} ${key} ahead`),
          ratio: key in NATIVE ? undefined : samples.ratio(`${load} heap`, `${load} ${key}`),
          second: samples.ratio(`${load} ${key} second`, `${load} ${key}`)
        }
      })
    )
  return {
    backing,
    alone: rowsOf('alone'),
    busy: rowsOf('busy'),
    few: FEW.map(way => ({
      label: `${BACKINGS[backing]}, ${MAPPED[way].label}`,
      parameters: { way, backing },
      cells: {
        time: samples.summary(`few ${way}`),
        resident: bytes(more[way][0]),
        tables: bytes(more[way][1]),
        ratio: samples.ratio(`few ${way}`, 'few before')
      }
    })),
    four: {
      label: BACKINGS[backing],
      parameters: { backing },
      cells: {
        heap: samples.summary('four heap'),
        mapped: samples.summary('four mapped'),
        ratio: samples.ratio('four heap', 'four mapped')
      }
    }
  }
}

/** Modules with a memory each read in turns: of copies, and of the same part of a region. */
async function fourModules(region, samples) {
  const byteLength = DATASET_BYTES / MODULES
  const over = await compileSum()
  const check = makeCheck()
  const modules = Array.from({ length: MODULES }, () => {
    const guarded = makeMemory(region, byteLength)
    return { guarded, sum: over(guarded.memory) }
  })
  for (let index = 0; index < TURNS; index++) {
    timed(samples, 'four heap', () => {
      for (const { sum } of modules) check(sum(WASM_PAGE, byteLength))
    })
    const mapped = modules.map(({ guarded, sum }) => {
      return { sum, mapping: guarded.map(region, { byteLength }) }
    })
    timed(samples, 'four mapped', () => {
      for (const { sum, mapping } of mapped) check(sum(mapping.address, byteLength))
    })
    for (const { mapping } of mapped) mapping.unmap()
  }
}

/** A file that is not in memory. */
async function measureCold(onProgress) {
  if (!hasNative()) return { cold: null }
  const file = temporaryFile('cold')
  writeNoise(file, DATASET_BYTES, fraction => onProgress(fraction / 4))
  const over = await compileSum()
  const check = makeCheck()
  const samples = new Samples()
  const region = HostRegion.open(file)
  const guarded = new GuardedMemory({ initial: 1, room: (DATASET_BYTES + 4 * MiB) / WASM_PAGE })
  const sum = over(guarded.memory)
  const mapped = options => () => {
    const mapping = guarded.map(region, options)
    try {
      return timeAndSum(() => sum(mapping.address, DATASET_BYTES))
    } finally {
      mapping.unmap()
    }
  }
  const native = state => () => {
    const { ns, sum } = runNative('read', file, DATASET_BYTES, state, 'simd', 1)
    return { ns: ns[0], sum }
  }
  const dd = () => ({
    ns: timeOnce(() =>
      execFileSync('dd', [`if=${file}`, 'of=/dev/null', 'bs=1M'], { stdio: 'ignore' })
    )
  })
  const ways = {
    default: mapped(),
    touched: mapped({ populate: false }),
    sequential: native('sequential'),
    untouched: native('untouched'),
    dd
  }
  for (let turn = 0; turn < COLD_TURNS; turn++) {
    for (const name of inOrder(Object.keys(ways), turn)) {
      const { residentBytes: left } = runNative('drop', file)
      if (left > DATASET_BYTES / 100) throw new Error(`${left} bytes are still in memory`)
      const { ns, sum } = ways[name]()
      if (sum !== undefined) check(sum)
      samples.add(name, [ns])
    }
    onProgress(0.25 + (0.75 * (turn + 1)) / COLD_TURNS)
  }
  return {
    cold: Object.keys(ways).map(way => ({
      label: { ...MAPPED, ...NATIVE, dd: { label: '`dd`' } }[way].label,
      parameters: { way },
      cells: {
        time: samples.summary(way),
        beside: samples.ratio('sequential', way),
        besideDd: samples.ratio('dd', way)
      }
    }))
  }
}

function timeAndSum(operation) {
  let sum
  const ns = timeOnce(() => (sum = operation()))
  return { ns, sum }
}

const inOrder = (names, turn) => names.map((_, i) => names[(turn + i) % names.length])

export function report(results) {
  const warm = results.filter(({ backing }) => backing !== undefined)
  const { cold } = results.find(each => 'cold' in each)
  const size = formatBytes(DATASET_BYTES)
  const columns = [
    { key: 'first', label: 'first scan' },
    { key: 'ratio', label: 'copy : this' },
    { key: 'second', label: 'second : first' },
    { key: 'own', label: "processor time of the module's thread" },
    { key: 'ahead', label: 'of the thread ahead' },
    { key: 'all', label: 'with `map`' }
  ]
  const note =
    "A copy's pages were all touched before. `second : first` is that of the same mapping: which physical pages a copy got makes up to half of its time. Ratios are medians over turns; below 1, the first scan is slower."
  const LOADS = { alone: '', busy: ', another processor busy' }
  const tables = warm.flatMap(found =>
    Object.entries(LOADS).map(([load, words]) => ({
      id: `first-touch-${found.backing}-${load}`,
      title: `First scan of ${size}, ${BACKINGS[found.backing]}${words}`,
      rowLabel: 'way',
      columns,
      note,
      rows: found[load]
    }))
  )
  tables.push({
    id: 'first-touch-few',
    title: `${FEW_READS} words here and there`,
    rowLabel: 'backing',
    columns: [
      { key: 'time', label: 'time' },
      { key: 'ratio', label: 'times as touched' },
      { key: 'resident', label: 'more resident' },
      { key: 'tables', label: 'of page tables' }
    ],
    note: "Bytes are of the last turn, 50 ms later. Where an entry for 2 MiB maps pages of the kernel's cache, all of them count as resident, and no page is taken for it.",
    rows: warm.flatMap(({ few }) => few)
  })
  tables.push({
    id: 'first-touch-modules',
    title: `${MODULES} modules read the same ${formatBytes(DATASET_BYTES / MODULES)}`,
    rowLabel: 'backing',
    columns: [
      { key: 'heap', label: 'of their copies' },
      { key: 'mapped', label: 'of a region, for the first time' },
      { key: 'ratio', label: 'copies : region' }
    ],
    note: 'One after the other, on one thread.',
    rows: warm.map(({ four }) => four)
  })
  tables.push({
    id: 'first-touch-cold',
    title: `A file of ${size} that is not in memory`,
    rowLabel: 'way',
    columns: [
      { key: 'time', label: 'time' },
      { key: 'beside', label: 'native, `MADV_SEQUENTIAL` : this' },
      { key: 'besideDd', label: '`dd` : this' }
    ],
    note: 'The disk sets the pace.',
    rows: cold ?? []
  })

  const cellsOf = (rows, way) => rows.find(({ parameters }) => parameters.way === way).cells
  const promises = warm.flatMap(found => {
    const name = BACKINGS[found.backing]
    const [few, before] = ['default', 'before'].map(way => cellsOf(found.few, way))
    return [
      ...Object.entries(LOADS).map(([load, words]) => ({
        text: `scan of a copy, of the time of the first scan of a ${name}${words}`,
        value: cellsOf(found[load], 'default').ratio.median,
        unit: 'ratio',
        atLeast: 0.95
      })),
      {
        text: `a few words of a ${name}, of the time as touched`,
        value: few.ratio.median,
        unit: 'ratio',
        atMost: 1.05
      },
      {
        text: `the same, resident memory`,
        value: few.resident.median / before.resident.median,
        unit: 'ratio',
        atMost: 1.05
      },
      {
        text: `${MODULES} modules: scans of copies, of the time of first scans of a ${name}`,
        value: found.four.cells.ratio.median,
        unit: 'ratio',
        atLeast: 0.95
      }
    ]
  })
  return { tables, promises }
}
