// Arrow IPC files of any size, made batch by batch, the same bytes each time.

import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import { setImmediate } from 'node:timers/promises'
import * as arrow from 'apache-arrow'

export const ROWS = 65_536
const REGIONS = ['north', 'east', 'south', 'west']
// What a batch takes in a file, about: 8 + 4 + 4 bytes a row, and a text of 4 + 8.
const BATCH_BYTES = ROWS * 28

/** Record batch number `index`: prices, quantities (with nulls), regions (a dictionary), texts. */
export function batch(index, rows = ROWS) {
  const first = index * rows
  const price = Float64Array.from({ length: rows }, (_, row) => ((first + row) % 100_003) / 8)
  const quantity = Int32Array.from({ length: rows }, (_, row) => (first + row) % 97)
  const valid = new Uint8Array(rows / 8).fill(0b1110_1111)
  const offsets = Int32Array.from({ length: rows + 1 }, (_, row) => row * 8)
  const text = Buffer.alloc(rows * 8)
  for (let row = 0; row < rows; row += 1) {
    for (let place = 7, rest = first + row; place >= 0; place -= 1, rest = Math.floor(rest / 10))
      text[row * 8 + place] = 48 + (rest % 10)
  }
  const children = [
    arrow.makeData({ type: new arrow.Float64(), data: price }),
    arrow.makeData({ type: new arrow.Int32(), data: quantity, nullBitmap: valid }),
    arrow.makeData({
      type: dictionaryType,
      data: Int32Array.from({ length: rows }, (_, row) => (first + row) % REGIONS.length),
      dictionary
    }),
    arrow.makeData({ type: new arrow.Utf8(), valueOffsets: offsets, data: text })
  ]
  const type = new arrow.Struct(schema.fields)
  return new arrow.RecordBatch(
    schema,
    arrow.makeData({ type, length: rows, nullCount: 0, children })
  )
}

const dictionary = arrow.vectorFromArray(REGIONS, new arrow.Utf8())
const dictionaryType = new arrow.Dictionary(new arrow.Utf8(), new arrow.Int32(), 7)
export const schema = new arrow.Schema([
  new arrow.Field('price', new arrow.Float64(), false),
  new arrow.Field('quantity', new arrow.Int32(), true),
  new arrow.Field('region', dictionaryType, false),
  new arrow.Field('number', new arrow.Utf8(), false)
])

/** Writes a file (or, for a name that ends in .arrows, a stream) of about `byteLength` bytes. */
export async function makeArrowFile(file, byteLength, rows = ROWS) {
  if (fs.existsSync(file)) return file
  fs.mkdirSync(path.dirname(file), { recursive: true })
  const Writer = file.endsWith('.arrows')
    ? arrow.RecordBatchStreamWriter
    : arrow.RecordBatchFileWriter
  const writer = new Writer()
  const out = fs.createWriteStream(`${file}.part`)
  writer.pipe(out)
  const count = Math.max(1, Math.round(byteLength / ((BATCH_BYTES * rows) / ROWS)))
  for (let index = 0; index < count; index += 1) {
    writer.write(batch(index, rows))
    // The writer's own queue has no limit.
    await setImmediate()
    if (out.writableNeedDrain) await once(out, 'drain')
  }
  writer.finish()
  await once(out, 'finish')
  fs.renameSync(`${file}.part`, file)
  return file
}
