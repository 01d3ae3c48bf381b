// Arrow: a table or a reader over the region, beside a table over a copy.

import fs from 'node:fs'
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
const small = read => bytes => read(HostRegion.copyFrom(bytes))

export const ways = {
  usual: way(copied, file => copied(fs.readFileSync(file))),
  mapped: way(small(asReader), file => asReader(HostRegion.open(file))),
  table: way(small(asTable), file => asTable(HostRegion.open(file)))
}
