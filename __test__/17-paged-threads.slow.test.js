'use strict'

// Threads of libuv's pool that touch paged regions, while the provider needs the pool.

const { inChild } = require('./support/child')
const { CHUNK } = require('./support/paged')

describe.each([
  ['with what the kernel has', undefined],
  ['without userfaultfd', false]
])('%s', (_, userfaultfd) => {
  // As many as the pool has threads, each over a chunk that is missing.
  const pack = async (needs, threads, more) =>
    inChild(
      async ({ hostmap: { HostRegion }, require, args: { options, threads, isEnsured } }) => {
        const { promisify } = require('node:util')
        const zlib = require('node:zlib')
        const region = await HostRegion.paged(options)
        if (isEnsured) await region.paging.ensure()
        const parts = Array.from(
          { length: threads },
          (_, index) => new Uint8Array(region.view(index * 65_536, 65_536))
        )
        const packed = await Promise.all(parts.map(part => promisify(zlib.deflate)(part)))
        const isRight = packed.every(each => zlib.inflateSync(each).every(byte => byte === 7))
        const { failedTouches, lastError } = region.paging.stats()
        const hold = await region.paging.ensure()
        const isRightLater = new Uint8Array(region.bytes()).every(byte => byte === 7)
        hold.release()
        return { isRight, failed: failedTouches > 0, lastError, isRightLater }
      },
      {
        args: {
          options: {
            provider: {
              module: require.resolve('./support/pool-provider'),
              data: { byteLength: threads * CHUNK, needs }
            },
            chunkBytes: CHUNK,
            userfaultfd,
            timeoutMs: 600_000,
            readAheadBytes: 0,
            ...more.options
          },
          threads,
          isEnsured: more.isEnsured
        },
        env: { UV_THREADPOOL_SIZE: String(threads) }
      }
    )

  test.each([
    ['fs', 1],
    ['fs', 4],
    ['dns', 2],
    // Nothing tells that it waits for the pool, but that it does not answer in time.
    ['zlib', 3, { timeoutMs: 3000 }]
  ])('a pool that waits for a provider that needs it (%s): %i touches fail', async (...args) => {
    const [needs, threads, options] = args
    const found = await pack(needs, threads, { options })
    expect(found).toMatchObject({ isRight: false, failed: true })
    if (needs !== 'zlib') expect(found.isRightLater).toBe(true)
    expect(found.lastError).toMatch(/libuv's pool wait for chunks|not answered within/)
    expect(await pack(needs, threads, { options, isEnsured: true })).toMatchObject({
      isRight: true,
      failed: false
    })
  })

  test('a pool that waits for a slow provider that does not need it gets its bytes', async () => {
    const found = await pack('time', 2, {})
    expect(found).toEqual({ isRight: true, failed: false, lastError: null, isRightLater: true })
  })
})
