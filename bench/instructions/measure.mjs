// How many instructions the core takes for what it does often, in two builds or more:
//
//   cargo build --release --no-default-features --example instructions
//   node bench/instructions/measure.mjs PROGRAM [PROGRAM...]
//
// A program is target/release/examples/instructions, of this commit or of another. What this commit
// takes is in figures.json: see count.mjs.

import Table from 'cli-table3'
import { CORE_CASES, countCore, moduleFile } from './core.mjs'

const programs = process.argv.slice(2)
if (programs.length === 0) {
  console.error('Usage: node bench/instructions/measure.mjs PROGRAM [PROGRAM...]')
  process.exit(2)
}

const module = await moduleFile()
const table = new Table({
  head: ['case', ...programs.flatMap((_, at) => (at === 0 ? ['first'] : [`${at + 1}.`, 'ratio']))],
  style: { head: [], border: [] }
})
for (const name of CORE_CASES) {
  const [first, ...others] = programs.map(program => countCore(program, name, module))
  const compared = others.flatMap(it => [it.toLocaleString('en'), (it / first).toFixed(3)])
  table.push([name, first.toLocaleString('en'), ...compared])
}
console.log(String(table))
