'use strict'

// Buffers that are adopted, in numbers: random lengths and places, memories and failures.

const { inChild } = require('./support/child')
const { build, hasCargo, inChild: inInjected } = require('./support/injected')
const { skipUnless } = require('./support/skip')

test('contents are equal in 10,000 random sizes and offsets, there and back', async () => {
  const seen = await inChild(
    async ({ hostmap, require, collect, processMap }) => {
      const { GuardedMemory, limits } = hostmap
      const { pageSize } = limits()
      const { randomFillSync, randomInt } = require('node:crypto')
      /** Anonymous mappings that touch and have the same rights, and were not merged. */
      const pieces = () =>
        processMap().filter(({ start, permissions, inode }, i, all) => {
          const below = all[i - 1]
          if (below?.end !== start || inode !== 0 || below.inode !== 0) return false
          return below.permissions === permissions
        }).length
      const contents = randomFillSync(Buffer.alloc(6 * 2 ** 20))
      const seen = { moved: 0, copied: 0, offsets: new Set(), wrong: 0 }
      let guarded = null
      let kept = []
      const give = ({ adopted, bytes }) => {
        if (!Buffer.from(adopted.release()).equals(bytes)) seen.wrong++
      }
      await collect()
      const before = pieces()
      for (let i = 0; i < 10_000; i++) {
        if (i % 1000 === 0) guarded = new GuardedMemory({ initial: 256, maximum: 4096 })
        // Small, of some pages, and some with page tables of their own.
        const most = [70_000, 400_000, 400_000, 6 * 2 ** 20][i % 40 === 0 ? 3 : i % 3]
        const byteLength = randomInt(1, most)
        const start = randomInt(contents.length - byteLength + 1)
        const bytes = contents.subarray(start, start + byteLength)
        const buffer = new ArrayBuffer(byteLength)
        Buffer.from(buffer).set(bytes)
        const at = i % 4 === 0 ? { at: randomInt(100) * pageSize } : {}
        let adopted
        try {
          adopted = guarded.adopt(buffer, at)
        } catch (error) {
          if (error.code !== 'ERR_HOSTMAP_OVERLAP' && error.code !== 'ERR_OUT_OF_RANGE') throw error
          adopted = guarded.adopt(buffer)
        }
        seen.offsets.add(adopted.address % pageSize)
        if (adopted.whyCopied === null) seen.moved++
        else seen.copied++
        const there = Buffer.from(guarded.buffer, adopted.address, byteLength)
        if (!there.equals(bytes)) seen.wrong++
        kept.push({ adopted, bytes })
        if (kept.length > 8 || i % 1000 === 999) {
          // In another order than they came.
          for (const one of kept.sort((a, b) => a.bytes.length - b.bytes.length)) give(one)
          kept = []
        }
      }
      await collect()
      return { ...seen, offsets: seen.offsets.size, grown: pieces() - before }
    },
    { flags: ['--expose-gc'] }
  )
  expect(seen.wrong).toBe(0)
  expect(seen.moved).toBeGreaterThan(4000)
  expect(seen.copied).toBeGreaterThan(1500)
  expect(seen.offsets).toBeGreaterThan(100)
  // Neither a buffer's old place nor its new one is left in pieces.
  expect(seen.grown).toBeLessThan(50)
}, 300_000)

// Nothing of it can be built without Rust, which a user of a tarball needs not have.
skipUnless('needs Cargo', hasCargo).describe('when a system call fails', () => {
  beforeAll(() => void build(), 600_000)

  test('the buffer is as it was and so is the memory, or all is copied', () => {
    const seen = inInjected(() => {
      /* global hostmap, failing, ENOMEM */
      const { GuardedMemory } = hostmap
      const outcomes = []
      const bytes = Buffer.alloc(300_000, 'adopted')
      const make = () => {
        const buffer = new ArrayBuffer(bytes.length)
        Buffer.from(buffer).set(bytes)
        return buffer
      }
      const has = (buffer, from = 0) => Buffer.from(buffer, from, bytes.length).equals(bytes)
      const guarded = new GuardedMemory({ initial: 64, maximum: 128 })
      guarded.adopt(make(), { at: 0 }).release()
      Buffer.from(guarded.buffer).fill('memory')
      const memory = Buffer.from(Buffer.from(guarded.buffer))
      for (const copy of ['never', 'allow']) {
        for (const call of ['mmap', 'mremap_owned', 'madvise', 'mprotect', 'ioctl']) {
          const buffer = make()
          let adopted
          const { went, code } = failing(call, 0, ENOMEM, () => {
            adopted = guarded.adopt(buffer, { at: 65536, copy })
          })
          const outcome = { call, copy, went, code: code ?? null }
          if (adopted === undefined) {
            outcome.same = has(buffer) && Buffer.from(guarded.buffer).equals(memory)
          } else {
            outcome.why = adopted.whyCopied
            outcome.same = buffer.byteLength === 0 && has(guarded.buffer, adopted.address)
            outcome.same &&= has(adopted.release())
            memory.copy(Buffer.from(guarded.buffer))
          }
          outcomes.push(outcome)
        }
      }
      return outcomes
    })
    for (const { same } of seen) expect(same).toBe(true)
    const of = (call, copy) => seen.find(it => it.call === call && it.copy === copy)
    expect(of('mmap', 'never')).toMatchObject({ went: true, code: 'ERR_HOSTMAP_OUT_OF_MEMORY' })
    expect(of('mremap_owned', 'never')).toMatchObject({
      went: true,
      code: 'ERR_HOSTMAP_OUT_OF_MEMORY'
    })
    expect(of('mremap_owned', 'allow')).toMatchObject({ went: true, why: 'refused' })
    expect(of('mmap', 'allow')).toMatchObject({ went: true, why: 'refused' })
    expect(of('madvise', 'never')).toMatchObject({ went: true, code: null, why: null })
  })

  test('a release that fails leaves the bytes in the memory, and the next one gives them', () => {
    const seen = inInjected(() => {
      const { GuardedMemory } = hostmap
      const bytes = Buffer.alloc(300_000, 'adopted')
      const guarded = new GuardedMemory({ initial: 64, maximum: 128 })
      const outcomes = []
      for (const copy of ['never', 'allow']) {
        for (const call of ['mremap_owned', 'mmap', 'madvise']) {
          const buffer = new ArrayBuffer(bytes.length)
          Buffer.from(buffer).set(bytes)
          const adopted = guarded.adopt(buffer, { copy })
          const { address } = adopted
          let back
          const { went, code } = failing(call, 0, ENOMEM, () => (back = adopted.release()))
          const there = Buffer.from(guarded.buffer, address, bytes.length)
          const kept = back === undefined && there.equals(bytes) && !adopted.unmapped
          const again = back ?? adopted.release()
          const isRight = Buffer.from(again).equals(bytes) && there.every(byte => byte === 0)
          outcomes.push({ call, copy, went, code: code ?? null, kept, isRight })
        }
      }
      return outcomes
    })
    expect(seen.every(({ went, isRight }) => went && isRight)).toBe(true)
    const failed = seen.filter(({ code }) => code !== null)
    expect(failed).toEqual([
      {
        call: 'mremap_owned',
        copy: 'never',
        went: true,
        code: 'ERR_HOSTMAP_OUT_OF_MEMORY',
        kept: true,
        isRight: true
      }
    ])
  })
})
