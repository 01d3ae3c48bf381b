// Where the machines' parts are kept: outside of the tree, so that they outlive a checkout.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** `WASM_HOSTMAP_MACHINES` moves it. */
export const CACHE = path.resolve(
  process.env.WASM_HOSTMAP_MACHINES ?? path.join(os.homedir(), '.cache/wasm-hostmap-machines')
)

/** Runs a program, and gives what it prints. */
export function output(program, args, options = {}) {
  return execFileSync(program, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 2 ** 28,
    ...options
  })
}

/**
 * A folder of the cache. `make` fills a folder beside it, which takes its name when it is whole:
 * what is interrupted is made anew.
 */
export function kept(name, make) {
  const folder = path.join(CACHE, name)
  if (fs.existsSync(folder)) return folder
  fs.mkdirSync(path.dirname(folder), { recursive: true })
  const started = Date.now()
  const half = fs.mkdtempSync(`${folder}.half-`)
  fs.chmodSync(half, 0o755)
  try {
    make(half)
    fs.renameSync(half, folder)
  } finally {
    fs.rmSync(half, { recursive: true, force: true })
  }
  console.log(`made ${name} in ${((Date.now() - started) / 1000).toFixed(1)} s`)
  return folder
}
