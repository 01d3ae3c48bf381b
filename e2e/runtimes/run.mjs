// The package under Deno and Bun: npm run test:runtimes [-- deno|bun] [--write]
//
// Each runs the smoke script (e2e/smoke), and then what is particular to it (checks/). The runtimes
// are npm packages, pinned in this folder. They load the addon that this checkout has built.
//
// --write   keeps the results where docs/platforms.md is made from (e2e/machines/results)
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { isInstalled } from '../../scripts/installed.mjs'
import { write } from '../machines/results.mjs'

const HERE = path.dirname(fileURLToPath(import.meta.url))
const ROOT = path.join(HERE, '..', '..')
const SMOKE = path.join(ROOT, 'e2e', 'smoke', 'run.cjs')

/** What each is called with, beside the script. */
const RUNTIMES = {
  // The smoke script starts processes and writes files.
  deno: { all: ['run', '--allow-all'], environment: {} },
  // It has more memories at a time than Bun gives guards to.
  bun: { all: ['run'], environment: { BUN_JSC_maxNumWasmFastMemories: '1000' } }
}

function main(argv) {
  const isWritten = argv.includes('--write')
  const given = argv.filter(argument => argument !== '--write')
  const unknown = given.find(name => !(name in RUNTIMES))
  if (unknown !== undefined) throw new Error(`${unknown} is no runtime: deno or bun`)
  install()
  const failed = []
  for (const name of given.length > 0 ? given : Object.keys(RUNTIMES)) {
    if (!smoke(name, isWritten)) failed.push(`${name}: smoke`)
    if (!check(name)) failed.push(`${name}: checks/${name}.cjs`)
  }
  for (const what of failed) console.error(`FAILED: ${what}`)
  process.exitCode = failed.length > 0 ? 1 : 0
}

/** Where npm has put a runtime's program, as a file and not as a link to one. */
const programOf = name => realpathSync(path.join(HERE, 'node_modules', '.bin', name))

function install() {
  if (isInstalled(HERE)) return
  // Their install scripts put the program of this machine in place.
  execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts=false'], {
    cwd: HERE,
    stdio: 'inherit'
  })
}

function smoke(name, isWritten) {
  const { all, environment } = RUNTIMES[name]
  const program = programOf(name)
  const json = path.join(tmpdir(), `wasm-hostmap-${name}-${process.pid}.json`)
  const { status } = spawnSync(program, [...all, SMOKE, ROOT, '--json', json], {
    env: { ...process.env, ...environment, SMOKE_EXEC: [program, ...all].join(' ') },
    stdio: 'inherit'
  })
  if (isWritten && existsSync(json)) {
    write('host', JSON.parse(readFileSync(json, 'utf8')))
  }
  rmSync(json, { force: true })
  return status === 0
}

function check(name) {
  const script = path.join(HERE, 'checks', `${name}.cjs`)
  const { status } = spawnSync(process.execPath, ['--test', '--test-reporter=spec', script], {
    env: { ...process.env, HOSTMAP_RUNTIME: programOf(name), HOSTMAP_PACKAGE: ROOT },
    stdio: 'inherit'
  })
  return status === 0
}

main(process.argv.slice(2))
