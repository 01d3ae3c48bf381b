'use strict'

// Shared libraries of PGlite. Emscripten loads a library (PL/pgSQL, the stemmer, conversions) when
// SQL first needs it, into a block of the memory, and notes the block in a variable that nothing
// leads to. A restore takes the block away and leaves the note: the library then has another's
// bytes for its data ("incompatible library: version mismatch" is the harmless way to notice).
//
// So all libraries get their blocks before the checkpoint, by the same preloading that PGlite does
// for extensions. SQL sees no difference: Postgres loads them when it needs them.

const { makeError } = require('./errors.js')

const TAR_BLOCK_BYTES = 512

/** Preloads the libraries that are in the file system and not loaded. */
async function preloadLibraries(pg) {
  const { FS } = pg.Module
  const done = new Set([...(await loadedPaths(pg)), ...(await extensionPaths(pg))])
  for (const path of libraryPaths(FS)) {
    if (!done.has(path)) await preload(pg.Module, path)
  }
}

function libraryPaths(FS) {
  const paths = []
  for (const first of FS.nameTable) {
    for (let node = first; node; node = node.name_next) {
      if (FS.isFile(node.mode) && node.name.endsWith('.so')) paths.push(FS.getPath(node))
    }
  }
  return paths.sort()
}

/** Those that Postgres has loaded: their blocks are there. Only Postgres 18 and later can tell. */
async function loadedPaths(pg) {
  // In a transaction that failed, the question would fail too.
  if (pg.isInTransaction()) return []
  try {
    const { rows } = await pg.query('select file_name from pg_catalog.pg_get_loaded_modules()')
    return rows.map(row => pg.Module.FS.lookupPath(row.file_name).path)
  } catch {
    return []
  }
}

/**
 * Those of extensions that PGlite has preloaded: once more would construct C++ globals twice. It
 * preloads them all at once, and 0.5.17 mostly fails for all but one then, silently. Files that
 * Emscripten's preloading made can be executed; those that PGlite wrote in their stead can't.
 */
async function extensionPaths({ Module }) {
  const bundles = await Promise.all(Object.values(Module.pg_extensions ?? {}))
  const paths = []
  for (const bundle of bundles.filter(Boolean)) {
    const names = namesInTar(Buffer.from(await bundle.arrayBuffer()))
    paths.push(...names.map(name => `${Module.WASM_PREFIX}/${name}`))
  }
  return paths.filter(path => isExecutable(Module.FS, path))
}

function isExecutable(FS, path) {
  const { exists, object } = FS.analyzePath(path)
  return exists && (object.mode & 0o111) !== 0
}

function namesInTar(tar) {
  const names = []
  for (let at = 0; at + TAR_BLOCK_BYTES <= tar.length && tar[at] !== 0;) {
    const field = (offset, length) => tar.toString('latin1', at + offset, at + offset + length)
    names.push(field(0, 100).replace(/\0.*$/s, ''))
    const blocks = Math.ceil(parseInt(field(124, 12), 8) / TAR_BLOCK_BYTES)
    at += (1 + blocks) * TAR_BLOCK_BYTES
  }
  return names
}

async function preload(Module, path) {
  const { FS } = Module
  const bytes = FS.readFile(path)
  // A library with a symbol that nobody has can't be loaded. Emscripten would note the symbol as
  // missing, and refuse every later library for it.
  if (!isResolved(Module, new WebAssembly.Module(bytes))) return
  const at = path.lastIndexOf('/')
  const cause = await new Promise(resolve => {
    const loaded = () => resolve(undefined)
    FS.createPreloadedFile(
      path.slice(0, at),
      path.slice(at + 1),
      bytes,
      true,
      true,
      loaded,
      error => resolve(error ?? new Error('no reason given')),
      true // The file is there.
    )
  })
  if (cause !== undefined) {
    throw makeError(
      'ERR_HOSTMAP_ENGINE_UNSUPPORTED',
      `PGlite could not preload the library ${path}: remove it before the checkpoint`,
      { cause }
    )
  }
}

function isResolved(Module, library) {
  const own = new Set(WebAssembly.Module.exports(library).map(({ name }) => name))
  return WebAssembly.Module.imports(library)
    .filter(({ module }) => module.startsWith('GOT.'))
    .every(({ name }) => own.has(name) || `_${name}` in Module)
}

module.exports = { preloadLibraries }
