// Arrow over a file that `npx wasm-hostmap chunks` has packed chunk by chunk: a column is read, and
// only the chunks that it is in are unpacked.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import zlib from 'node:zlib'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as arrow from 'apache-arrow'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'
import { openArrow, pointersOf, readTable } from 'wasm-hostmap/arrow'
import { makeArrowFile } from '../support/arrow-file.mjs'
import { makeKernels } from '../support/arrow-kernels.mjs'

const COMMAND = fileURLToPath(new URL('../../cli/main.js', import.meta.url))
const FILE = fileURLToPath(new URL('../data/arrow/16.arrow', import.meta.url))
const CHUNK_BYTES = 2 ** 16
const CODECS = ['deflate', ...(zlib.zstdCompressSync === undefined ? [] : ['zstd'])]

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'hostmap-arrow-frames-'))
const packed = codec => path.join(directory, `16.arrow.${codec}`)
let usual
before(async () => {
  // Batches of 1.75 MiB, so that a column of one is in chunks of its own.
  await makeArrowFile(FILE, 16 * 2 ** 20)
  usual = arrow.tableFromIPC(fs.readFileSync(FILE))
  for (const codec of CODECS) {
    const options = ['--chunk', '64KiB', '--codec', codec]
    execFileSync(process.execPath, [COMMAND, 'chunks', FILE, packed(codec), ...options])
  }
})
after(() => fs.rmSync(directory, { recursive: true }))

/** All prices of each batch, added up in the order of the rows. */
function expectedSums() {
  return usual.getChild('price').data.map(({ values }) => {
    let sum = 0
    for (let row = 0; row < values.length; row += 1) sum += values[row]
    return sum
  })
}

const here = region =>
  Array.from(region.paging.chunks(), (state, chunk) => (state === 2 ? chunk : -1)).filter(
    chunk => chunk >= 0
  )

for (const codec of CODECS) {
  test(`${codec}: a kernel reads one column, and only its chunks are unpacked`, async () => {
    const region = await HostRegion.paged({
      provider: { frames: packed(codec) },
      readAheadBytes: 0
    })
    assert.equal(region.paging.chunkBytes, CHUNK_BYTES)
    const guarded = new GuardedMemory({ initial: 1 })
    const kernels = await makeKernels(guarded)
    const mapping = guarded.map(region)
    const table = readTable(arrow, region)
    // The schema, the dictionary, and the head of each batch.
    const expected = new Set(here(region))
    assert.ok(expected.size < region.byteLength / CHUNK_BYTES / 10, `${expected.size} to open it`)

    const columns = pointersOf(mapping, table.getChild('price'))
    for (const { values, length } of columns) {
      const first = Number(values) - Number(mapping.pointer)
      const last = first + length * 8 - 1
      for (let at = Math.floor(first / CHUNK_BYTES); at <= Math.floor(last / CHUNK_BYTES); at++)
        expected.add(at)
    }
    const sums = columns.map(({ values, length }) => kernels.sum(values, length))
    assert.deepEqual(sums, expectedSums())
    assert.deepEqual(
      here(region),
      [...expected].sort((a, b) => a - b)
    )
    const { fetchedBytes, failedTouches, lastError } = region.paging.stats()
    assert.equal(lastError, null)
    assert.equal(failedTouches, 0)
    assert.ok(fetchedBytes < region.byteLength / 3, `${fetchedBytes} of ${region.byteLength}`)
    region.close()
  })

  test(`${codec}: a batch is read from the middle, and all of the table is as usual`, async () => {
    const region = await HostRegion.paged({
      provider: { frames: packed(codec) },
      cacheBytes: 4 * 2 ** 20
    })
    const reader = openArrow(arrow, region)
    const middle = reader.numRecordBatches >> 1
    const row = batch => String(batch.get(4711))
    assert.equal(row(reader.readRecordBatch(middle)), row(usual.batches[middle]))
    assert.ok(region.paging.stats().fetchedBytes < region.byteLength / 2)

    const table = readTable(arrow, region)
    for (const { name } of usual.schema.fields) {
      const { data } = usual.getChild(name)
      table.getChild(name).data.forEach(({ values }, i) => {
        assert.equal(Buffer.compare(bytesOf(values), bytesOf(data[i].values)), 0, name)
      })
    }
    const { evictions, failedTouches } = region.paging.stats()
    assert.ok(evictions > 0)
    assert.equal(failedTouches, 0)
    region.close()
  })
}

const bytesOf = ({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength)
