// What the benchmark and the example do with Arrow, whichever way the batches came.

import * as arrow from 'apache-arrow'
import { batch, schema } from './arrow-file.mjs'

function sumOf(values) {
  let sum = 0
  // Not `of`: an iterator takes ten times as long as the memory does.
  for (let index = 0; index < values.length; index += 1) sum += values[index]
  return sum
}

function sumOfValid(values, validity, length) {
  let sum = 0
  for (let row = 0; row < length; row += 1)
    sum += ((validity[row >> 3] >> (row & 7)) & 1) * values[row]
  return sum
}

/** Sums of all that the columns have, offsets of texts too, batch by batch. */
export function scan({ count, batchAt }) {
  const sums = { rows: 0, price: 0, quantity: 0, regions: 0, offsets: 0, numbers: 0 }
  for (let index = 0; index < count; index += 1) {
    const { numRows, data } = batchAt(index)
    const [price, quantity, region, number] = data.children
    sums.rows += numRows
    sums.price += sumOf(price.values)
    sums.quantity += sumOfValid(quantity.values, quantity.nullBitmap, numRows)
    sums.regions += sumOf(region.values)
    sums.offsets += sumOf(number.valueOffsets)
    sums.numbers += sumOf(number.values)
  }
  return sums
}

/** A few rows from all over the file. */
export function answer({ count, batchAt }) {
  const places = [0, count >> 1, count - 1]
  const rows = places.map(index => String(batchAt(index).get(4711)))
  return { count, schema: String(schema), rows }
}

export const ofTable = table => ({
  count: table.batches.length,
  batchAt: index => table.batches[index]
})

export function ofReader(reader) {
  const batches = []
  return {
    count: reader.numRecordBatches,
    batchAt: index => (batches[index] ??= reader.readRecordBatch(index))
  }
}

/** The engine is loaded, and its code is warm: a small file, read often. */
export function warmUp(...reads) {
  const bytes = arrow.tableToIPC(new arrow.Table([batch(0, 8192), batch(1, 8192)]), 'file')
  for (let round = 0; round < 20; round += 1)
    for (const read of reads) {
      const table = read(bytes)
      answer(table)
      scan(table)
    }
}
