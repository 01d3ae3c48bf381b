'use strict'

// Holds what the library makes of one module against what V8 makes of it. Runs in a child process
// of run.mjs, which is told where it is by a file, so that the module that ends it is known.

const fs = require('node:fs')
const { performance } = require('node:perf_hooks')
const { exposeState, instrumentGrowth, InstancePool } = require('../..')

// V8's own way of saying no, at compilation or instantiation.
const OF_V8 = ['CompileError', 'LinkError', 'RuntimeError']
// Times below count as this: what is shorter is noise.
const FLOOR_MS = 2
const MOST_TIMES = 100
const COLLECT_EVERY = 16

/** Modules of a file of run.mjs, one behind another with its length before it. */
function* modulesIn(file) {
  const all = fs.readFileSync(file)
  for (let at = 0; at < all.length;) {
    const length = all.readUInt32LE(at)
    at += 4
    // A copy each, so that an access past its end is one past an allocation's.
    yield Uint8Array.from(all.subarray(at, at + length))
    at += length
  }
}

function timed(call) {
  const start = performance.now()
  let value, error
  try {
    value = call()
  } catch (thrown) {
    error = thrown
  }
  return { value, error, ms: performance.now() - start }
}

const isOfV8 = error => OF_V8.includes(error?.name) && error.code === undefined

/** Checks one module. Gives what is to be counted; throws an Error that says what is wrong. */
async function checkModule(bytes) {
  const counts = {}
  const fail = what => {
    throw new Error(what)
  }
  const isValid = WebAssembly.validate(bytes)
  counts[isValid ? 'valid' : 'invalid'] = 1
  const count = (step, error) => {
    if (error === undefined) counts[`${step}: done`] = 1
    else if (typeof error.code === 'string') counts[`${step}: ${error.code}`] = 1
    else fail(`${step}: an error without a code: ${error.stack}`)
    if (error?.code === 'ERR_HOSTMAP_INTERNAL') fail(`${step}: ${error.message}`)
  }
  const inTime = (step, times) => {
    if (times() > MOST_TIMES && times() > MOST_TIMES && times() > MOST_TIMES) {
      fail(`${step}: more than ${MOST_TIMES} times as long as V8's compilation`)
    }
  }
  const v8Ms = () => Math.max(FLOOR_MS, timed(() => new WebAssembly.Module(bytes)).ms)

  const rewrite = (step, call) => {
    const { value, error } = timed(call)
    inTime(step, () => timed(call).ms / v8Ms())
    count(step, error)
    if (error !== undefined) return undefined
    if (isValid && !WebAssembly.validate(value))
      fail(`${step}: V8 took the module, and does not take what was made of it`)
    if (!isValid && WebAssembly.validate(value)) counts[`${step}: became valid`] = 1
    return value
  }
  const exposed = rewrite('exposeState', () => exposeState(bytes))
  if (exposed !== undefined) {
    const again = exposeState(exposed)
    if (Buffer.compare(again, exposed) !== 0) fail('exposeState: twice is not the same as once')
  }
  const made = rewrite('instrumentGrowth', () => instrumentGrowth(bytes).bytes)
  if (made !== undefined) {
    const both = rewrite('exposed, of the one with growth', () => exposeState(made))
    if (exposed !== undefined) {
      const other = rewrite('growth, of the exposed one', () => instrumentGrowth(exposed).bytes)
      if (isValid && (both === undefined) !== (other === undefined))
        fail('growth and exposing: the order matters')
    }
    if (isValid) checkSurface(bytes, made, fail)
  }
  await checkPool(bytes, { count, fail, counts })
  return counts
}

/** All that a module shows and wants stays as it is. */
function checkSurface(bytes, made, fail) {
  const of = code => new WebAssembly.Module(code)
  const [before, after] = [of(bytes), of(made)]
  for (const list of [WebAssembly.Module.exports, WebAssembly.Module.imports]) {
    const key = ({ module, name, kind }) => JSON.stringify([module, name, kind])
    const there = new Set(list(after).map(key))
    for (const it of list(before))
      if (!there.has(key(it))) fail(`instrumentGrowth: ${key(it)} is gone`)
  }
}

async function checkPool(bytes, { count, fail, counts }) {
  for (const growth of [undefined, { limit: 2 ** 24 }]) {
    const step = growth === undefined ? 'pool' : 'pool with growth'
    let pool, error
    const started = performance.now()
    const make = () =>
      InstancePool.create(bytes, { growth, max: 1, imports: () => importsFor(bytes) })
    try {
      pool = await make()
      const pooled = performance.now() - started
      const v8 = Math.max(
        FLOOR_MS,
        timed(() => new WebAssembly.Instance(new WebAssembly.Module(bytes), importsFor(bytes))).ms
      )
      if (pooled > MOST_TIMES * v8) counts[`${step}: slow (once)`] = 1
      await pool.run(() => {})
    } catch (thrown) {
      error = thrown
    }
    pool?.close()
    if (isOfV8(error)) counts[`${step}: ${error.name} of V8`] = 1
    else count(step, error)
    if (error === undefined && !WebAssembly.validate(bytes))
      fail(`${step}: of a module that V8 refuses`)
  }
}

/** Imports for a module, where their kinds tell which: V8 refuses the others. */
function importsFor(bytes) {
  const imports = {}
  const makers = {
    function: () => () => 0,
    memory: () => new WebAssembly.Memory({ initial: 1 }),
    table: () => new WebAssembly.Table({ initial: 1, element: 'anyfunc' }),
    global: () => new WebAssembly.Global({ value: 'i32', mutable: true }, 0),
    tag: () => undefined
  }
  for (const { module, name, kind } of WebAssembly.Module.imports(new WebAssembly.Module(bytes))) {
    imports[module] ??= {}
    imports[module][name] = makers[kind]()
  }
  return imports
}

/**
 * `file`: the modules; `place`: where the number of the one at hand is written; `from`: the first
 * one to check.
 */
async function main(file, place, from) {
  const where = fs.openSync(place, 'w')
  const totals = {}
  const failures = []
  let index = -1
  for (const bytes of modulesIn(file)) {
    index += 1
    if (index < Number(from)) continue
    fs.writeSync(where, String(index).padStart(10), 0)
    try {
      for (const [name, value] of Object.entries(await checkModule(bytes)))
        totals[name] = (totals[name] ?? 0) + value
    } catch (error) {
      failures.push({ index, message: error.message })
    }
    // Each instance takes gigabytes of address space until it is collected.
    if (index % COLLECT_EVERY === 0) globalThis.gc?.()
  }
  process.stdout.write(`\n${JSON.stringify({ totals, failures })}\n`)
}

if (require.main === module) main(...process.argv.slice(2))

module.exports = { modulesIn }
