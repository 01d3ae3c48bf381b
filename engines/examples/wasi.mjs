// A program in C under node:wasi, clean for each request: out of a pool, beside booting it anew.
// Each request opens a file and leaves it open, which node:wasi would never close.
//
//   node engines/examples/wasi.mjs [--requests 500] [--boots 9]

import fs from 'node:fs'
import { WASI } from 'node:wasi'
import { InstancePool } from 'wasm-hostmap'
import { wasiState } from 'wasm-hostmap/wasi'
import { compareWithBooting } from '../support/pool-example.mjs'
import { CATALOG, makeFolder, openIn, sumOf } from '../support/wasi-program.mjs'

const folder = makeFolder()
try {
  const pool = await InstancePool.create({
    async make() {
      const wasi = new WASI({ version: 'preview1', preopens: { '/data': folder } })
      // Watches what is opened: before the instance is made.
      const state = wasiState(wasi)
      const { instance } = await WebAssembly.instantiate(CATALOG, wasi.getImportObject())
      wasi.initialize(instance)
      return { c: instance.exports, state }
    },
    init({ value: { c } }) {
      if (c.load() < 0) throw new Error('The catalog was not read')
    },
    state: [({ value }) => value.state()],
    destroy: ({ value }) => value.state.close()
  })

  const opened = openIn(folder)
  for (let n = 0; n < 100; n++) {
    const sum = await pool.run(({ value: { c } }) => c.request(n))
    if (sum !== sumOf(n)) throw new Error(`Request ${n} was answered ${sum}, not ${sumOf(n)}`)
  }
  console.log(`Open on the folder: ${opened} before 100 requests, ${openIn(folder)} after them`)
  pool.close()
} finally {
  fs.rmSync(folder, { recursive: true })
}

await compareWithBooting(['wasi'])
