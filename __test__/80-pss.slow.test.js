'use strict'

// A region is in physical memory once, however many memories map it.

const { inChild } = require('./support/child')
const { GiB } = require('./support/wasm')

// The proportional set size: what the process really takes. A page that a thousand memories show
// counts once.
test('a thousand memories map the same gigabyte, and it is in memory once', async () => {
  const { pss, wrong, checked } = await inChild(
    async ({ hostmap, probe, smapsRollup, GiB, MiB }) => {
      const { GuardedMemory, HostRegion } = hostmap
      const MARK = 0x0123456789abcdefn

      // Every word of it is written, so that every page is there.
      const region = HostRegion.allocate(GiB, { name: 'one gigabyte' })
      const writer = new GuardedMemory({ initial: GiB / 65_536, maximum: GiB / 65_536 })
      const mapping = writer.map(region, { at: 0, access: 'shared' })
      ;(await probe(writer.memory)).mark(0, GiB, 8, MARK)
      mapping.unmap()
      region.seal()

      const words = BigInt(GiB / 8)
      const sum = BigInt.asIntN(64, words * MARK + (words * (words - 1n)) / 2n)
      let checked = 0
      let wrong = 0
      const held = []
      for (let i = 0; i < 1000; i++) {
        const guarded = new GuardedMemory({ initial: 1, maximum: 65_536 })
        const guest = await probe(guarded.memory)
        const { address } = guarded.map(region)
        // The first reads all of it; the others read a word in each of 16 parts, and both ends.
        if (i === 0 && guest.sum(address, address + GiB) !== sum) wrong++
        for (let part = 0; part < 16; part++) {
          const offset = part * 64 * MiB + (i % 8192) * 4096
          if (guest.load64(address + offset) !== MARK + BigInt(offset / 8)) wrong++
          checked++
        }
        if (guest.load64(address) !== MARK || guest.load64(address + GiB - 8) !== MARK + words - 1n)
          wrong++
        held.push(guarded)
      }
      return { pss: smapsRollup('Pss'), wrong, checked, held: held.length }
    }
  )
  expect({ wrong, checked }).toEqual({ wrong: 0, checked: 16_000 })
  // All of the region is resident, once.
  expect(pss).toBeGreaterThan(GiB)
  expect(pss).toBeLessThan(1.3 * GiB)
})

test('a memory, its snapshot and five more that show it are in memory once', async () => {
  const seen = await inChild(async ({ hostmap, smapsRollup, MiB }) => {
    const { GuardedMemory } = hostmap
    const BYTES = 256 * MiB
    const make = () => new GuardedMemory({ initial: BYTES / 65_536, maximum: BYTES / 65_536 })
    const first = make()
    const words = new Uint32Array(first.buffer)
    for (let i = 0; i < words.length; i++) words[i] = i + 1
    let wrong = 0
    const read = guarded => {
      const seen = new Uint32Array(guarded.buffer)
      for (let i = 0; i < seen.length; i += 256) if (seen[i] !== i + 1) wrong++
    }
    const own = smapsRollup('Pss')
    first.snapshot({ sharePages: false }).close()
    const kept = smapsRollup('Pss')
    const snapshot = first.snapshot()
    // What a memfd holds and nobody maps counts for no process.
    const given = smapsRollup('Pss')
    read(first)
    const one = smapsRollup('Pss')
    for (let i = 0; i < 5; i++) {
      const other = make()
      other.restore(snapshot)
      read(other)
    }
    return { own, kept, given, one, six: smapsRollup('Pss'), wrong, left: snapshot.residentBytes }
  })
  const MiB = 1 << 20
  expect(seen.wrong).toBe(0)
  expect(seen.own).toBeGreaterThan(256 * MiB)
  expect(seen.kept).toBeGreaterThan(seen.own - 16 * MiB)
  expect(seen.given).toBeLessThan(seen.own - 240 * MiB)
  // Page tables, and what huge pages round up.
  expect(seen.one).toBeLessThan(seen.own + 16 * MiB)
  expect(seen.six).toBeLessThan(seen.own + 24 * MiB)
})
