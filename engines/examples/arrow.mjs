// An Arrow file as a table over its region, and a Wasm kernel that reads its columns where they
// are, beside the usual way, where the file is read into memory and JavaScript adds up.
//
//   node engines/examples/arrow.mjs [--size 256MiB]

import fs from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import * as arrow from 'apache-arrow'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'
import { pointersOf, readTable } from 'wasm-hostmap/arrow'
import { parseBytes } from '../../demo/units.mjs'
import { makeArrowFile } from '../support/arrow-file.mjs'
import { makeKernels } from '../support/arrow-kernels.mjs'
import { compareWays } from '../support/compare-ways.mjs'

// Read before anything is timed.
const small = arrow.tableToIPC(arrow.tableFromArrays({ price: [1.5, 2.5] }), 'file')
const usual = {
  prepare: () => void arrow.tableFromIPC(small),
  open: (_, file) => arrow.tableFromIPC(fs.readFileSync(file)),
  answer: table => {
    // In the order of the rows, so that both ways round alike.
    const sums = table.getChild('price').data.map(({ values }) => {
      let sum = 0
      for (let row = 0; row < values.length; row += 1) sum += values[row]
      return sum
    })
    let greater = 0
    for (const { values, nullBitmap, length } of table.getChild('quantity').data)
      for (let row = 0; row < length; row += 1)
        greater += ((nullBitmap[row >> 3] >> (row & 7)) & 1) * (values[row] > 50)
    return { rows: table.numRows, sums, greater }
  }
}

const mapped = {
  prepare: async () => {
    const guarded = new GuardedMemory({ initial: 1 })
    readTable(arrow, HostRegion.copyFrom(small))
    return { guarded, kernels: await makeKernels(guarded) }
  },
  open: ({ guarded, kernels }, file) => {
    const region = HostRegion.open(file)
    return { table: readTable(arrow, region), mapping: guarded.map(region), kernels }
  },
  answer: ({ table, mapping, kernels }) => {
    const sums = pointersOf(mapping, table.getChild('price')).map(({ values, length }) =>
      kernels.sum(values, length)
    )
    let greater = 0
    for (const chunk of pointersOf(mapping, table.getChild('quantity'))) {
      const { values, validity, bitOffset, length } = chunk
      greater += kernels.greater(values, validity ?? 0, bitOffset, length, 50)
    }
    return { rows: table.numRows, sums, greater }
  }
}

await compareWays(fileURLToPath(import.meta.url), { usual, mapped }, () => {
  const { values } = parseArgs({ options: { size: { type: 'string', default: '256MiB' } } })
  const size = parseBytes(values.size)
  if (!(size > 0)) throw new Error('--size takes a size such as 256MiB')
  return makeArrowFile(fileURLToPath(new URL(`../data/arrow-${size}.arrow`, import.meta.url)), size)
})
