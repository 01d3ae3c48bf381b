'use strict'

// `wasm-hostmap doctor`: what this machine, kernel, container, Node.js and V8 allow.

const { gather } = require('./facts.js')
const { examine } = require('./examine.js')
const { textOf } = require('./report.js')
const { terminalOf } = require('./terminal.js')

const summary = 'what this machine, kernel, container, Node.js and V8 allow'

const help = `Usage: npx wasm-hostmap doctor [--json]

Says ${summary}: what is good, what is
slower than it could be, and what is missing; what that costs, and how it is
mended. It looks at the process that it runs in: start it as your program is
started, by the same user, in the same container, with the same limits and
Node.js options:

  NODE_OPTIONS=... npx wasm-hostmap doctor
  node FLAGS node_modules/wasm-hostmap/cli/main.js doctor

It changes nothing. In the temporary and in the current folder it saves a
snapshot of 64 KiB, and removes it.

  --json      prints one JSON object: docs/doctor.md has its shape
  -h, --help  prints this

Exit status: 0 if the package works here, even if slower or without some of its
parts; 1 if it does not; 2 for a wrong option.
`

async function run({ values }) {
  const report = examine(await gather())
  process.stdout.write(
    values.json
      ? `${JSON.stringify(report, null, 2)}\n`
      : textOf(report, terminalOf(process.stdout))
  )
  return report.works ? 0 : 1
}

module.exports = { summary, help, options: { json: { type: 'boolean' } }, run }
