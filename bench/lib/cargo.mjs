// Builds and runs the programs of the benchmarks that are written in Rust.

import { execFileSync } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The program of the crate in bench/`name`. */
export function cargoProgram(name) {
  const manifest = fileURLToPath(new URL(`../${name}/Cargo.toml`, import.meta.url))
  const targetDirectory = fileURLToPath(new URL(`../../target/bench-${name}`, import.meta.url))
  const program = `${targetDirectory}/release/wasm-hostmap-bench-${name}`
  return {
    /** Builds it. Returns null, or the reason why it can't be had. */
    build() {
      // A program of an earlier build must not be taken for one that could not be built.
      rmSync(program, { force: true })
      try {
        const args = ['build', '--release', '--quiet', '--locked', '--manifest-path', manifest]
        execFileSync('cargo', [...args, '--target-dir', targetDirectory], {
          stdio: ['ignore', 'ignore', 'pipe']
        })
        return null
      } catch (error) {
        return error.code === 'ENOENT'
          ? 'cargo is not installed'
          : String(error.stderr || error.message).trim()
      }
    },
    /** Whether something was ever built. */
    wasBuilt: () => existsSync(targetDirectory),
    /** Whether `build` has been successful, in this process or in the one that started it. */
    isThere: () => existsSync(program),
    /**
     * What it prints: one run, in a process of its own. Its usage is what it prints without
     * arguments.
     */
    run: (...args) => JSON.parse(execFileSync(program, args.map(String), { encoding: 'utf8' }))
  }
}
