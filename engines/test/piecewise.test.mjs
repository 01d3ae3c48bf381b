// The engines that docs/engines.md calls in no need of a mapping: how much of a file of 16 MiB each
// reads for a small answer, by the kernel's count of bytes. And the one that can't take any.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { Worker } from 'node:worker_threads'

const require = createRequire(import.meta.url)
const KiB = 1024
const MiB = 2 ** 20
const SIZE = 16 * MiB

let directory
const at = name => path.join(directory, name)
before(() => (directory = fs.mkdtempSync(path.join(os.tmpdir(), 'wasm-hostmap-piecewise-'))))
after(() => fs.rmSync(directory, { recursive: true }))

/** Bytes that this process has read by read() and the like. */
const readBytes = () => Number(/^rchar: (\d+)/.exec(fs.readFileSync('/proc/self/io', 'utf8'))[1])

/** How many bytes `ask` reads, and what it gives. */
async function counted(t, ask) {
  const before = readBytes()
  const result = await ask()
  const bytes = readBytes() - before
  t.diagnostic(`read ${bytes} bytes`)
  return { bytes, result }
}

/** Bytes that no compression makes smaller. */
function noise(byteLength) {
  const words = new Uint32Array(byteLength / 4)
  let state = 1
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = state
  }
  return words
}

test('7z-wasm reads an archive in pieces, by NODEFS', async t => {
  const { default: SevenZip } = await import('7z-wasm')
  const start = async () => {
    const { FS, NODEFS, callMain } = await SevenZip({ print: () => {} })
    FS.mkdir('/folder')
    FS.mount(NODEFS, { root: directory }, '/folder')
    FS.chdir('/folder')
    return (...args) => callMain(args)
  }
  fs.writeFileSync(at('large'), noise(SIZE))
  fs.writeFileSync(at('small'), 'a small file')
  const pack = await start()
  pack('a', '-mx0', 'archive.7z', 'small', 'large')
  fs.rmSync(at('small'))
  assert.ok(fs.statSync(at('archive.7z')).size > SIZE)

  const run = await start()
  const { bytes } = await counted(t, () => run('x', 'archive.7z', 'small'))
  assert.equal(fs.readFileSync(at('small'), 'utf8'), 'a small file')
  assert.ok(bytes < 64 * KiB)
})

test('h5wasm reads a file in pieces, by NODEFS', async t => {
  const { default: h5wasm } = await import('h5wasm/node')
  await h5wasm.ready
  const data = Float32Array.from({ length: SIZE / 4 }, (_, index) => index)
  const made = new h5wasm.File(at('array.h5'), 'w')
  made.create_dataset({ name: 'array', data, shape: [data.length] })
  made.close()

  const { bytes, result } = await counted(t, () => {
    const file = new h5wasm.File(at('array.h5'), 'r')
    const slice = file.get('array').slice([[1_000_000, 1_000_003]])
    file.close()
    return slice
  })
  assert.deepEqual([...result], [1_000_000, 1_000_001, 1_000_002])
  assert.ok(bytes < 256 * KiB)
})

test('gdal3.js reads a raster in pieces, by NODEFS', async t => {
  const { default: initGdalJs } = await import('gdal3.js/node.js')
  const folder = path.dirname(require.resolve('gdal3.js/package.json'))
  // It puts './' before the path.
  const paths = path.relative(process.cwd(), path.join(folder, 'dist/package'))
  const gdal = await initGdalJs({ path: paths, useWorker: false })
  const side = Math.sqrt(SIZE)
  const pixels = noise(SIZE)
  fs.writeFileSync(at('raster.bin'), pixels)
  fs.writeFileSync(
    at('raster.vrt'),
    `<VRTDataset rasterXSize="${side}" rasterYSize="${side}">
      <VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">
        <SourceFilename relativeToVRT="1">raster.bin</SourceFilename>
        <ImageOffset>0</ImageOffset>
        <PixelOffset>1</PixelOffset>
        <LineOffset>${side}</LineOffset>
      </VRTRasterBand>
    </VRTDataset>`
  )
  const { bytes, result } = await counted(t, async () => {
    const { datasets } = await gdal.open(at('raster.vrt'))
    const options = ['-of', 'ENVI', '-srcwin', '0', '4000', '16', '1']
    const { local } = await gdal.gdal_translate(datasets[0], options)
    return gdal.Module.FS.readFile(local)
  })
  const expected = new Uint8Array(pixels.buffer, 4000 * side, 16)
  assert.deepEqual([...result], [...expected])
  assert.ok(bytes < 256 * KiB)
})

test('parquet-wasm reads a Blob in pieces, and an array as a whole', async t => {
  const parquet = await import('parquet-wasm')
  const arrow = await import('apache-arrow')
  const length = SIZE / 16
  const groups = 16
  const columns = {
    a: Float64Array.from({ length }, (_, index) => Math.sqrt(index)),
    b: Float64Array.from({ length }, (_, index) => Math.sin(index))
  }
  const table = parquet.Table.fromIPCStream(
    arrow.tableToIPC(arrow.tableFromArrays(columns), 'stream')
  )
  const properties = new parquet.WriterPropertiesBuilder().setMaxRowGroupSize(length / groups)
  fs.writeFileSync(at('table.parquet'), parquet.writeParquet(table, properties.build()))
  const { size } = fs.statSync(at('table.parquet'))
  assert.ok(size > SIZE / 2)

  const { bytes, result } = await counted(t, async () => {
    const file = await parquet.ParquetFile.fromFile(await fs.openAsBlob(at('table.parquet')))
    return file.read({ rowGroups: [3], columns: ['a'] })
  })
  const [first] = arrow.tableFromIPC(result.intoIPCStream()).getChild('a')
  assert.equal(first, Math.sqrt((3 * length) / groups))
  assert.ok(bytes < size / groups)

  // The array of a region is copied, as any other: wasm-bindgen takes a block for it, which Rust
  // owns and frees. In a thread of its own, whose module has no free block yet.
  const worker = new Worker(new URL('../support/parquet-worker.mjs', import.meta.url), {
    workerData: at('table.parquet')
  })
  const [grown] = await once(worker, 'message')
  t.diagnostic(`its memory grows by ${grown} bytes for ${size}`)
  assert.ok(grown > size)
})

test('DuckDB reads CSV in pieces, by its NODE_RUNTIME', async t => {
  const folder = path.dirname(require.resolve('@duckdb/duckdb-wasm/dist/duckdb-node-blocking.cjs'))
  const duckdb = require('@duckdb/duckdb-wasm/dist/duckdb-node-blocking.cjs')
  const bundle = name => ({ mainModule: path.join(folder, `duckdb-${name}.wasm`), mainWorker: '' })
  const bundles = { mvp: bundle('mvp'), eh: bundle('eh') }
  let largest = 0
  const runtime = {
    ...duckdb.NODE_RUNTIME,
    readFile(module, file, buffer, byteLength, offset) {
      largest = Math.max(largest, byteLength)
      return duckdb.NODE_RUNTIME.readFile(module, file, buffer, byteLength, offset)
    }
  }
  const db = await duckdb.createDuckDB(bundles, new duckdb.VoidLogger(), runtime)
  await db.instantiate()
  db.open({})
  const connection = db.connect()
  connection.query('SELECT 1')
  const file = fs.openSync(at('rows.csv'), 'w')
  let rows = 0
  for (let written = 0; written < SIZE;) {
    const lines = Array.from({ length: 65_536 }, () => `${rows},row number ${rows++}\n`)
    written += fs.writeSync(file, lines.join(''))
  }
  fs.closeSync(file)

  db.registerFileURL('rows.csv', at('rows.csv'), duckdb.DuckDBDataProtocol.NODE_FS, false)
  const query = `SELECT count(*)::double AS count, sum(column0)::double AS sum
    FROM read_csv('rows.csv', header = false)`
  const [{ count, sum }] = connection.query(query).toArray()
  assert.deepEqual([count, sum], [rows, (rows * (rows - 1)) / 2])
  t.diagnostic(`read at most ${largest} bytes at once`)
  assert.ok(largest > 0 && largest <= MiB)
})
