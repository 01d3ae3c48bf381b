// The benchmarks' files.

import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'

const directory = () => process.env.HOSTMAP_BENCH_DIR || os.tmpdir()

/** A file that is removed when the process ends. */
export function temporaryFile(name) {
  const folder = mkdtempSync(path.join(directory(), 'wasm-hostmap-bench-'))
  process.on('exit', () => rmSync(folder, { recursive: true }))
  return path.join(folder, name)
}
