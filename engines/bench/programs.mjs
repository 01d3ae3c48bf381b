// A clean program for each request: out of a pool, and booted anew, in a new process and in one
// that has booted it before. All programs that engines/support/programs.mjs names, in one run.
//
//   npm run bench:engines -- programs            prints the table
//   npm run bench:engines -- programs --write    and puts it into docs/pools.md
//
//   PROGRAMS=php,wasi       only these
//   BOOTS=9 REQUESTS=1000   how many are measured
//
// Each program is measured in processes of its own. What was answered is checked each time, and
// what the program shows of itself after the last request is compared with a fresh boot.

import fs from 'node:fs'
import { fileURLToPath } from 'node:url'
import prettier from 'prettier'
import { describeMachine } from '../../bench/lib/machine.mjs'
import { formatBytes } from '../../bench/lib/table.mjs'
import { NAMES, programOf } from '../support/programs.mjs'
import { HEAD, measureProgram, rowOf, tableOf } from './lib/programs.mjs'

const DOCUMENT = fileURLToPath(new URL('../../docs/pools.md', import.meta.url))
const MARKS = [
  '<!-- Programs, by `npm run bench:engines -- programs --write` -->',
  '<!-- /Programs -->'
]
const markdown = rows => rows.map(cells => `| ${cells.join(' | ')} |`).join('\n')

function circumstances({ boots, requests }) {
  const { cpu, cores, memoryBytes, kernel, arch, virtualMachine, loadAverage } = describeMachine()
  return [
    `${new Date().toISOString().slice(0, 10)}, Node.js ${process.versions.node}, Linux ${kernel} ${arch}`,
    `${cpu}, ${cores} cores${virtualMachine ? ', a virtual machine' : ''}, ${formatBytes(memoryBytes)}; load average at the end: ${loadAverage.toFixed(1)}`,
    `First boot: in a new process, from the call that makes the program until the request is answered; the package was imported before. Boot again: the same in a process that has booted it before, where V8 finds the code that it has compiled of the same bytes, and with the module compiled before where the package takes one. Medians of ${boots} each.`,
    `Clean request: the same request, from the pool's \`run\` until its program is clean again. The median and the 99th percentile of ${requests}, and how many times sooner that is than either boot.`,
    'PSS is that of a process with one and with six.'
  ].map(line => `- ${line}`)
}

async function writeDocument(measured, lines) {
  const text = fs.readFileSync(DOCUMENT, 'utf8')
  const [from, to] = MARKS.map(mark => text.indexOf(mark))
  if (from === -1 || to < from) throw new Error(`${DOCUMENT} has no ${MARKS.join(' ... ')}`)
  const rule = HEAD.map((_, index) => (index === 0 || index === HEAD.length - 1 ? ':--' : '--:'))
  const body = `${markdown([HEAD, rule, ...measured.map(each => rowOf(...each))])}\n\n${lines.join('\n')}`
  const written = `${text.slice(0, from)}${MARKS[0]}\n\n${body}\n\n${text.slice(to)}`
  const config = await prettier.resolveConfig(DOCUMENT)
  fs.writeFileSync(DOCUMENT, await prettier.format(written, { ...config, parser: 'markdown' }))
}

function countOf(name, standard) {
  const count = Number(process.env[name] ?? standard)
  if (!Number.isInteger(count) || count < 1)
    throw new Error(`${name} takes a count, not ${process.env[name]}`)
  return count
}

export async function run({ write = false } = {}) {
  const options = { boots: countOf('BOOTS', 9), requests: countOf('REQUESTS', 1000) }
  const names = process.env.PROGRAMS?.split(',') ?? NAMES
  const measured = []
  for (const name of names) {
    const program = await programOf(name)
    let result
    try {
      result = await measureProgram(name, options)
    } catch (error) {
      result = { error: error.message.split('\n')[0] }
    }
    if (result.error !== undefined || !result.isSame) process.exitCode = 1
    if (result.discarded > 0)
      console.error(`${name}: ${result.discarded} discarded: ${result.failure}`)
    measured.push([program, result])
    if (process.stdout.isTTY !== true) console.error(`${name}: measured`)
  }
  const lines = circumstances(options)
  console.log(tableOf(measured))
  console.log(lines.join('\n'))
  if (write) await writeDocument(measured, lines)
}
