// How many instructions the core takes for what it does often, without JavaScript: of the program
// in main.rs, as callgrind counts them.

import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { assemble } from '../lib/module.mjs'
import { temporaryFile } from '../lib/temporary.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** What a handler sees of the registers is exact, in compiled code and in code from files. */
export const EXACT_REGISTERS = [
  '--px-default=allregs-at-each-insn',
  '--px-file-backed=allregs-at-each-insn'
]

/** The program of this commit. */
export function buildCore() {
  const what = ['--no-default-features', '--example', 'instructions']
  execFileSync('cargo', ['build', '--release', '--quiet', '--locked', ...what], {
    cwd: ROOT,
    stdio: 'inherit'
  })
  return `${ROOT}/target/release/examples/instructions`
}

/** A file with a module of many functions that have what is rewritten: growths and globals. */
export async function moduleFile() {
  const functions = Array.from({ length: 1000 }, (_, index) => {
    const growth = index % 10 === 0 ? '(drop (memory.grow (i32.const 1)))' : ''
    const called = index === 0 ? '' : `(call ${index - 1})`
    return `(func ${called} ${growth} (global.set 0 (i32.add (global.get 0) (i32.load (i32.const ${4 * index})))))`
  })
  const state = '(memory 1) (global (mut i32) (i32.const 0)) (export "last" (func 999))'
  const file = temporaryFile('module.wasm')
  writeFileSync(file, await assemble('module', `(module ${state} ${functions.join('\n')})`))
  return file
}

// Few rounds of what takes long.
const ROUNDS = {
  'restore-clean': [10, 110],
  'restore-dirty': [10, 110],
  map: [10, 110],
  slide: [10, 110],
  stray: [10, 110],
  expose: [1, 2],
  growth: [1, 2]
}
const OF_MODULES = ['expose', 'growth']

export const CORE_CASES = Object.keys(ROUNDS)

function count(program, args) {
  const options = ['--tool=callgrind', '--callgrind-out-file=/dev/null', ...EXACT_REGISTERS]
  const said = execFileSync(
    'sh',
    ['-c', 'valgrind "$@" 2>&1', 'sh', ...options, program, ...args],
    {
      encoding: 'utf8'
    }
  )
  const [, collected] = /Collected : (\d+)/.exec(said) ?? []
  if (collected === undefined) throw new Error(said)
  return Number(collected)
}

/** Of one round of a case: what more rounds take more. */
export function countCore(program, name, module) {
  const [few, many] = ROUNDS[name]
  const rest = OF_MODULES.includes(name) ? [module] : []
  const [less, more] = [few, many].map(rounds => count(program, [name, String(rounds), ...rest]))
  return Math.round((more - less) / (many - few))
}
