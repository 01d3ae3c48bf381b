// Thousands of rounds of what emscripten-state.test.mjs does, with another seed each time.

import { test } from 'node:test'
import { anyIsUndone, MODULES } from '../support/fs-property.mjs'

const ROUNDS = { '7z-wasm': 10_000, h5wasm: 5000, 'gdal3.js': 2000, '@electric-sql/pglite': 150 }
const seed = Date.now() % 2 ** 31

for (const [name, make] of Object.entries(MODULES)) {
  test(`${name}: any operations on files are undone, seed ${seed}`, () =>
    anyIsUndone(make, ROUNDS[name], seed))
}
