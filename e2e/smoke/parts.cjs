'use strict'
// Runs parts in this process: node parts.cjs PACKAGE NAME... Prints a line of JSON when a part
// begins, and one when it ends, so that who reads them knows which part ended the process.
const { Ground } = require('./support.cjs')

const all = Object.assign(
  {},
  ...['regions', 'mappings', 'windows', 'snapshots', 'faults', 'paging', 'processes'].map(room =>
    require(`./parts/${room}.cjs`)
  )
)

/** What parts may need, and why it is not there. */
const needs = {
  guard: g => (g.hasGuard ? null : `no fault guard: ${g.limits.faultGuard.reason}`),
  traps: g => (g.traps ? null : `no traps: ${g.limits.faultGuard.reason}`),
  paging: () => (process.versions.bun ? 'Bun reads no socket by its descriptor' : null),
  memory64: g => (g.limits.wasm.maxPages64 > 0 ? null : 'no 64-bit memories')
}

const plain = value =>
  JSON.stringify(value ?? null, (key, inner) => (typeof inner === 'bigint' ? `${inner}n` : inner))

async function main([directory, ...names]) {
  const say = line => process.stdout.write(`@@${plain(line)}\n`)
  // Stray writes are what is tried; their warnings are not news.
  process.on('warning', () => {})
  const loadStart = process.hrtime.bigint()
  const hostmap = require(directory)
  const g = new Ground(hostmap, directory)
  say({ loadMilliseconds: Number(process.hrtime.bigint() - loadStart) / 1e6, limits: g.limits })
  for (const name of names) {
    say({ begin: name })
    const start = process.hrtime.bigint()
    const part = typeof all[name] === 'function' ? { run: all[name] } : all[name]
    const milliseconds = () => Math.round(Number(process.hrtime.bigint() - start) / 1e6)
    const why = (part.needs ?? []).map(need => needs[need](g)).find(Boolean)
    if (why) {
      say({ end: name, outcome: 'left out', note: why, milliseconds: 0 })
      continue
    }
    try {
      const note = await part.run(g)
      say({ end: name, outcome: 'passed', note, milliseconds: milliseconds() })
    } catch (error) {
      const note = `${error?.code ?? ''} ${error?.stack ?? error}`.trim()
      say({ end: name, outcome: 'FAILED', note, milliseconds: milliseconds() })
    }
    g.clean()
    globalThis.gc?.()
  }
  process.exit(0)
}

module.exports = { names: Object.keys(all) }
if (require.main === module) main(process.argv.slice(2))
