// Builds and runs bench/native: the bare system calls, with no JavaScript and none of our code round them.

import { execFileSync } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { SHORT } from './measure.mjs'

const manifest = fileURLToPath(new URL('../native/Cargo.toml', import.meta.url))
const targetDirectory = fileURLToPath(new URL('../../target/bench-native', import.meta.url))
const program = `${targetDirectory}/release/wasm-hostmap-bench-native`

/** Builds the program. Returns null, or the reason why it can't be had. */
export function buildNative() {
  // A program of an earlier build must not stand in for one that could not be built.
  rmSync(program, { force: true })
  try {
    const args = ['build', '--release', '--quiet', '--locked', '--manifest-path', manifest]
    execFileSync('cargo', [...args, '--target-dir', targetDirectory], { stdio: ['ignore', 'ignore', 'pipe'] })
    return null
  } catch (error) {
    return error.code === 'ENOENT' ? 'cargo is not installed' : String(error.stderr || error.message).trim()
  }
}

/** Whether `buildNative` has been successful, in this process or in the one that started it. */
export const hasNative = () => existsSync(program)

/** What the program prints: one run, in a process of its own. Its usage is what it prints without arguments. */
export const runNative = (...args) =>
  JSON.parse(execFileSync(program, args.map(String), { encoding: 'utf8' }))

/**
 * Nanoseconds per round of `mmap(MAP_FIXED)` of a memfd and of zeros over it again: one turn, in a process of its own,
 * timed as `timeBatches` does. `calls` is `bare`, those two calls, or `advised`, with the calls of `madvise` that
 * wasm-hostmap makes too.
 */
export function timeSystemCalls({ calls, access, byteLength }, plan = SHORT) {
  const { warmupBatches, batchesPerTurn, roundsPerBatch } = plan
  return runNative(calls, access, byteLength, warmupBatches, batchesPerTurn, roundsPerBatch).nsPerRound
}
