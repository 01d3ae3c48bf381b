// Many small mappings: in one memory, and one in each of many.

import { GuardedMemory, HostRegion, InstancePool } from '../../../index.mjs'
import { QUICK, WASM_PAGE } from '../dataset.mjs'
import { emptyHeapModule } from '../heap.mjs'
import { SHORT, notMeasured, summarize, timeBatches, timeOnce } from '../measure.mjs'
import { bytesOrNone, limitsOf, number, processorNs, settledUsage, slope } from './usage.mjs'

const PAGE = 4096
const MOST = 100_000
const MOST_IN_SNAPSHOT = 65_536
const COUNTS = QUICK ? [100, 1000] : [100, 1000, 10_000, MOST]

export const cases = ['one', 'many'].flatMap(where =>
  COUNTS.map(count => ({ where, count, env: { NODE_NO_WARNINGS: '1' } }))
)

/** Every other page, and no two neighbours in the region: each is a VMA, and so is each gap. */
function mapInOne(count, region) {
  const guarded = new GuardedMemory({ initial: 2 + Math.ceil((2 * count * PAGE) / WASM_PAGE) })
  let made = 0
  return {
    next() {
      const at = WASM_PAGE + 2 * PAGE * made++
      return guarded.map(region, { at, byteLength: PAGE, byteOffset: PAGE * (made % 16) })
    },
    memory: () => guarded
  }
}

function mapInMany(_count, region) {
  let guarded
  return {
    next() {
      guarded = new GuardedMemory({ initial: 2 })
      return guarded.map(region, { at: WASM_PAGE, byteLength: PAGE })
    },
    memory: () => guarded
  }
}

/** Maps until there are `count`, or no more may be. */
function fill(maker, count, onProgress) {
  const mappings = []
  let refused = null
  const allNs = processorNs(() => {
    while (mappings.length < count && refused === null) {
      try {
        mappings.push(maker.next())
      } catch (error) {
        refused = error.code ?? error.message
      }
      if (mappings.length % 1000 === 0) onProgress(mappings.length / count)
    }
  })
  return { mappings, refused, eachNs: allNs / mappings.length }
}

/** Whether V8 gets what it needs for a program: heap, code, another memory, a thread's stack. */
async function isAlive() {
  const heap = Array.from({ length: 100 }, (_, i) => new Array(50_000).fill(i))
  const { Worker } = await import('node:worker_threads')
  const worker = new Worker('', { eval: true })
  const exitCode = await new Promise(resolve => worker.once('exit', resolve))
  const instance = new WebAssembly.Instance(
    new WebAssembly.Module(await emptyHeapModule(WASM_PAGE))
  )
  instance.exports.touch(0, 1, 1, 7)
  return heap.length === 100 && exitCode === 0
}

export async function measure({ where, count }, onProgress) {
  const region = HostRegion.allocate(64 * WASM_PAGE).seal()
  // What is measured beside them is made before: at the limit, nothing is.
  const beside = new GuardedMemory({ initial: 64 })
  const window = beside.window({ at: WASM_PAGE, byteLength: WASM_PAGE })
  let offset = 0
  const slide = () => {
    offset = (offset + WASM_PAGE) % (64 * WASM_PAGE)
    window.slide(region, offset)
  }
  const store = new Uint8Array(beside.buffer)
  const pool = await InstancePool.create(await emptyHeapModule(64 * WASM_PAGE))
  const request = async () => (await pool.acquire()).release()
  for (let i = 0; i < 2000; i++) {
    slide()
    await request()
  }

  const before = await settledUsage()
  const maker = (where === 'one' ? mapInOne : mapInMany)(count, region)
  const { mappings, refused, eachNs } = fill(maker, count, onProgress)
  const after = await settledUsage()
  const each = slope(before, after, mappings.length)
  const alive = refused === null || (await isAlive())

  // At the limit there is no room for what follows.
  if (refused !== null) for (const mapping of mappings.splice(-300)) mapping.unmap()
  const restored = maker.memory()
  const restores = []
  if (where === 'many' || mappings.length <= MOST_IN_SNAPSHOT) {
    const snapshot = restored.snapshot()
    for (let i = 0; i < 12; i++) restores.push(timeOnce(() => restored.restore(snapshot)))
  }
  const one = () => beside.map(region, { at: 32 * WASM_PAGE, byteLength: PAGE })
  const faults = []
  for (let i = 0; i < 40; i++) {
    const mapping = one()
    faults.push(timeOnce(() => (store[32 * WASM_PAGE] = 1)))
    mapping.unmap()
  }
  const requests = []
  for (let i = 0; i < 2000; i++) {
    const startNs = process.hrtime.bigint()
    await request()
    requests.push(Number(process.hrtime.bigint() - startNs))
  }
  const result = {
    made: mappings.length + (refused === null ? 0 : 300),
    refused,
    alive,
    each,
    areas: after.areas,
    fill: summarize([eachNs]),
    another: summarize(timeBatches(() => one().unmap(), SHORT)),
    slide: summarize(timeBatches(slide, SHORT)),
    fault: summarize(faults),
    restore:
      restores.length > 0 ? summarize(restores) : notMeasured('a snapshot keeps at most 65,536'),
    request: summarize(requests)
  }
  const left = mappings.length
  const unmapNs = processorNs(() => mappings.forEach(mapping => mapping.unmap()))
  return { ...result, unmap: summarize([unmapNs / left]) }
}

const WORDS = { one: 'in one memory', many: 'each in a memory of its own' }

export function tables(results) {
  return ['one', 'many'].map(where => {
    const found = results.filter(({ caseOf }) => caseOf.where === where)
    const last = found.at(-1)
    const limit = limitsOf().areas.toLocaleString('en-US')
    const end =
      last.refused === null
        ? `None of them is refused with vm.max_map_count at ${limit}.`
        : `Last row: the next one throws ${last.refused} (vm.max_map_count: ${limit}); V8 then allocates, compiles and starts a thread: ${last.alive ? 'it lives' : 'IT DOES NOT'}.`
    return {
      id: `scale-mappings-${where}`,
      title: `Mappings of 4 KiB, ${WORDS[where]}`,
      rowLabel: 'mappings',
      columns: [
        { key: 'fill', label: 'map, mean' },
        { key: 'another', label: 'map + unmap of one more' },
        { key: 'slide', label: 'slide beside' },
        { key: 'fault', label: 'stray write beside' },
        { key: 'request', label: 'acquire + release beside' },
        { key: 'restore', label: where === 'one' ? 'restore of all' : 'restore of one' },
        { key: 'unmap', label: 'unmap, mean' },
        { key: 'areas', label: 'VMAs' },
        { key: 'areasEach', label: 'VMAs each' },
        { key: 'heap', label: 'JS heap each' },
        { key: 'native', label: 'other memory each' },
        { key: 'kernel', label: 'kernel: VMAs, each' },
        { key: 'pageTables', label: 'page tables each' }
      ],
      note: `Pages are not touched. Mean: of the processor time of all, with what grows. Other memory: resident and anonymous, beside the JS heap; V8's own in part. Of a few hundred, memory is the process's noise. ${where === 'many' ? 'Map: the memory is made, too. ' : ''}${end}`,
      rows: found.map(({ each, ...cells }) => ({
        label: cells.made.toLocaleString('en-US'),
        parameters: { where, count: cells.made, refused: cells.refused },
        cells: {
          ...cells,
          areas: number(cells.areas),
          areasEach: number(each.areas),
          heap: bytesOrNone(each.heap),
          native: bytesOrNone(each.anonymous - each.heap),
          kernel: bytesOrNone(each.kernel),
          pageTables: bytesOrNone(each.pageTables)
        }
      }))
    }
  })
}
