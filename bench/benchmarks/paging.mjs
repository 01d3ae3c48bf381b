// HostRegion.paged: what a missing chunk costs beside the provider's own time, that a chunk which
// is there costs nothing, and what reading all of a file behind an HTTP server takes.

import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { GuardedMemory, HostRegion } from '../../index.mjs'
import { KiB, MiB, QUICK, WASM_PAGE } from '../lib/dataset.mjs'
import { Samples, bytes, collectGarbage, rate, summarize, timeOnce } from '../lib/measure.mjs'
import { compileSum } from '../lib/sum.mjs'
import { formatBytes } from '../lib/table.mjs'

export const title = 'Paged regions'
export const measures =
  'A touch of a missing chunk by a module, from the access to its end, where the provider gives its target back as it is; a scan of 256 MiB of chunks that are there, beside the same scan of a region that is not paged; and a scan of 512 MiB behind an HTTP server in another process, with read-ahead, beside downloading all of it first (`HostRegion.from`).'

const PROVIDER = `data:text/javascript,${encodeURIComponent(
  'export default byteLength => ({ byteLength, read: (_, target) => target.length })'
)}`
const CHUNKS = [4 * KiB, 64 * KiB, 256 * KiB]
const WAYS = [
  { way: 'userfaultfd', userfaultfd: undefined },
  { way: 'mappings', userfaultfd: false }
]
const TOUCHES = QUICK ? 50 : 1000
const SCAN_BYTES = QUICK ? 16 * MiB : 256 * MiB
const SCANS = QUICK ? 3 : 21
const STREAM_BYTES = QUICK ? 64 * MiB : 512 * MiB
const STREAMS = QUICK ? 1 : 3
const CACHE_BYTES = 64 * MiB

export const cases = WAYS.flatMap(({ way, userfaultfd }) => [
  ...CHUNKS.map(chunkBytes => ({ part: 'touch', way, userfaultfd, chunkBytes })),
  { part: 'scan', way, userfaultfd },
  { part: 'stream', way, userfaultfd }
])

const parts = { touch: measureTouch, scan: measureScan, stream: measureStream }
export const measure = ({ part, ...given }, onProgress) => parts[part](given, onProgress)

const pagesFor = byteLength => Math.ceil(byteLength / WASM_PAGE) + 1

async function measureTouch({ userfaultfd, chunkBytes }) {
  const byteLength = TOUCHES * chunkBytes
  const region = await HostRegion.paged({
    provider: { module: PROVIDER, data: byteLength },
    chunkBytes,
    readAheadBytes: 0,
    userfaultfd
  })
  const guarded = new GuardedMemory({ initial: 1, maximum: pagesFor(byteLength) + 1 })
  const { pointer } = guarded.map(region)
  const sum = (await compileSum())(guarded.memory)
  const samples = []
  for (let chunk = 0; chunk < TOUCHES; chunk++) {
    // In an order that nobody could read ahead.
    const at = pointer + ((chunk * 7919) % TOUCHES) * chunkBytes
    samples.push(timeOnce(() => sum(at, 64)))
  }
  const { touches, failedTouches } = region.paging.stats()
  assert.equal(touches, TOUCHES)
  assert.equal(failedTouches, 0)
  region.close()
  return { touch: summarize(samples) }
}

async function measureScan({ userfaultfd }, onProgress) {
  const paged = await HostRegion.paged({
    provider: { module: PROVIDER, data: SCAN_BYTES },
    userfaultfd
  })
  const plain = HostRegion.allocate(SCAN_BYTES)
  new Uint8Array(plain.view()).fill(1)
  const scans = {}
  for (const [name, region] of Object.entries({ paged, plain })) {
    const guarded = new GuardedMemory({ initial: 1, maximum: pagesFor(SCAN_BYTES) + 1 })
    const { pointer } = guarded.map(region)
    const sum = (await compileSum())(guarded.memory)
    scans[name] = () => sum(pointer, SCAN_BYTES)
    scans[name]()
  }
  const samples = new Samples()
  const names = Object.keys(scans)
  for (let turn = 0; turn < SCANS; turn++) {
    for (let i = 0; i < names.length; i++) {
      const name = names[(turn + i) % names.length]
      samples.add(name, [timeOnce(scans[name])])
    }
    onProgress((turn + 1) / SCANS)
  }
  assert.equal(paged.paging.stats().failedTouches, 0)
  return {
    paged: rate(samples.summary('paged'), SCAN_BYTES),
    plain: rate(samples.summary('plain'), SCAN_BYTES),
    ofPlain: samples.ratio('plain', 'paged')
  }
}

const statusBytes = name =>
  Number(new RegExp(`${name}:\\s+(\\d+)`).exec(readFileSync('/proc/self/status', 'latin1'))[1]) *
  KiB

async function measureStream({ userfaultfd }, onProgress) {
  const program = fileURLToPath(new URL('../lib/ranges-server.mjs', import.meta.url))
  const server = fork(program, [String(STREAM_BYTES)])
  try {
    const [port] = await once(server, 'message')
    const url = `http://127.0.0.1:${port}/`
    const scan = async region => {
      const guarded = new GuardedMemory({ initial: 1, maximum: pagesFor(STREAM_BYTES) + 1 })
      const { pointer } = guarded.map(region)
      const sum = (await compileSum())(guarded.memory)
      sum(pointer, STREAM_BYTES)
    }
    const open = options => HostRegion.paged({ provider: { url }, userfaultfd, ...options })
    const ways = {
      first: async () => {
        const region = await HostRegion.from(await fetch(url))
        await scan(region)
        return region
      },
      paged: async () => {
        const region = await open()
        await scan(region)
        assert.equal(region.paging.stats().failedTouches, 0)
        return region
      },
      limited: async () => {
        const region = await open({ cacheBytes: CACHE_BYTES })
        await scan(region)
        return region
      }
    }
    const names = Object.keys(ways)
    const samples = new Samples()
    let peak = 0
    for (let turn = 0; turn < STREAMS; turn++) {
      for (let i = 0; i < names.length; i++) {
        const name = names[(turn + i) % names.length]
        writeFileSync('/proc/self/clear_refs', '5')
        const before = statusBytes('VmRSS')
        const startNs = process.hrtime.bigint()
        const region = await ways[name]()
        samples.add(name, [Number(process.hrtime.bigint() - startNs)])
        if (name === 'limited') peak = Math.max(peak, statusBytes('VmHWM') - before)
        region.close()
        await collectGarbage()
        onProgress((turn + (i + 1) / names.length) / STREAMS)
      }
    }
    return {
      ...Object.fromEntries(names.map(name => [name, rate(samples.summary(name), STREAM_BYTES)])),
      ofFirst: samples.ratio('first', 'paged'),
      ofFirstLimited: samples.ratio('first', 'limited'),
      peak: bytes(peak)
    }
  } finally {
    server.kill()
  }
}

export function report(found) {
  const of = (part, more = () => true) =>
    cases.flatMap((each, index) =>
      each.part === part && more(each) ? [{ ...each, ...found[index] }] : []
    )
  const touches = {
    id: 'paging-touch',
    title: 'A touch of a missing chunk',
    rowLabel: 'chunk',
    columns: WAYS.map(({ way }) => ({ key: way, label: way })),
    rows: CHUNKS.map(chunkBytes => ({
      label: formatBytes(chunkBytes),
      parameters: { chunkBytes },
      cells: Object.fromEntries(
        of('touch', each => each.chunkBytes === chunkBytes).map(({ way, touch }) => [way, touch])
      )
    }))
  }
  const scans = {
    id: 'paging-scan',
    title: `A scan of ${formatBytes(SCAN_BYTES)} that are there`,
    rowLabel: 'by',
    columns: [
      { key: 'paged', label: 'paged' },
      { key: 'plain', label: 'not paged' },
      { key: 'ofPlain', label: 'ratio' }
    ],
    rows: of('scan').map(({ way, paged, plain, ofPlain }) => ({
      label: way,
      parameters: { way },
      cells: { paged, plain, ofPlain }
    }))
  }
  const streams = {
    id: 'paging-stream',
    title: `A scan of ${formatBytes(STREAM_BYTES)} behind an HTTP server`,
    rowLabel: 'by',
    columns: [
      { key: 'first', label: 'downloaded first' },
      { key: 'paged', label: 'paged' },
      { key: 'ofFirst', label: 'ratio' },
      { key: 'limited', label: `paged, within ${formatBytes(CACHE_BYTES)}` },
      { key: 'ofFirstLimited', label: 'ratio' },
      { key: 'peak', label: 'resident then' }
    ],
    rows: of('stream').map(({ way, first, paged, ofFirst, limited, ofFirstLimited, peak }) => ({
      label: way,
      parameters: { way },
      cells: { first, paged, ofFirst, limited, ofFirstLimited, peak }
    }))
  }
  const promises = WAYS.flatMap(({ way }) => {
    const [{ touch }] = of('touch', each => each.way === way && each.chunkBytes === 64 * KiB)
    const [{ ofPlain }] = of('scan', each => each.way === way)
    const [{ ofFirst, peak }] = of('stream', each => each.way === way)
    return [
      {
        text: `${way}: a touch of a missing chunk of 64 KiB`,
        value: touch.median,
        unit: 'ns',
        atMost: 60_000
      },
      {
        text: `${way}: the rate of a scan of chunks that are there, of one that is not paged`,
        value: ofPlain.median,
        unit: 'ratio',
        atLeast: 0.98
      },
      {
        text: `${way}: the rate of a scan over HTTP, of downloading first`,
        value: ofFirst.median,
        unit: 'ratio',
        atLeast: 0.7
      },
      {
        text: `${way}: resident memory of a scan within ${formatBytes(CACHE_BYTES)}`,
        value: peak.median,
        unit: 'bytes',
        atMost: CACHE_BYTES + 64 * MiB
      }
    ]
  })
  return { tables: [touches, scans, streams], promises }
}
