// Workers with a memory and mappings, beside workers that do nothing; and where 1,000 would end.

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { HostRegion } from '../../../index.mjs'
import { QUICK, WASM_PAGE } from '../dataset.mjs'
import { bytes, share, summarize } from '../measure.mjs'
import { bytesOrNone, limitsOf, number, settledUsage, slope } from './usage.mjs'

const COUNTS = QUICK ? [1, 3] : [1, 10, 50, 200]
const MAPPINGS = 10
const MANY = 1000

export const cases = ['mapped', 'bare'].flatMap(kind => COUNTS.map(count => ({ kind, count })))

export async function measure({ kind, count }, onProgress) {
  const region = HostRegion.allocate(4 * WASM_PAGE).seal()
  const start = async () => {
    const worker =
      kind === 'bare'
        ? new Worker(
            "const { parentPort } = require('node:worker_threads'); parentPort.on('message', () => {}); parentPort.postMessage('ready')",
            { eval: true }
          )
        : new Worker(new URL('worker.mjs', import.meta.url), {
            workerData: { token: region.share(), mappings: MAPPINGS }
          })
    await once(worker, 'message')
    return worker
  }
  const before = await settledUsage()
  const crew = []
  const cpu = process.cpuUsage()
  const startNs = process.hrtime.bigint()
  while (crew.length < count) {
    crew.push(await start())
    onProgress(crew.length / count)
  }
  const elapsedNs = Number(process.hrtime.bigint() - startNs)
  const { user, system } = process.cpuUsage(cpu)
  const after = await settledUsage()
  await Promise.all(crew.map(worker => worker.terminate()))
  return {
    before,
    after,
    each: slope(before, after, count),
    start: summarize([elapsedNs / count]),
    cpu: summarize([((user + system) * 1000) / count])
  }
}

const RESOURCES = [
  { key: 'descriptors', label: 'descriptors (`ulimit -n`)', figure: number },
  { key: 'threads', label: 'threads (`ulimit -u`, pid_max)', figure: number },
  { key: 'areas', label: 'VMAs (vm.max_map_count)', figure: number },
  { key: 'addressSpace', label: 'address space (47 bits)', figure: bytes },
  { key: 'resident', label: 'resident memory', figure: bytes }
]

export function tables(results) {
  const rows = results.map(({ caseOf: { kind, count }, each, start, cpu }) => ({
    label: `${count}, ${kind === 'bare' ? 'that do nothing' : `with a memory and ${MAPPINGS} mappings`}`,
    parameters: { kind, count },
    cells: {
      start,
      cpu,
      resident: bytesOrNone(each.resident),
      addressSpace: bytesOrNone(each.addressSpace),
      areas: number(each.areas),
      threads: number(each.threads),
      descriptors: number(each.descriptors),
      pageTables: bytesOrNone(each.pageTables)
    }
  }))
  const of = (kind, count) =>
    results.find(({ caseOf }) => caseOf.kind === kind && caseOf.count === count)
  const [fewer, most] = COUNTS.slice(-2)
  const limits = limitsOf()
  const slopes = ['mapped', 'bare'].map(kind =>
    slope(of(kind, fewer).after, of(kind, most).after, most - fewer)
  )
  const slopeRows = RESOURCES.map(({ key, label, figure }) => {
    const at = of('mapped', most).after[key] + slopes[0][key] * (MANY - most)
    return {
      label,
      parameters: { resource: key, limit: limits[key] },
      cells: {
        each: figure(slopes[0][key]),
        bare: figure(slopes[1][key]),
        many: figure(Math.round(at)),
        ...(Number.isFinite(limits[key])
          ? { limit: figure(limits[key]), share: share(at / limits[key]) }
          : {})
      }
    }
  })
  return [
    {
      id: 'scale-workers',
      title: 'Workers',
      rowLabel: 'workers',
      columns: [
        { key: 'start', label: 'to start one' },
        { key: 'cpu', label: 'processor time of that' },
        { key: 'resident', label: 'resident each' },
        { key: 'addressSpace', label: 'address space each' },
        { key: 'areas', label: 'VMAs each' },
        { key: 'threads', label: 'threads each' },
        { key: 'descriptors', label: 'descriptors each' },
        { key: 'pageTables', label: 'page tables each' }
      ],
      note: 'Each number of workers in a process of its own, started one after another.',
      rows
    },
    {
      id: 'scale-workers-many',
      title: `Where ${MANY.toLocaleString('en-US')} workers would be`,
      rowLabel: 'resource',
      columns: [
        { key: 'each', label: 'for each worker' },
        { key: 'bare', label: 'for one that does nothing' },
        { key: 'many', label: `at ${MANY.toLocaleString('en-US')}` },
        { key: 'limit', label: 'limit here' },
        { key: 'share', label: 'of the limit' }
      ],
      note: `For each: the difference of ${most} and ${fewer} workers, measured. At ${MANY.toLocaleString('en-US')}: extrapolated.`,
      rows: slopeRows
    }
  ]
}
