'use strict'

// The other end of 02-copies.slow.test.js: a process that has loaded no copy of the package yet.

const fs = require('node:fs')
const path = require('node:path')
const vm = require('node:vm')
const { once } = require('node:events')
const { Worker } = require('node:worker_threads')

/** Loads the package that is in a directory in a new realm, as jest would. */
function loadInRealm(directory) {
  const globals = { process, Buffer, setInterval, clearInterval, setImmediate }
  const context = vm.createContext(globals)
  const loaded = new Map()
  const requireIn = from => name => {
    const file = path.resolve(from, name)
    if (!name.startsWith('.') || file.endsWith('.json'))
      return require(name.startsWith('.') ? file : name)
    if (!loaded.has(file)) {
      const module = { exports: {} }
      loaded.set(file, module)
      const parameters = ['module', 'exports', 'require', '__dirname', '__filename']
      const options = { parsingContext: context, filename: file }
      const body = vm.compileFunction(fs.readFileSync(file, 'utf8'), parameters, options)
      const inner = path.dirname(file)
      body(module, module.exports, requireIn(inner), inner, file)
    }
    return loaded.get(file).exports
  }
  return requireIn(directory)('./index.js')
}

/**
 * Runs a function in a worker and gives what it gives or throws. `wait`: keeps the worker until
 * `end` is called.
 */
async function inWorker(body, data, { wait = false } = {}) {
  const text = `
    const { parentPort, workerData } = require('node:worker_threads')
    const tell = answer => parentPort.postMessage(answer)
    Promise.resolve(workerData).then(${body}).then(value => tell({ value }), ({ code, message }) => tell({ code, message }))
    ${wait ? 'setInterval(() => {}, 1000)' : ''}`
  const worker = new Worker(text, { eval: true, workerData: data })
  // It may send and end in one turn of the event loop.
  const exited = once(worker, 'exit')
  const [answer] = await once(worker, 'message')
  if (!wait) await exited
  return { ...answer, end: () => worker.terminate() }
}

function failure(call) {
  try {
    call()
    return null
  } catch ({ code, message }) {
    return { code, message }
  }
}

const [text, args] = process.argv.slice(2)
const body = (0, eval)(`(${text})`)

body({ fs, require, loadInRealm, inWorker, failure, args: JSON.parse(args) }).then(
  result => process.stdout.write(`\n${JSON.stringify(result ?? null)}\n`),
  error => {
    console.error(error)
    process.exit(1)
  }
)
