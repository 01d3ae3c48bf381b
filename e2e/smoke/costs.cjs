'use strict'
// What calls cost here, in microseconds: node costs.cjs PACKAGE. For each thing that a kernel may
// lack, the call that uses it. The best of several rounds, since other processes only add.
const { Ground, KiB, MiB, fs, numbers } = require('./support.cjs')

/** The best of so many rounds: microseconds for each of `count` calls. */
function best(rounds, count, call) {
  let least = Infinity
  for (let round = 0; round < rounds; round++) {
    const start = process.hrtime.bigint()
    for (let at = 0; at < count; at++) call(at)
    least = Math.min(least, Number(process.hrtime.bigint() - start) / 1e3 / count)
  }
  return least
}

const calls = {
  /** Which pages were written: by PAGEMAP_SCAN, or by the page map's text of numbers. */
  PAGEMAP_SCAN: g => {
    const { guarded, exports } = g.memory({ initial: 256 })
    new Uint8Array(guarded.buffer).fill(7)
    const snapshot = guarded.snapshot()
    guarded.restore(snapshot)
    return best(15, 10, () => {
      for (let page = 0; page < 10; page++) exports.store8(page * MiB, 1)
      guarded.restore(snapshot)
    })
  },
  /** Which mapping an address is in: a stray write, beside 300 memories. */
  PROCMAP_QUERY: g => {
    const region = g.hostmap.HostRegion.allocate(256 * g.pageBytes)
    const kept = []
    for (let count = 0; count < 300; count++) {
      const { guarded } = g.memory()
      kept.push({ guarded, mapping: guarded.map(region) })
    }
    let at = 0
    return best(12, 20, () => {
      const { guarded, mapping } = kept[at++]
      new Uint8Array(guarded.buffer)[mapping.address] = 1
    })
  },
  /** A restore of 32 MiB that were read: it goes with how many pages, huge or small, there are. */
  MADV_COLLAPSE: g => {
    const { guarded, exports } = g.memory({ initial: 512 })
    new Uint8Array(guarded.buffer).fill(7)
    const snapshot = guarded.snapshot()
    guarded.restore(snapshot)
    let least = Infinity
    for (let round = 0; round < 15; round++) {
      for (let at = 0; at < 32 * MiB; at += g.pageBytes) exports.load8(at)
      least = Math.min(
        least,
        best(1, 1, () => guarded.restore(snapshot))
      )
    }
    return least
  },
  /** The first access after `populate`. */
  MADV_POPULATE: g => {
    const region = g.hostmap.HostRegion.copyFrom(numbers(4 * MiB))
    const { guarded, exports } = g.memory()
    let least = Infinity
    for (let round = 0; round < 15; round++) {
      const mapping = guarded.map(region, { populate: true })
      const start = process.hrtime.bigint()
      for (let at = 0; at < 4 * MiB; at += g.pageBytes) exports.load8(mapping.address + at)
      least = Math.min(least, Number(process.hrtime.bigint() - start) / 1e3)
      mapping.unmap()
    }
    return least
  },
  /** A slide over a file, with what it shows read. */
  MREMAP_DONTUNMAP: g => {
    const region = g.hostmap.HostRegion.open(g.file('slide', numbers(8 * MiB)))
    const { guarded, exports } = g.memory()
    const window = guarded.window({ byteLength: MiB })
    return best(15, 16, at => {
      const { address } = window.slide(region, (at % 8) * MiB)
      for (let part = 0; part < MiB; part += 64 * KiB) exports.load8(address + part)
    })
  },
  /** Until a wait that was cancelled is over. */
  futex_waitv: async g => {
    const region = g.hostmap.HostRegion.allocate(64 * KiB)
    let least = Infinity
    for (let round = 0; round < 15; round++) {
      const controller = new AbortController()
      const waited = region.wait(8, 0, { signal: controller.signal }).catch(error => error.name)
      await new Promise(resolve => setTimeout(resolve, 20))
      const start = process.hrtime.bigint()
      controller.abort()
      await waited
      least = Math.min(least, Number(process.hrtime.bigint() - start) / 1e3)
    }
    return least
  },
  /** Mapping and unmapping, memory and a file. */
  MAP_FIXED: g => {
    const region = g.hostmap.HostRegion.copyFrom(numbers(MiB))
    const { guarded } = g.memory({ initial: 64 })
    return best(15, 30, () => guarded.map(region, { at: MiB }).unmap())
  }
}

async function main(directory) {
  process.on('warning', () => {})
  const g = new Ground(require(directory), directory)
  const microseconds = {}
  for (const [name, call] of Object.entries(calls)) {
    microseconds[name] = Math.round((await call(g)) * 10) / 10
    g.clean()
    globalThis.gc?.()
  }
  fs.writeSync(1, `${JSON.stringify(microseconds)}\n`)
  process.exit(0)
}

main(process.argv[2])
