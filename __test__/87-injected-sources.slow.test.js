'use strict'

// Each system call behind HostRegion.from, region.write and the streams fails once, in a build that
// can be told to: an error with a code, nothing is left, and the next try works.

const { build, hasCargo, inChild } = require('./support/injected')
const { skipUnless } = require('./support/skip')

skipUnless('needs Cargo', hasCargo).describe('when a system call fails', () => {
  beforeAll(() => void build(), 600_000)

  test('while a region is filled, no region is left and the source is let go', () => {
    const { outcomes, left, sizes } = inChild(async () => {
      /* global hostmap, files, fs, native, EIO, ENOMEM */
      const { HostRegion } = hostmap
      const outcomes = []
      const sizes = []
      const parts = [Buffer.alloc(3 * 2 ** 20, 1), Buffer.alloc(100, 2)]
      let returned = 0
      const source = () => ({
        [Symbol.asyncIterator]() {
          const iterator = parts[Symbol.iterator]()
          return { next: async () => iterator.next(), return: async () => (returned++, {}) }
        }
      })
      const optionsOf = {
        grown: {},
        known: { byteLength: parts[0].length + 100 },
        huge: { hugePages: true }
      }
      ;(await HostRegion.from(source())).close()
      const before = files()
      for (const [kind, options] of Object.entries(optionsOf)) {
        for (const call of [
          'memfd_create',
          'ftruncate',
          'fstat',
          'fcntl',
          'pwrite',
          'lseek_checked'
        ]) {
          for (let at = 0; ; at++) {
            returned = 0
            native.injectFailure(call, at, call === 'pwrite' ? ENOMEM : EIO)
            const outcome = { kind, call, code: null }
            try {
              const region = await HostRegion.from(source(), options)
              sizes.push(region.byteLength)
              region.close()
            } catch ({ code, errno }) {
              Object.assign(outcome, { code, errno, returned })
            }
            if (native.forgetFailures()) break
            outcomes.push(outcome)
          }
        }
      }
      return { outcomes, sizes, left: files() - before }
    })
    expect(left).toBe(0)
    expect(new Set(sizes)).toEqual(new Set([3 * 2 ** 20 + 100]))
    const failed = outcomes.filter(({ code }) => code !== null)
    const kinds = new Set(failed.map(({ kind, call }) => `${kind} ${call}`))
    for (const kind of ['grown', 'known', 'huge'])
      for (const call of ['memfd_create', 'fstat', 'fcntl', 'pwrite', 'lseek_checked'])
        expect(kinds).toContain(`${kind} ${call}`)
    for (const kind of ['known', 'huge']) expect(kinds).toContain(`${kind} ftruncate`)
    for (const { code, errno } of failed) {
      expect(code).toMatch(/^ERR_HOSTMAP_/)
      expect(code).not.toBe('ERR_HOSTMAP_INTERNAL')
      expect([-5, -12, -9]).toContain(errno)
    }
    // At the end the source is over by itself; before, it was told.
    expect(failed.some(({ returned }) => returned === 1)).toBe(true)
    expect(failed.every(({ returned }) => returned <= 1)).toBe(true)
  })

  test('a write or a stream fails with a code, and the next one works', () => {
    const { outcomes, left, bytes } = inChild(async () => {
      const { HostRegion } = hostmap
      const os = require('node:os')
      const path = require('node:path')
      const file = path.join(os.tmpdir(), `hostmap-injected-${process.pid}`)
      fs.writeFileSync(file, Buffer.alloc(8192))
      const outcomes = []
      const bytes = []
      try {
        for (const region of [
          HostRegion.allocate(8192),
          HostRegion.open(file, { writable: true })
        ]) {
          const ways = {
            write: async () => region.write(Buffer.from('abc'), 5000),
            stream: () =>
              new Promise((resolve, reject) => {
                const stream = region.createWriteStream({ byteOffset: 5000 })
                stream.on('error', reject).on('finish', resolve).end('abc')
              }),
            read: () => region.createReadStream({ byteLength: 10 }).toArray()
          }
          for (const [way, call] of Object.entries(ways)) {
            const before = files()
            await call()
            for (const name of ['fcntl', 'fstat', 'pwrite', 'open', 'lseek_checked']) {
              for (let at = 0; ; at++) {
                native.injectFailure(name, at, EIO)
                let code = null
                try {
                  await call()
                } catch (error) {
                  code = error.code ?? String(error)
                }
                if (native.forgetFailures()) break
                outcomes.push({ way, name, code })
              }
            }
            // Descriptors are closed on another thread.
            for (let turns = 0; files() !== before && turns < 10_000; turns++)
              await new Promise(resolve => setImmediate(resolve))
            outcomes.push({ way, name: 'left', code: files() === before ? null : 'left' })
          }
          bytes.push(Buffer.from(region.view(5000, 3)).toString())
          region.close()
        }
      } finally {
        fs.rmSync(file)
      }
      return { outcomes, bytes, left: outcomes.filter(({ code }) => code === 'left') }
    })
    expect(left).toEqual([])
    expect(bytes).toEqual(['abc', 'abc'])
    const failed = outcomes.filter(({ code }) => code !== null)
    for (const way of ['write', 'stream'])
      expect(failed).toContainEqual({ way, name: 'pwrite', code: 'ERR_HOSTMAP_WRITE_FAILED' })
    expect(failed.some(({ way }) => way === 'read')).toBe(true)
    for (const { code } of failed) {
      expect(code).toMatch(/^ERR_HOSTMAP_/)
      expect(code).not.toBe('ERR_HOSTMAP_INTERNAL')
    }
  })
})
