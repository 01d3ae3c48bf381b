// Arrow: a table or a reader over the region, beside a table over a copy.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import * as arrow from 'apache-arrow'
import { HostRegion } from 'wasm-hostmap'
import { openArrow, readTable } from 'wasm-hostmap/arrow'
import { answer, ofReader, ofTable, scan, warmUp } from '../support/arrow-case.mjs'
import { makeArrowFile } from '../support/arrow-file.mjs'

export const engine = {
  name: 'Arrow',
  package: 'apache-arrow',
  adapter: 'openArrow(arrow, region)',
  nodes: '>=20',
  limits: '4 GiB on Node.js 20',
  section: 'arrow'
}

export const dataset = (directory, byteLength) =>
  makeArrowFile(path.join(directory, `arrow-${byteLength}.arrow`), byteLength)

const way = (read, fromFile) => ({
  prepare: async () => warmUp(read),
  open: async (_, file) => fromFile(file),
  answer: async table => answer(table),
  scan: async table => scan(table),
  close: async () => {}
})
const copied = bytes => ofTable(arrow.tableFromIPC(bytes))
const asReader = region => ofReader(openArrow(arrow, region))
const asTable = region => ofTable(readTable(arrow, region))
// Over a file, as what is measured: the first Buffer of a region in memory detaches an ArrayBuffer,
// after which V8's loops over typed arrays are slower in all of the process.
const small = read => bytes => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hostmap-arrow-'))
  const file = path.join(folder, 'small.arrow')
  fs.writeFileSync(file, bytes)
  try {
    return read(HostRegion.open(file))
  } finally {
    fs.rmSync(folder, { recursive: true })
  }
}

export const ways = {
  usual: way(copied, file => copied(fs.readFileSync(file))),
  mapped: way(small(asReader), file => asReader(HostRegion.open(file))),
  table: way(small(asTable), file => asTable(HostRegion.open(file)))
}
