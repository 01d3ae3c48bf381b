// The programs of fixtures/emscripten: which builds there are, how each is loaded, and names for
// what libc calls by numbers.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import vm from 'node:vm'

const require = createRequire(import.meta.url)

export const VERSIONS = ['3.1.6', '3.1.69', '6.0.5']

/** musl's numbers, and WASI's for errors. */
export const O = { RDONLY: 0, WRONLY: 1, RDWR: 2, CREAT: 0o100, TRUNC: 0o1000 }
export const PROT = { READ: 1, WRITE: 2 }
export const MAP = { SHARED: 1, PRIVATE: 2 }
export const E = {
  EACCES: -2,
  EBADF: -8,
  EFBIG: -22,
  EINVAL: -28,
  EIO: -29,
  EMFILE: -33,
  ENOENT: -44,
  ENOMEM: -48,
  EOVERFLOW: -61,
  EROFS: -69
}

/** Builds whose FS takes files, by name. wasm64 needs 64-bit memories: Node.js 24. */
export const BUILDS = [
  ['3.1.6', 'plain'],
  ['3.1.6', 'closed'],
  ['3.1.6', 'script'],
  ['3.1.69', 'plain'],
  ['3.1.69', 'closed'],
  ['6.0.5', 'plain'],
  ['6.0.5', 'closed'],
  ['6.0.5', 'script'],
  ['6.0.5', 'esm'],
  ...(Number(process.versions.node.split('.')[0]) >= 24 ? [['6.0.5', 'wasm64']] : [])
]

/** A new instance of a build. */
export async function load(version, kind, settings = {}) {
  const url = new URL(
    `../fixtures/emscripten/${version}/${kind}.${kind === 'esm' ? 'mjs' : 'js'}`,
    import.meta.url
  )
  // 3.1.6 would fetch a path, which Node.js refuses.
  settings = { wasmBinary: readFileSync(new URL(`${kind}.wasm`, url)), ...settings }
  if (kind === 'script') return loadScript(fileURLToPath(url), settings)
  const factory = kind === 'esm' ? (await import(url)).default : require(fileURLToPath(url))
  return factory({ ...settings })
}

/** A classic script finds `Module` where it runs, and starts by itself. */
function loadScript(path, settings) {
  return new Promise((resolve, reject) => {
    const module = { ...settings, onRuntimeInitialized: () => resolve(module), onAbort: reject }
    const names = ['Module', 'require', '__dirname', '__filename', 'module', 'exports']
    const script = vm.compileFunction(readFileSync(path, 'utf8'), names, { filename: path })
    script(module, require, dirname(path), path, undefined, undefined)
  })
}

/** The doors of files.c, with strings where C takes paths. */
export function program(module) {
  const call = (name, types) =>
    module.ccall
      ? (...given) => module.ccall(name, 'number', types, given)
      : (...given) => module[`_${name}`](...given)
  const n = 'number'
  return {
    open: call('p_open', ['string', n]),
    close: call('p_close', [n]),
    unlink: call('p_unlink', ['string']),
    rename: call('p_rename', ['string', 'string']),
    chmod: call('p_chmod', ['string', n]),
    truncate: call('p_truncate', [n, n]),
    seek: call('p_seek', [n, n, n]),
    size: call('p_size', ['string']),
    byte: call('p_byte', [n, n]),
    fill: call('p_fill', [n, n, n, n]),
    sum: call('s_sum', ['string', n]),
    byteOf: call('s_byte', ['string', n]),
    tellEnd: call('s_tell_end', ['string']),
    writeText: call('s_write', ['string', 'string', 'string']),
    map: call('m_map', [n, n, n, n, n]),
    unmap: call('m_unmap', [n, n]),
    sync: call('m_sync', [n, n]),
    get: call('m_get', [n]),
    put: call('m_put', [n, n]),
    sumAt: call('m_sum', [n, n]),
    churn: call('a_churn', [n])
  }
}

/**
 * Bytes that differ everywhere and hold no long runs of zeros, by a linear congruential generator.
 */
export function dataOf(byteLength, seed = 1) {
  const words = new Uint32Array(Math.ceil(byteLength / 4))
  let state = seed >>> 0
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    words[i] = state
  }
  return new Uint8Array(words.buffer, 0, byteLength)
}

/** The sum that files.c computes, of whole words in blocks of this size. */
export function sumOf(bytes) {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.byteLength / 4))
  let sum = 0
  for (const word of words) sum = (sum + word) >>> 0
  return sum
}
