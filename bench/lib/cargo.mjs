// Builds and runs the benchmarks' Rust programs.

import { execFileSync } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The program of the crate in bench/`name`. */
export function cargoProgram(name) {
  const manifest = fileURLToPath(new URL(`../${name}/Cargo.toml`, import.meta.url))
  const targetDirectory = fileURLToPath(new URL(`../../target/bench-${name}`, import.meta.url))
  const program = `${targetDirectory}/release/wasm-hostmap-bench-${name}`
  return {
    /** Builds it. Returns null, or the reason why that failed. */
    build() {
      // If the build fails, an earlier build's program must not run instead.
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
    /** Whether anything was ever built. */
    wasBuilt: () => existsSync(targetDirectory),
    /** Whether `build` succeeded, in this process or in its parent. */
    isThere: () => existsSync(program),
    /** Runs it in a new process and returns what it prints: without arguments, its usage. */
    run: (...args) => JSON.parse(execFileSync(program, args.map(String), { encoding: 'utf8' }))
  }
}
