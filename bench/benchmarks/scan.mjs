// The cost of reading through a mapping: the same Wasm program over the same bytes, copied and
// mapped, with pages of 4 KiB and 2 MiB; and the same loop, native and in wasmtime, over the same
// pages.

import { writeFileSync } from 'node:fs'
import { GuardedMemory, HostRegion } from '../../index.mjs'
import { GiB, KiB, MiB, QUICK, WASM_PAGE, hostArray } from '../lib/dataset.mjs'
import { Samples, bytes, collectGarbage, notMeasured, timeOnce } from '../lib/measure.mjs'
import { hasNative, runNative } from '../lib/native.mjs'
import { temporaryFile } from '../lib/stream.mjs'
import { compileSums, sumModule } from '../lib/sum.mjs'
import { formatBytes, ratioOf } from '../lib/table.mjs'
import {
  WASMTIME_BEFORE_BYTES,
  buildWasmtime,
  hasWasmtime,
  scanWasmtime
} from '../lib/wasmtime.mjs'
import { withFile } from '../lib/with-file.mjs'

export const title = 'Scan'
export const measures =
  'A function adds up all 64-bit integers of the dataset, with SIMD or 64-bit integers. Warm: all pages were read before, at the same addresses. First: none was, so each page, or group of pages, of a mapping costs a page fault. A copy has already paid for its pages.'

export const cases = [{ part: 'warm' }, { part: 'first' }]

/** Called once before the first case. Returns what is missing and why, or null. */
export function prepare() {
  const reason = buildWasmtime()
  return reason && `wasmtime is missing: ${reason}`
}

const DATASET_BYTES = QUICK ? 128 * MiB : GiB
const WARM_SIZES = [256 * KiB, 64 * MiB, DATASET_BYTES]
const INSTRUCTIONS = ['simd', 'scalar']
const PAGE_SIZES = { small: '4 KiB', huge: '2 MiB' }
const PAGES = Object.keys(PAGE_SIZES)
const MISSING = { native: 'no native program', wasmtime: 'no program with wasmtime' }
const FIRST_TURNS = QUICK ? 2 : 5

/** Other work on the machine disturbs short scans more, and they cost less to repeat. */
const planFor = byteLength => ({
  turns: byteLength < DATASET_BYTES ? 10 : QUICK ? 2 : 6,
  rounds: Math.max(2, Math.min(200, Math.floor((256 * MiB) / byteLength)))
})

export const measure = ({ part }, onProgress) =>
  part === 'warm' ? measureWarm(onProgress) : measureFirst(onProgress)

function regionsOf(source) {
  return {
    small: HostRegion.copyFrom(source, { hugePages: false }),
    huge: HostRegion.copyFrom(source, { hugePages: true })
  }
}

/** The first one finds colder caches, so they take turns at being first. */
function inTurns(turn, ways) {
  for (let i = 0; i < ways.length; i++) ways[(turn + i) % ways.length]()
}

/** Sums by name. If they differ, the ways did not read the same bytes. */
class Sums {
  #sums = new Map()

  check(name, sum) {
    const unsigned = BigInt.asUintN(64, BigInt(sum))
    if (!this.#sums.has(name)) this.#sums.set(name, unsigned)
    if (this.#sums.get(name) !== unsigned) throw new Error(`${name}: two ways read different bytes`)
  }
}

async function measureWarm(onProgress) {
  const over = await compileSums()
  const module = temporaryFile('sum.wasm')
  writeFileSync(module, await sumModule(DATASET_BYTES + WASMTIME_BEFORE_BYTES))
  const source = hostArray(DATASET_BYTES)
  const regions = regionsOf(source)

  // One instance over one memory, so that both run exactly the same code.
  const guarded = new GuardedMemory({ initial: 1 + DATASET_BYTES / WASM_PAGE })
  new Uint8Array(guarded.buffer).set(source, WASM_PAGE)
  const addresses = { plain: WASM_PAGE }
  for (const pages of PAGES)
    addresses[pages] = guarded.map(regions[pages], { populate: true }).address
  const exports = over(guarded.memory)

  const samples = new Samples()
  const sums = new Sums()
  const shares = [0, 0.05, 0.3, 1]
  for (const [index, byteLength] of WARM_SIZES.entries()) {
    const { turns, rounds } = planFor(byteLength)
    const add = (instructions, way, { ns, sum }) => {
      sums.check(byteLength, sum)
      samples.add(`${byteLength} ${instructions} ${way}`, ns)
    }
    const ways = Object.entries(addresses).map(([way, at]) => () => {
      for (const instructions of INSTRUCTIONS) {
        const ns = []
        let sum = exports[instructions](at, byteLength)
        for (let round = 0; round < rounds; round++) {
          ns.push(timeOnce(() => (sum = exports[instructions](at, byteLength))))
        }
        add(instructions, way, { ns, sum })
      }
    })
    for (const pages of PAGES) {
      const region = regions[pages]
      if (hasNative()) {
        ways.push(() => {
          for (const instructions of INSTRUCTIONS) {
            const read = withFile(region, file =>
              runNative('read', file, byteLength, 'touched', instructions, rounds + 1)
            )
            add(instructions, `${pages} native`, { ...read, ns: read.ns.slice(1) })
          }
        })
      }
      if (hasWasmtime()) {
        ways.push(() => {
          const reads = withFile(region, file =>
            scanWasmtime(module, file, byteLength, rounds, INSTRUCTIONS)
          )
          for (const [i, read] of reads.entries()) add(INSTRUCTIONS[i], `${pages} wasmtime`, read)
        })
      }
    }
    for (let turn = 0; turn < turns; turn++) {
      inTurns(turn, ways)
      onProgress(shares[index] + ((shares[index + 1] - shares[index]) * (turn + 1)) / turns)
    }
  }

  const figure = (name, peer) => samples.summary(name) ?? notMeasured(MISSING[peer])
  const hugeBytes = bytes(regions.huge.hugePages.bytes)
  return INSTRUCTIONS.flatMap(instructions =>
    WARM_SIZES.map(byteLength => {
      const key = `${byteLength} ${instructions}`
      const cells = { plain: figure(`${key} plain`), hugeBytes }
      for (const pages of PAGES) {
        cells[pages] = figure(`${key} ${pages}`)
        for (const peer of Object.keys(MISSING)) {
          cells[`${pages} ${peer}`] = figure(`${key} ${pages} ${peer}`, peer)
        }
      }
      return { instructions, byteLength, cells }
    })
  )
}

/** How to hand over the dataset and load its pages. */
const WAYS = {
  'copied fresh': 'copied, fresh memory',
  'copied warm': 'copied, warm memory',
  ...Object.fromEntries(
    PAGES.flatMap(pages => {
      const label = `mapped, ${PAGE_SIZES[pages]} pages`
      return [
        [pages, label],
        [`${pages} populate`, `${label}, \`populate\``],
        [`${pages} prefetch`, `${label}, \`prefetch\``]
      ]
    })
  ),
  'small native': 'native, 4 KiB pages',
  'huge native': 'native, 2 MiB pages'
}
const STEPS = ['handOff', 'first', 'second', 'giveBack', 'total']

/**
 * Hands a dataset over, reads it twice, and gives it back: in the same memory, at the same place.
 */
async function measureFirst(onProgress) {
  const over = await compileSums()
  const source = hostArray(DATASET_BYTES)
  const regions = regionsOf(source)
  const samples = new Samples()
  const sums = new Sums()
  const guarded = new GuardedMemory({ initial: 1 })
  const { simd } = over(guarded.memory)

  const record = (way, step, operation) => {
    const ns = timeOnce(operation)
    samples.add(`${way} ${step}`, [ns])
    return ns
  }
  const scanTwice = (way, at, handOffNs) => {
    let sum
    const firstNs = record(way, 'first', () => (sum = simd(at, DATASET_BYTES)))
    sums.check('sum', sum)
    samples.add(`${way} total`, [handOffNs + firstNs])
    record(way, 'second', () => simd(at, DATASET_BYTES))
  }
  const mapTurn = async (pages, how) => {
    const way = how ? `${pages} ${how}` : pages
    const startNs = process.hrtime.bigint()
    const mapping = guarded.map(regions[pages], { populate: how === 'populate' })
    if (how === 'prefetch') await mapping.prefetch()
    const handOffNs = Number(process.hrtime.bigint() - startNs)
    samples.add(`${way} handOff`, [handOffNs])
    scanTwice(way, mapping.address, handOffNs)
    record(way, 'giveBack', () => mapping.unmap())
  }
  const nativeTurn = pages => {
    if (!hasNative()) return
    const { ns, sum } = withFile(regions[pages], file =>
      runNative('read', file, DATASET_BYTES, 'untouched', 'simd', 2)
    )
    sums.check('sum', sum)
    samples.add(`${pages} native first`, [ns[0]])
    samples.add(`${pages} native second`, [ns[1]])
  }

  const fillTurn = pages => {
    let region
    const options = { hugePages: pages === 'huge' }
    record(pages, 'fill', () => (region = HostRegion.copyFrom(source, options)))
    record(pages, 'close', () => region.close())
  }

  // The first mapping makes the memory grow.
  const { address } = guarded.map(regions.huge)
  for (const mapping of guarded.mappings) mapping.unmap()
  for (let turn = 0; turn < FIRST_TURNS; turn++) {
    const ways = [
      ...PAGES.flatMap(pages =>
        [undefined, 'populate', 'prefetch'].map(how => () => mapTurn(pages, how))
      ),
      ...PAGES.map(pages => () => nativeTurn(pages)),
      ...PAGES.map(pages => () => fillTurn(pages))
    ]
    for (let i = 0; i < ways.length; i++) await ways[(turn + i) % ways.length]()
    // Unmapping left no pages there.
    const target = new Uint8Array(guarded.buffer, address, DATASET_BYTES)
    for (const way of ['copied fresh', 'copied warm']) {
      scanTwice(
        way,
        address,
        record(way, 'handOff', () => target.set(source))
      )
    }
    await collectGarbage()
    onProgress((turn + 1) / FIRST_TURNS)
  }
  const ways = Object.keys(WAYS).map(way => {
    const nothing = way.endsWith('native') && !hasNative() ? notMeasured(MISSING.native) : undefined
    return Object.fromEntries(
      STEPS.map(step => [step, samples.summary(`${way} ${step}`) ?? nothing])
    )
  })
  const fills = PAGES.map(pages => ({
    fill: samples.summary(`${pages} fill`),
    close: samples.summary(`${pages} close`)
  }))
  return { ways, fills }
}

const LABELS = { simd: 'SIMD', scalar: 'scalar' }

export function report([warm, first]) {
  const rows = warm.map(({ instructions, byteLength, cells }) => ({
    label: `${LABELS[instructions]}, ${formatBytes(byteLength)}`,
    parameters: { instructions, byteLength },
    cells
  }))
  const byPages = {
    id: 'scan-warm',
    title: 'Warm scan, by page size',
    rowLabel: 'instructions, size',
    columns: [
      { key: 'plain', label: 'plain memory' },
      { key: 'small', label: 'mapped, 4 KiB pages' },
      { key: 'huge', label: 'mapped, 2 MiB pages' },
      { key: 'hugeBytes', label: 'in 2 MiB pages' },
      { label: 'plain : 4 KiB', ratio: ['plain', 'small'] },
      { label: 'plain : 2 MiB', ratio: ['plain', 'huge'] }
    ],
    note: `One scan of this many bytes of ${formatBytes(DATASET_BYTES)}, whose pages were all read before. A ratio below 1 means that the mapping is slower. A few percent either way come from the physical pages: two plain copies of the same bytes differ by as much.`,
    rows
  }
  const besidePeers = {
    id: 'scan-peers',
    title: 'The same, beside a native program and wasmtime',
    rowLabel: 'instructions, size',
    columns: [
      ...PAGES.flatMap(pages => {
        const size = PAGE_SIZES[pages]
        return [
          { key: `${pages} native`, label: `native, ${size}` },
          { key: `${pages} wasmtime`, label: `wasmtime, ${size}` }
        ]
      }),
      { label: 'native : mapped, 4 KiB', ratio: ['small native', 'small'] },
      { label: 'native : mapped, 2 MiB', ratio: ['huge native', 'huge'] },
      { label: 'wasmtime : mapped, 4 KiB', ratio: ['small wasmtime', 'small'] },
      { label: 'wasmtime : mapped, 2 MiB', ratio: ['huge wasmtime', 'huge'] }
    ],
    note: "Native: a Rust program with the same loops, with 128-bit vectors or 64-bit integers, over its own mapping of the same pages. wasmtime: the same module over the same pages, which the host put into its linear memory. A ratio below 1 means that the mapping in Node.js is slower; if plain memory is equally slow, the cause is V8's compiler.",
    rows
  }
  const firstTable = {
    id: 'scan-first',
    title: `The first use of ${formatBytes(DATASET_BYTES)}, step by step`,
    rowLabel: 'way',
    columns: [
      { key: 'handOff', label: 'hand-off' },
      { key: 'first', label: 'first scan' },
      { key: 'second', label: 'second scan' },
      { key: 'giveBack', label: 'given back' },
      { key: 'total', label: 'until the sum is known' }
    ],
    note: "With SIMD. The region's pages are already in memory, and the module was optimized over other memory. The first scan of a mapping includes its page faults, unless `populate` or `prefetch` took them. Giving it back includes removing the pages from the page table; a copy is given back when its memory is collected, which is not measured. Native: a Rust program's first scan of its own mapping of the same pages.",
    rows: Object.entries(WAYS).map(([way, label], index) => ({
      label,
      parameters: { way, byteLength: DATASET_BYTES },
      cells: first.ways[index]
    }))
  }
  const fillTable = {
    id: 'scan-fill',
    title: `${formatBytes(DATASET_BYTES)} copied into a region, and given back`,
    rowLabel: 'pages',
    columns: [
      { key: 'fill', label: 'copyFrom' },
      { key: 'close', label: 'close' }
    ],
    note: 'The kernel clears huge pages before they are filled. It frees each one at once, instead of 512 ordinary pages one by one.',
    rows: PAGES.map((pages, index) => ({
      label: PAGE_SIZES[pages],
      parameters: { pages, byteLength: DATASET_BYTES },
      cells: first.fills[index]
    }))
  }

  const row = (instructions, byteLength) =>
    rows.find(
      ({ parameters }) =>
        parameters.instructions === instructions && parameters.byteLength === byteLength
    )
  const size = formatBytes(DATASET_BYTES)
  const promises = [
    ...PAGES.map(pages => ({
      text: `warm scan of plain memory, of the time through a mapping with ${PAGE_SIZES[pages]} pages, ${size}`,
      value: ratioOf(row('simd', DATASET_BYTES), ['plain', pages]),
      unit: 'ratio',
      atLeast: 0.98
    })),
    ...INSTRUCTIONS.flatMap(instructions =>
      PAGES.map(pages => ({
        text: `warm ${LABELS[instructions]} scan by the native program, of the time through a mapping, ${PAGE_SIZES[pages]} pages, ${size}`,
        value: ratioOf(row(instructions, DATASET_BYTES), [`${pages} native`, pages]),
        unit: 'ratio',
        atLeast: 0.95
      }))
    ),
    ...INSTRUCTIONS.flatMap(instructions =>
      PAGES.map(pages => ({
        text: `warm ${LABELS[instructions]} scan by wasmtime, of the time through a mapping, ${PAGE_SIZES[pages]} pages, ${size}; 2 percent are noise`,
        value: ratioOf(row(instructions, DATASET_BYTES), [`${pages} wasmtime`, pages]),
        unit: 'ratio',
        atLeast: 0.98
      }))
    ),
    {
      text: `first scan by the native program, of the time through a mapping, 2 MiB pages, ${size}`,
      value:
        firstTable.rows.find(({ parameters }) => parameters.way === 'huge native').cells.first
          ?.median /
        firstTable.rows.find(({ parameters }) => parameters.way === 'huge').cells.first.median,
      unit: 'ratio',
      atLeast: 0.9
    }
  ]
  return { tables: [byPages, besidePeers, firstTable, fillTable], promises }
}
