// Runs the scripts of list.json in the current folder, one after another in this process, and
// writes what each printed to results.json.
//
//   node run.mjs mjs|cjs

import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import util from 'node:util'
import { pathToFileURL } from 'node:url'

const [extension] = process.argv.slice(2)
// What is published is found by its own process alone.
process.env.XDG_RUNTIME_DIR = process.cwd()
const require = createRequire(import.meta.url)
const { scope } = require('../examples.js')
const hostmap = require('../../..')

const warnings = []
process.on('warning', ({ code, message }) => warnings.push({ code: code ?? null, message }))

let printed
console.log = console.warn = (...values) => printed.push(util.format(...values))

const scripts = {}
for (const { name, file, isComplete, isWorker } of JSON.parse(
  fs.readFileSync('list.json', 'utf8')
)) {
  if (isWorker) continue
  const location = path.resolve(`${file}.${extension}`)
  printed = []
  let error = null
  try {
    const { default: made } =
      extension === 'cjs' ? require(location) : await import(pathToFileURL(location))
    if (made) await made(isComplete ? undefined : await scope(hostmap))
  } catch (thrown) {
    error = String(thrown?.stack ?? thrown)
  }
  scripts[name] = { printed, error }
}

// Warnings come in later turns of the event loop, in order: this one is the last.
const isLast = ({ message }) => message.includes('"the end"')
new Uint8Array(hostmap.HostRegion.copyFrom(Buffer.alloc(1), { name: 'the end' }).seal().view())[0] =
  1
while (!warnings.some(isLast)) await new Promise(resolve => setImmediate(resolve))

fs.writeFileSync(
  'results.json',
  JSON.stringify({ scripts, warnings: warnings.filter(each => !isLast(each)) })
)
process.exit()
