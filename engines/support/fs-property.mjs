// The promise of emscriptenState as one property, and the modules that it is held against. The
// quick tests and the slow ones differ in how often.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import path from 'node:path'
import fc from 'fast-check'
import { emscriptenState } from 'wasm-hostmap/emscripten-state'
import { digestFS } from './fs-digest.mjs'
import { operate, operation, plant } from './fs-operations.mjs'

const require = createRequire(import.meta.url)
const quiet = { print() {}, printErr() {} }

/** Modules of different versions of Emscripten that export their FS. */
export const MODULES = {
  '7z-wasm': () => require('7z-wasm')(quiet),
  h5wasm: async () => (await import('h5wasm')).ready,
  'gdal3.js': async () => {
    const directory = path.dirname(require.resolve('gdal3.js/package.json'))
    // It puts `./` before the path.
    const relative = path.relative('.', `${directory}/dist/package`)
    const gdal = await require('gdal3.js/node')({ path: relative, useWorker: false })
    return gdal.Module
  },
  '@electric-sql/pglite': async () =>
    (await (await import('@electric-sql/pglite')).PGlite.create()).Module
}

/** After random operations and a restore, the FS is what it was: `rounds` times. */
export async function anyIsUndone(make, rounds, seed) {
  const { FS, ENV } = await make()
  plant(FS)
  const restore = emscriptenState({ FS, ENV })()
  const before = digestFS(FS)
  let succeeded = 0
  const property = fc.property(fc.array(operation, { minLength: 1, maxLength: 25 }), steps => {
    for (const step of steps) if (operate(FS, step)) succeeded++
    restore()
    assert.equal(digestFS(FS), before)
  })
  fc.assert(property, { numRuns: rounds, seed })
  assert.ok(succeeded > rounds, `only ${succeeded} operations succeeded`)
}
