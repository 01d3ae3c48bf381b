// What the cases emscripten and emscripten-stdio of `npm run bench:engines` share: a program of
// Emscripten's that adds up the words of a file, which it is given in two ways.

import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync
} from 'node:fs'
import path from 'node:path'
import { HostRegion } from 'wasm-hostmap'
import { emscripten } from 'wasm-hostmap/emscripten'
import { MAP, O, PROT, dataOf, load, program } from './emscripten-builds.mjs'

export const VERSION = '6.0.5'
const CHUNK_BYTES = 2 ** 24
const FILE = '/orders.bin'

/** A file of words that differ, the same for each size. */
export async function dataset(directory, byteLength) {
  const file = path.join(directory, `words-${byteLength}.bin`)
  if (existsSync(file)) return file
  mkdirSync(directory, { recursive: true })
  const fd = openSync(`${file}.part`, 'w')
  for (let at = 0; at < byteLength; at += CHUNK_BYTES) {
    writeSync(fd, dataOf(Math.min(CHUNK_BYTES, byteLength - at), 1 + at / CHUNK_BYTES))
  }
  closeSync(fd)
  renameSync(`${file}.part`, file)
  return file
}

async function prepare() {
  const module = await load(VERSION, 'plain')
  const c = program(module)
  // Loaded and warm: both ways to give a file have run, and C's functions.
  const bytes = dataOf(65_536)
  module.FS.writeFile('/warm', bytes)
  const file = emscripten(module).mountFile('/mounted', HostRegion.copyFrom(bytes))
  for (const path of ['/warm', '/mounted']) {
    const fd = c.open(path, O.RDONLY)
    c.sumAt(c.map(bytes.length, PROT.READ, MAP.SHARED, fd, 0), bytes.length)
    c.close(fd)
  }
  file.unmount()
  return { module, c }
}

/** What Emscripten's documentation says: the file goes into MEMFS. */
const writeFile = ({ module }, file) => module.FS.writeFile(FILE, readFileSync(file))

const mountFile = ({ module }, file) => {
  emscripten(module).mountFile(FILE, HostRegion.open(file))
}

/** The ways of a case: `open`, `answer` and `scan` of the program, after the file is there. */
export function waysOf({ open, answer, scan }) {
  const way = give => ({
    prepare,
    open: async (context, file) => {
      give(context, file)
      return open(context, FILE)
    },
    answer: async handle => answer(handle),
    scan: async handle => scan(handle),
    close: async () => {}
  })
  return { usual: way(writeFile), mapped: way(mountFile) }
}
