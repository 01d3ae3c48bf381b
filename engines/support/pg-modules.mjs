// The WebAssembly modules of PGlite's package: the engine, and the shared libraries that are in its
// bundle and in its extensions.

import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { gunzipSync } from 'node:zlib'
import { exposeState } from 'wasm-hostmap'

const require = createRequire(import.meta.url)
const DIST = path.dirname(require.resolve('@electric-sql/pglite'))
const TAR_BLOCK_BYTES = 512

const read = name => fs.readFileSync(path.join(DIST, name))

export const engineBytes = () => read('pglite.wasm')

/** The shared libraries: `[where, bytes]`. */
export const libraries = () => [...bundled(), ...ofExtensions()]

/** The glue says where in the bundle a file is. */
function bundled() {
  const bundle = read('pglite.data')
  const places = read('pglite.js')
    .toString()
    .matchAll(/filename:"([^"]+\.so)",start:(\d+),end:(\d+)/g)
  return [...places].map(([, name, start, end]) => [name, bundle.subarray(+start, +end)])
}

function ofExtensions() {
  return fs
    .readdirSync(DIST)
    .filter(name => name.endsWith('.tar.gz'))
    .flatMap(name => filesInTar(gunzipSync(read(name))).map(([file, it]) => [name + file, it]))
    .filter(([name]) => name.endsWith('.so'))
}

function filesInTar(tar) {
  const files = []
  for (let at = 0; at + TAR_BLOCK_BYTES <= tar.length && tar[at] !== 0;) {
    const field = (offset, length) => tar.toString('latin1', at + offset, at + offset + length)
    const byteLength = parseInt(field(124, 12), 8) || 0
    const start = at + TAR_BLOCK_BYTES
    files.push([field(0, 100).replace(/\0.*$/s, ''), tar.subarray(start, start + byteLength)])
    at = start + Math.ceil(byteLength / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES
  }
  return files
}

/**
 * What a module keeps besides its memory and does not show: indices of mutable globals of its own
 * and of its own tables, and what can't be brought back at all. (Those that it imports its glue
 * has.)
 */
export function hiddenState(bytes) {
  const module = new WebAssembly.Module(exposeState(bytes))
  const imported = kind => WebAssembly.Module.imports(module).filter(it => it.kind === kind).length
  const added = WebAssembly.Module.exports(module)
    .map(({ name }) => /^hostmap:([a-z-]+)(?::(\d+))?$/.exec(name))
    .filter(Boolean)
  const own = kind =>
    added.filter(it => it[1] === kind && it[2] >= imported(kind)).map(it => Number(it[2]))
  return {
    globals: own('global'),
    tables: own('table'),
    marks: added.map(it => it[1]).filter(it => !['memory', 'global', 'table'].includes(it))
  }
}
