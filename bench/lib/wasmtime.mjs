// Builds and runs bench/wasmtime: another engine's in-place reset, and its linear memories that the host makes.

import { execFileSync } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { MiB } from './dataset.mjs'

const manifest = fileURLToPath(new URL('../wasmtime/Cargo.toml', import.meta.url))
const targetDirectory = fileURLToPath(new URL('../../target/bench-wasmtime', import.meta.url))
const program = `${targetDirectory}/release/wasm-hostmap-bench-wasmtime`

let outcome

/** Builds the program, once. Returns null, or the reason why it can't be had. */
export function buildWasmtime() {
  if (outcome === undefined) outcome = build()
  return outcome
}

function build() {
  // A program of an earlier build must not stand in for one that could not be built.
  rmSync(program, { force: true })
  if (!existsSync(targetDirectory)) console.log('wasmtime is being built, which takes some minutes once')
  try {
    const args = ['build', '--release', '--quiet', '--locked', '--manifest-path', manifest]
    execFileSync('cargo', [...args, '--target-dir', targetDirectory], { stdio: ['ignore', 'ignore', 'pipe'] })
    return null
  } catch (error) {
    return error.code === 'ENOENT' ? 'cargo is not installed' : String(error.stderr || error.message).trim()
  }
}

/** Whether `buildWasmtime` has been successful, in this process or in the one that started it. */
export const hasWasmtime = () => existsSync(program)

/**
 * Nanoseconds per instance that is made, stores to pages and is dropped: one turn in a process of its own, with a list for
 * each plan. That is one of `timeBatches`, with the pages to `store` to, and those that an instance has to `read` before:
 * `first`, `pages` and `stride`. The module is a file.
 */
export function timeWasmtime(module, keepResidentBytes, plans) {
  const places = ({ first, pages, stride }) => [first, pages, stride]
  const args = plans.flatMap(({ read, store, warmupBatches, batchesPerTurn, roundsPerBatch }) => [
    ...places(read),
    ...places(store),
    ...[warmupBatches, batchesPerTurn, roundsPerBatch]
  ])
  const text = execFileSync(program, ['reset', module, keepResidentBytes, ...args].map(String), {
    encoding: 'utf8'
  })
  return JSON.parse(text).nsPerRound
}

/** What stands before the dataset in the memory of the module that `scanWasmtime` is given. */
export const WASMTIME_BEFORE_BYTES = 2 * MiB

/**
 * What functions of a module with a memory of its own take to read a dataset: a file of so many bytes, which stands in that
 * memory. The module is a file too. For each of them `ns`, of so many rounds, every page being read before; and the `sum` that it
 * gave.
 */
export function scanWasmtime(module, dataset, byteLength, rounds, functions) {
  const args = ['scan', module, dataset, byteLength, rounds, ...functions]
  return JSON.parse(execFileSync(program, args.map(String), { encoding: 'utf8' }))
}
