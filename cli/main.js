#!/usr/bin/env node
'use strict'

// The command `wasm-hostmap`: finds the subcommand, reads its options, and ends with the status
// that it gives. Nothing here loads the native part: `doctor` has to run where that does not load.
//
// A subcommand is a folder with a `command.js`, which exports its `summary` and `help`, the
// `options` and `allowPositionals` of util.parseArgs, and `run({ values, positionals })`: it prints
// what it has to say, and gives the exit status.

const { parseArgs } = require('node:util')
const { version } = require('../package.json')

// Lazily, so that a subcommand that needs the native part does not keep the others from running.
const COMMANDS = new Map([
  ['doctor', () => require('./doctor/command.js')],
  ['inspect', () => require('./inspect/command.js')],
  ['chunks', () => require('./chunks/command.js')]
])

// As of a shell's own commands: the command was not used as it can be.
const WRONG_USE = 2
const NOT_PRINTED = 1

function help() {
  const names = [...COMMANDS.keys()]
  const width = Math.max(...names.map(name => name.length))
  const lines = names.map(name => `  ${name.padEnd(width)}  ${COMMANDS.get(name)().summary}`)
  return `wasm-hostmap ${version}: host memory in WebAssembly memories

Usage: npx wasm-hostmap COMMAND [OPTIONS]

${lines.join('\n')}

  npx wasm-hostmap COMMAND --help says more of one.
  npx wasm-hostmap --version prints the version.
`
}

function wrongUse(message, text) {
  process.stderr.write(`${message}\n\n${text}`)
  return WRONG_USE
}

async function main([name, ...args]) {
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    process.stdout.write(help())
    return 0
  }
  if (name === '--version' || name === '-v') {
    process.stdout.write(`${version}\n`)
    return 0
  }
  const load = COMMANDS.get(name)
  if (load === undefined) {
    const what = name.startsWith('-') ? 'option' : 'command'
    return wrongUse(`wasm-hostmap has no ${what} '${name}'.`, help())
  }
  const command = load()
  let parsed
  try {
    parsed = parseArgs({
      args,
      options: { ...command.options, help: { type: 'boolean', short: 'h' } },
      allowPositionals: command.allowPositionals ?? false
    })
  } catch (error) {
    return wrongUse(error.message, command.help)
  }
  if (parsed.values.help) {
    process.stdout.write(command.help)
    return 0
  }
  return command.run(parsed)
}

// A pager or `head` that has seen enough closes the pipe, which is no failure.
process.stdout.on('error', error => {
  if (error.code === 'EPIPE') return
  process.stderr.write(`wasm-hostmap can't print what it has to say: ${error.message}\n`)
  // At once: `inspect --watch` would go on, and a status be set that says that all is well.
  process.exit(NOT_PRINTED)
})

main(process.argv.slice(2)).then(status => {
  process.exitCode = status
})
