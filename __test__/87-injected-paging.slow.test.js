'use strict'

// Each system call behind the calls of a paged region fails once, in a build that can be told to:
// an error with a code or a whole result, nothing is left, and the next try works.

const { build, hasCargo, inChild } = require('./support/injected')
const { skipUnless } = require('./support/skip')

skipUnless('needs Cargo', hasCargo).describe('when a system call fails', () => {
  beforeAll(() => void build(), 600_000)

  test('a paged region is made or not, and shows its bytes or says why not', () => {
    const { outcomes, wrong, left, went } = inChild(async () => {
      /* global hostmap, fs, native, mapped, EIO, ENOMEM */
      const { buffer } = require('node:stream/consumers')
      require('node:v8').setFlagsFromString('--expose-gc')
      const gc = require('node:vm').runInNewContext('gc')
      const { GuardedMemory, HostRegion } = hostmap
      const CHUNK = 65_536
      const byteLength = 4 * CHUNK + 5
      const source = `export default () => ({
        byteLength: ${byteLength},
        read: (at, target) => target.fill(at / ${CHUNK} + 1).length
      })`
      const provider = { module: `data:text/javascript,${encodeURIComponent(source)}` }
      const make = userfaultfd =>
        HostRegion.paged({ provider, chunkBytes: CHUNK, readAheadBytes: 0, userfaultfd })
      // What was not failed shows these.
      const isRight = (bytes, byteOffset) =>
        bytes.every((byte, index) => byte === Math.floor((byteOffset + index) / CHUNK) + 1)
      const guarded = new GuardedMemory({ initial: 1, maximum: 20 })
      /** Of regions and their sockets: workers have descriptors of Node's. */
      const files = () =>
        fs.readdirSync('/proc/self/fd').filter(fd => {
          try {
            return /^(?:\/memfd|socket):/.test(fs.readlinkSync(`/proc/self/fd/${fd}`))
          } catch {
            return false
          }
        }).length
      // What an unmapping that has failed leaves as it was.
      const mappings = new Set()
      const CALLS = [
        'memfd_create',
        'ftruncate',
        'fcntl',
        'fstat',
        'socketpair',
        'userfaultfd',
        'uffdio_register',
        'mmap',
        'mprotect',
        'madvise',
        'open',
        'dlsym',
        'lseek_checked'
      ]
      // Each with a region that is whole, and gives the bytes that it has seen and where they are.
      const steps = {
        view: async region => [new Uint8Array(region.view(CHUNK, CHUNK)), CHUNK],
        map: async region => {
          const part = { byteOffset: 2 * CHUNK, byteLength: CHUNK }
          const mapping = guarded.map(region, part)
          mappings.add(mapping)
          const bytes = new Uint8Array(guarded.buffer, mapping.pointer, CHUNK).slice()
          const { faults } = mapping
          mapping.unmap()
          mappings.delete(mapping)
          return [bytes, 2 * CHUNK, faults]
        },
        ensure: async region => {
          const hold = await region.paging.ensure({ byteOffset: 3 * CHUNK, byteLength: 10 })
          hold.release()
          return [new Uint8Array(region.view(3 * CHUNK, 10)), 3 * CHUNK]
        },
        stream: async region => [await buffer(region.createReadStream({ byteLength: CHUNK })), 0],
        blob: async region => [new Uint8Array(await region.blob().slice(0, 99).arrayBuffer()), 0]
      }
      const outcomes = []
      const wrong = []
      const went = new Set()
      const settled = async before => {
        for (let round = 0; round < 500 && files() > before.files; round++) {
          gc()
          await new Promise(resolve => setTimeout(resolve, 20))
        }
        return { files: files() - before.files, mapped: mapped() - before.mapped }
      }
      const each = async (kind, call, attempt) => {
        for (let at = 0; at < 100; at++) {
          native.injectFailure(call, at, call === 'mmap' ? ENOMEM : EIO)
          try {
            await attempt()
          } catch (error) {
            outcomes.push({ kind, call, at, code: error.code, message: error.message })
          }
          const isOver = native.forgetFailures()
          for (const mapping of mappings) mapping.unmap()
          mappings.clear()
          if (isOver) break
          went.add(`${kind} ${call}`)
        }
      }
      const left = []
      for (const userfaultfd of [undefined, false]) {
        const whole = await make(userfaultfd)
        new Uint8Array(whole.view())[0]
        const before = { files: files(), mapped: mapped() }
        for (const call of CALLS) {
          await each('make', call, async () => {
            const region = await make(userfaultfd)
            // Zeros that are counted are what a touch that fails gives.
            const bytes = new Uint8Array(region.view(0, 100)).slice()
            if (!isRight(bytes, 0) && region.faults === 0) wrong.push(`make ${call}`)
            region.close()
          })
        }
        left.push(await settled(before))
        for (const [step, run] of Object.entries(steps)) {
          for (const call of CALLS) {
            const region = await make(userfaultfd)
            let counted = 0
            await each(step, call, async () => {
              const [bytes, byteOffset, inMapping = 0] = await run(region)
              const isSeen = isRight(bytes, byteOffset)
              counted += inMapping
              // Zeros that were counted once may stay in a view.
              if (!isSeen && region.faults + counted === 0) wrong.push(`${step} ${call}`)
            })
            region.close()
            // That one may have lost its provider. The next one has not.
            const next = await make(userfaultfd)
            const [bytes, byteOffset] = await run(next)
            if (!isRight(bytes, byteOffset)) wrong.push(`${step} after ${call}`)
            next.close()
          }
        }
        left.push(await settled(before))
        whole.close()
      }
      return { outcomes, wrong, left, went: [...went] }
    })
    expect(wrong).toEqual([])
    for (const { files, mapped } of left) {
      expect(files).toBeLessThanOrEqual(0)
      expect(mapped).toBeLessThanOrEqual(0)
    }
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ code: expect.stringMatching(/^ERR_HOSTMAP_/) })
      expect(outcome.code).not.toBe('ERR_HOSTMAP_INTERNAL')
    }
    const kinds = new Set(outcomes.map(({ kind, call }) => `${kind} ${call}`))
    for (const call of ['memfd_create', 'ftruncate', 'fcntl', 'socketpair', 'mmap']) {
      expect(kinds).toContain(`make ${call}`)
    }
    for (const kind of ['view mmap', 'map mmap']) expect(went).toContain(kind)
  })
})
