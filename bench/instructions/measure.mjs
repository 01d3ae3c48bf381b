// How many instructions the core takes for what it does often, as callgrind counts them. That
// depends neither on how busy the machine is nor on the kernel, so it compares two builds:
//
//   cargo build --release --no-default-features --example instructions
//   node bench/instructions/measure.mjs MODULE PROGRAM [PROGRAM...]
//
// MODULE is a .wasm file that grows its memory. A program is target/release/examples/instructions,
// of this commit or of another.

import { execFileSync } from 'node:child_process'
import Table from 'cli-table3'

const [module, ...programs] = process.argv.slice(2)
if (programs.length === 0) {
  console.error('Usage: node bench/instructions/measure.mjs MODULE PROGRAM [PROGRAM...]')
  process.exit(2)
}

// Few rounds of what takes long.
const CASES = [
  ['restore-clean', 10, 110],
  ['restore-dirty', 10, 110],
  ['map', 10, 110],
  ['slide', 10, 110],
  ['expose', 1, 2, module],
  ['growth', 1, 2, module]
]

function count(program, args) {
  const options = ['--tool=callgrind', '--callgrind-out-file=/dev/null', program, ...args]
  const said = execFileSync('sh', ['-c', 'valgrind "$@" 2>&1', 'sh', ...options], {
    encoding: 'utf8'
  })
  const [, collected] = /Collected : (\d+)/.exec(said) ?? []
  if (collected === undefined) throw new Error(said)
  return Number(collected)
}

/** Of one round: what more rounds take more. */
function perRound(program, [name, few, many, ...rest]) {
  const [less, more] = [few, many].map(rounds => count(program, [name, String(rounds), ...rest]))
  return Math.round((more - less) / (many - few))
}

const table = new Table({
  head: ['case', ...programs.flatMap((_, at) => (at === 0 ? ['first'] : [`${at + 1}.`, 'ratio']))],
  style: { head: [], border: [] }
})
for (const each of CASES) {
  const [first, ...others] = programs.map(program => perRound(program, each))
  const compared = others.flatMap(it => [it.toLocaleString('en'), (it / first).toFixed(3)])
  table.push([each[0], first.toLocaleString('en'), ...compared])
}
console.log(String(table))
