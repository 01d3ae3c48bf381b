// wasm-hostmap/arrow with apache-arrow: the same values as from a copy, and columns in place.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import crypto from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as arrow from 'apache-arrow'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'
import { openArrow, pointersOf, readTable } from 'wasm-hostmap/arrow'
import { makeArrowFile } from '../support/arrow-file.mjs'
import { makeKernels } from '../support/arrow-kernels.mjs'

const DATA = fileURLToPath(new URL('../data/arrow', import.meta.url))
const FILE = path.join(DATA, '4.arrow')
const STREAM = path.join(DATA, '4.arrows')
const ROWS = 8192

const digest = file => crypto.createHash('sha256').update(fs.readFileSync(file)).digest('hex')
const hasCode = code => error => error.code === code
const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'hostmap-arrow-'))
const scratch = (name, bytes) => {
  fs.writeFileSync(path.join(directory, name), bytes)
  return path.join(directory, name)
}
/** All values, in short. */
const valuesOf = table =>
  table.schema.fields.map(({ name }) => {
    const hash = crypto.createHash('sha256')
    for (const value of table.getChild(name)) hash.update(`${value};`)
    return [name, table.getChild(name).nullCount, hash.digest('hex')]
  })
const buffersOf = data => [
  ...[data.values, data.valueOffsets, data.nullBitmap, data.typeIds].filter(
    buffer => buffer?.byteLength > 0
  ),
  ...data.children.flatMap(buffersOf),
  ...(data.dictionary?.data ?? []).flatMap(buffersOf)
]

let usual
let digests
before(async () => {
  for (const file of [FILE, STREAM]) await makeArrowFile(file, 4 * 2 ** 20, ROWS)
  digests = [FILE, STREAM].map(digest)
  usual = valuesOf(arrow.tableFromIPC(fs.readFileSync(FILE)))
  assert.equal(usual.length, 4)
})
after(() => {
  assert.deepEqual([FILE, STREAM].map(digest), digests, 'the data sets are as they were')
  fs.rmSync(directory, { recursive: true })
})

for (const [kind, file] of [
  ['file', FILE],
  ['stream', STREAM]
]) {
  describe(`a ${kind}`, () => {
    test('is a table over the region, without a copy', () => {
      const region = HostRegion.open(file)
      const table = readTable(arrow, region)
      const views = new Set(table.data.flatMap(buffersOf).map(({ buffer }) => buffer))
      assert.equal(views.size, 1)
      assert.equal([...views][0].byteLength, region.byteLength)
      assert.ok(table.batches.length > 10)
      region.close()
      assert.deepEqual(valuesOf(table), usual)
    })

    test('is read one batch after the other', () => {
      const reader = openArrow(arrow, HostRegion.open(file))
      const batches = [...reader]
      assert.deepEqual(valuesOf(new arrow.Table(batches)), usual)
      if (kind === 'stream') return
      const other = openArrow(arrow, HostRegion.open(file))
      assert.equal(other.numRecordBatches, batches.length)
      for (const index of [7, 0, batches.length - 1]) {
        const price = batch => batch.getChild('price').get(5)
        assert.equal(price(other.readRecordBatch(index)), price(batches[index]))
      }
    })

    test('is a table over a mapping, which a growth detaches', () => {
      const guarded = new GuardedMemory({ initial: 1 })
      const mapping = guarded.map(HostRegion.open(file), { access: 'private' })
      const table = readTable(arrow, mapping)
      assert.equal(table.getChild('price').data[0].values.buffer, guarded.buffer)
      assert.deepEqual(valuesOf(table), usual)
      // What the module writes is what the table shows.
      const [{ values }] = pointersOf(mapping, table.getChild('price'))
      new Float64Array(guarded.buffer, values, 1)[0] = -1
      assert.equal(table.getChild('price').get(0), -1)
      guarded.grow(1)
      const pointers = () => pointersOf(mapping, table.getChild('price'))
      assert.throws(pointers, hasCode('ERR_INVALID_ARG_VALUE'))
      assert.equal(readTable(arrow, mapping).getChild('price').get(0), -1)
      mapping.unmap()
      assert.throws(() => readTable(arrow, mapping), hasCode('ERR_INVALID_ARG_VALUE'))
    })
  })
}

test('two tables of one region keep what is written to them to themselves', () => {
  const region = HostRegion.open(FILE)
  const [one, two] = [readTable(arrow, region), readTable(arrow, region)]
  one.getChild('price').set(0, 42)
  assert.equal(one.getChild('price').get(0), 42)
  assert.deepEqual(valuesOf(two), usual)
  assert.deepEqual(valuesOf(readTable(arrow, region, { access: 'readonly' })), usual)
})

test('a part of a region is a file, wherever it begins', () => {
  const bytes = fs.readFileSync(FILE)
  for (const start of [8, 4096, 4097, 3]) {
    const file = scratch('part', Buffer.concat([Buffer.alloc(start), bytes, Buffer.alloc(5)]))
    const part = { byteOffset: start, byteLength: bytes.length }
    assert.deepEqual(valuesOf(readTable(arrow, HostRegion.open(file), part)), usual)
  }
})

test('an empty table is a table', () => {
  const { schema } = arrow.tableFromIPC(fs.readFileSync(FILE))
  for (const format of ['file', 'stream']) {
    const bytes = arrow.tableToIPC(new arrow.Table(schema), format)
    const table = readTable(arrow, HostRegion.copyFrom(bytes))
    assert.equal(table.numRows, 0)
    assert.deepEqual(
      table.schema.fields.map(({ name }) => name),
      ['price', 'quantity', 'region', 'number']
    )
  }
})

test('what is no Arrow file, or a part of one, is refused', () => {
  const file = fs.readFileSync(FILE)
  const stream = fs.readFileSync(STREAM)
  const noArrow = [
    file.subarray(0, file.length - 1),
    file.subarray(0, file.length >> 1),
    file.subarray(0, 8),
    Buffer.concat([file.subarray(0, file.length - 100), Buffer.alloc(100)]),
    // A footer that would begin before the file.
    Buffer.concat([
      file.subarray(0, file.length - 10),
      Buffer.from([0, 0, 0, 127]),
      Buffer.from('ARROW1')
    ]),
    ...[1, 4095, 4096].map(size => Buffer.alloc(size))
  ]
  for (const bytes of noArrow) {
    for (const read of [readTable, openArrow]) {
      const region = HostRegion.copyFrom(bytes)
      assert.throws(
        () => read(arrow, region),
        hasCode('ERR_HOSTMAP_NOT_ARROW'),
        String(bytes.length)
      )
    }
  }
  // Arrow's own words come through.
  const half = HostRegion.copyFrom(stream.subarray(0, stream.length >> 1))
  assert.throws(() => readTable(arrow, half), /Expected to read \d+ bytes for message body/)
  const text = HostRegion.copyFrom(Buffer.from('price,quantity\n'.repeat(500)))
  assert.throws(() => readTable(arrow, text), /Expected to read \d+ metadata bytes/)
  assert.throws(() => HostRegion.open(scratch('empty', '')), hasCode('ERR_HOSTMAP_EMPTY_FILE'))
})

test('arguments are checked', () => {
  const region = HostRegion.open(FILE)
  assert.throws(() => readTable({}, region), hasCode('ERR_HOSTMAP_ENGINE_UNSUPPORTED'))
  assert.throws(() => readTable(arrow, fs.readFileSync(FILE)), hasCode('ERR_INVALID_ARG_TYPE'))
  assert.throws(() => readTable(arrow, null), hasCode('ERR_INVALID_ARG_TYPE'))
  assert.throws(
    () => readTable(arrow, region, { acces: 'shared' }),
    hasCode('ERR_INVALID_ARG_VALUE')
  )
  const mapping = new GuardedMemory({ initial: 1 }).map(region)
  const withOptions = () => readTable(arrow, mapping, { byteOffset: 8 })
  assert.throws(withOptions, hasCode('ERR_INVALID_ARG_VALUE'))
  const { data } = readTable(arrow, region)
  assert.throws(() => pointersOf(region, data[0]), hasCode('ERR_INVALID_ARG_TYPE'))
  for (const column of [undefined, null, 7, {}, [], 'price'])
    assert.throws(() => pointersOf(mapping, column), hasCode('ERR_INVALID_ARG_TYPE'))
  region.close()
  assert.throws(() => readTable(arrow, region), hasCode('ERR_HOSTMAP_REGION_CLOSED'))
})

function memories() {
  const made = [new GuardedMemory({ initial: 1 })]
  try {
    made.push(new GuardedMemory({ initial: 1, address: 'i64' }))
  } catch (error) {
    if (error.code !== 'ERR_HOSTMAP_NO_MEMORY64') throw error
  }
  return made
}

for (const guarded of memories()) {
  describe(`kernels in an ${guarded.address} memory`, () => {
    const zero = guarded.address === 'i64' ? 0n : 0
    let kernels, region, mapping, table
    before(async () => {
      kernels = await makeKernels(guarded)
      region = HostRegion.open(FILE)
      mapping = guarded.map(region)
      table = readTable(arrow, region)
    })

    /** The columns that kernels know, by kernels. */
    const byKernels = rows => {
      const sums = { price: 0, greater: 0, number: 0 }
      for (const { values, length } of pointersOf(mapping, rows.getChild('price')))
        sums.price += kernels.sum(values ?? zero, length)
      for (const chunk of pointersOf(mapping, rows.getChild('quantity'))) {
        const { values, validity, bitOffset, length } = chunk
        sums.greater += kernels.greater(values ?? zero, validity ?? zero, bitOffset, length, 50)
      }
      for (const { values, valueOffsets, length } of pointersOf(mapping, rows.getChild('number'))) {
        if (length > 0) sums.number += kernels.textSum(values, valueOffsets, length)
      }
      return sums
    }
    /** The same by JavaScript. */
    const byArrow = rows => {
      const sums = { price: 0, greater: 0, number: 0 }
      for (const chunk of rows.getChild('price').data) {
        let sum = 0
        for (const value of chunk.values.subarray(0, chunk.length)) sum += value
        sums.price += sum
      }
      for (const value of rows.getChild('quantity')) sums.greater += value > 50 ? 1 : 0
      for (const text of rows.getChild('number'))
        for (const byte of Buffer.from(text)) sums.number += byte
      return sums
    }

    test('read columns, nulls and texts in place', () => {
      assert.ok(table.getChild('quantity').nullCount > 0)
      assert.deepEqual(byKernels(table), byArrow(table))
      const [{ values }] = pointersOf(mapping, table.getChild('price'))
      assert.equal(typeof values, guarded.address === 'i64' ? 'bigint' : 'number')
    })

    test('read slices, at any row', () => {
      for (const [start, end] of [
        [0, 1],
        [3, 11],
        [13, ROWS + 5],
        [ROWS, 2 * ROWS],
        [ROWS * 3 - 1, ROWS * 5 + 7],
        [5, 5]
      ]) {
        const slice = table.slice(start, end)
        assert.deepEqual(byKernels(slice), byArrow(slice), `${start} to ${end}`)
      }
    })

    test('read a dictionary and its indices', () => {
      const [chunk] = pointersOf(mapping, table.getChild('region'))
      const at = Number(chunk.values)
      const indices = new Int32Array(guarded.buffer, at, chunk.length)
      const [{ values, valueOffsets, length }] = chunk.dictionary
      assert.equal(length, 4)
      const offsets = new Int32Array(guarded.buffer, Number(valueOffsets), length + 1)
      const words = [...offsets.subarray(0, 4)].map((start, index) => {
        const bytes = new Uint8Array(
          guarded.buffer,
          Number(values) + start,
          offsets[index + 1] - start
        )
        return Buffer.from(bytes).toString()
      })
      const column = table.getChild('region')
      for (const row of [0, 1, 2, 3, 4, 4711]) assert.equal(words[indices[row]], column.get(row))
    })

    test('a table read from the mapping has the same addresses', () => {
      const own = readTable(arrow, mapping)
      for (const { name } of table.schema.fields) {
        assert.deepEqual(
          pointersOf(mapping, own.getChild(name)),
          pointersOf(mapping, table.getChild(name))
        )
      }
    })

    test('a column that is elsewhere, or only in part in the mapping, is refused', () => {
      const copied = arrow.tableFromIPC(fs.readFileSync(FILE))
      const refused = hasCode('ERR_INVALID_ARG_VALUE')
      for (const { name } of table.schema.fields)
        assert.throws(() => pointersOf(mapping, copied.getChild(name)), refused)
      const made = arrow.vectorFromArray([1, 2, 3], new arrow.Int32())
      assert.throws(() => pointersOf(mapping, made), refused)
      const part = guarded.map(region, { byteLength: 2 ** 20 })
      const price = table.getChild('price')
      assert.equal(pointersOf(part, price.slice(0, 100)).length, 1)
      assert.throws(() => pointersOf(part, price), refused)
      part.unmap()
      assert.throws(() => pointersOf(part, price), hasCode('ERR_HOSTMAP_MAPPING_UNMAPPED'))
    })

    test('nested types have children, and Bool its bits', () => {
      const structs = Array.from({ length: 100 }, (_, row) => ({ x: row, ok: row % 3 === 0 }))
      const struct = new arrow.Struct([
        new arrow.Field('x', new arrow.Int32()),
        new arrow.Field('ok', new arrow.Bool())
      ])
      const list = new arrow.List(new arrow.Field('item', new arrow.Float64()))
      const lists = structs.map((_, row) => (row % 5 ? [row, row / 2] : null))
      const nested = new arrow.Table({
        s: arrow.vectorFromArray(structs, struct),
        l: arrow.vectorFromArray(lists, list),
        n: arrow.vectorFromArray(
          structs.map(() => null),
          new arrow.Null()
        )
      })
      const own = HostRegion.copyFrom(arrow.tableToIPC(nested, 'file'))
      const shown = guarded.map(own)
      const view = (Type, pointer, length) => new Type(guarded.buffer, Number(pointer), length)
      const rows = readTable(arrow, own).slice(11, 93)
      const [s] = pointersOf(shown, rows.getChild('s'))
      assert.equal(s.values, null)
      const [x, ok] = s.children
      assert.deepEqual([...view(Int32Array, x.values, 3)], [11, 12, 13])
      assert.equal(ok.bitOffset, 3)
      const bits = view(Uint8Array, ok.values, 2)
      const bitAt = row => (bits[(row + ok.bitOffset) >> 3] >> ((row + ok.bitOffset) % 8)) & 1
      assert.deepEqual([0, 1, 2, 3, 4, 5, 6, 7].map(bitAt), [0, 1, 0, 0, 1, 0, 0, 1])
      const [l] = pointersOf(shown, rows.getChild('l'))
      assert.equal(l.nullCount, 16)
      assert.equal(l.length, 82)
      const offsets = view(Int32Array, l.valueOffsets, 2)
      const items = view(Float64Array, l.children[0].values, offsets[1])
      assert.deepEqual([...items.subarray(offsets[0])], [11, 5.5])
      const [n] = pointersOf(shown, rows.getChild('n'))
      assert.deepEqual([n.values, n.validity, n.nullCount], [null, null, 82])
      shown.unmap()
    })
  })
}

test('a file of more than 4 GiB is read, its last batch as well', () => {
  // Batches may be anywhere in a file: the footer says where. These are behind a hole.
  const bytes = arrow.tableToIPC(arrow.tableFromArrays({ a: Int32Array.of(7, 8, 9) }), 'stream')
  const file = path.join(directory, 'sparse')
  const offset = 4 * 2 ** 30 + 8
  fs.truncateSync(scratch('sparse', ''), offset)
  fs.appendFileSync(file, bytes)
  const region = HostRegion.open(file)
  const table = readTable(arrow, region, { byteOffset: offset })
  assert.deepEqual([...table.getChild('a')], [7, 8, 9])
  fs.rmSync(file)
})

test('a file that is truncated under a table leaves zeros, which checkFaults tells', () => {
  const file = scratch('shrinks', fs.readFileSync(FILE))
  const source = `
    import fs from 'node:fs'
    import * as arrow from 'apache-arrow'
    import { HostRegion } from 'wasm-hostmap'
    import { readTable } from 'wasm-hostmap/arrow'
    const region = HostRegion.open(process.env.FILE)
    const table = readTable(arrow, region)
    fs.truncateSync(process.env.FILE, 4096)
    const { data } = table.getChild('price')
    const said = [data.at(-1).values[0]]
    try {
      region.checkFaults()
    } catch (error) {
      said.push(error.code)
    }
    console.log(JSON.stringify(said))`
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', source],
    {
      cwd: fileURLToPath(new URL('..', import.meta.url)),
      env: { ...process.env, FILE: file },
      encoding: 'utf8'
    }
  )
  assert.deepEqual({ status, signal }, { status: 0, signal: null }, stderr)
  assert.deepEqual(JSON.parse(stdout), [0, 'ERR_HOSTMAP_FAULTED'])
})

test('the example has equal results', () => {
  const example = fileURLToPath(new URL('../examples/arrow.mjs', import.meta.url))
  const arguments_ = [example, '--size', '4MiB']
  const { status, stdout, stderr } = spawnSync(process.execPath, arguments_, { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  assert.match(stdout, /All answers are equal/)
})
