'use strict'

// HostRegion.load: copies inside the kernel, on another thread; what aborts them, and files that
// get shorter meanwhile.

const fs = require('node:fs')
const { getEventListeners } = require('node:events')
const { pathToFileURL } = require('node:url')
const { setImmediate: nextTurn } = require('node:timers/promises')
const { HostRegion } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { temporaryDirectory, noise } = require('./support/files')
const { fdOf, countOpen, mappingsNamed } = require('./support/procfs')
const { inChild } = require('./support/child')
const { MiB, GiB } = require('./support/wasm')

const directory = temporaryDirectory()
const bytesOf = (region, ...range) => Buffer.from(region.view(...range))

const made = []
const keep = region => (made.push(region), region)
afterEach(() => made.splice(0).forEach(region => region.close()))

/** Neither the file nor a memfd of this name is open or mapped any more. */
function expectNothingLeft(name) {
  expect(countOpen(name)).toBe(0)
  expect(mappingsNamed(name)).toEqual([])
}

describe('HostRegion.load', () => {
  test('copies a file into a memfd that bears its name', async () => {
    const path = directory.file(noise(3 * MiB + 17), 'ticks.bin')
    const region = keep(await HostRegion.load(path))
    expect(region).toMatchObject({
      byteLength: 3 * MiB + 17,
      backing: 'memfd',
      name: 'ticks.bin',
      closed: false
    })
    expect(bytesOf(region).equals(noise(3 * MiB + 17))).toBe(true)
    // Of the file itself, nothing is held.
    expect(countOpen(path)).toBe(0)
  })

  test('takes a file URL and a name', async () => {
    const path = directory.file(Buffer.from('abc'), 'Ünïcode %41.bin')
    const region = keep(await HostRegion.load(pathToFileURL(path), { name: 'letters' }))
    expect(region.name).toBe('letters')
    expect(bytesOf(region).toString()).toBe('abc')
  })

  test.each([
    [1, undefined],
    [4095, 2],
    [100_000, 50_000],
    [0, 1],
    [199_999, 1]
  ])('copies any part: from %i, %s bytes', async (byteOffset, byteLength) => {
    const bytes = noise(200_000)
    const region = keep(
      await HostRegion.load(directory.file(bytes, 'part.bin'), { byteOffset, byteLength })
    )
    const end = byteLength === undefined ? bytes.length : byteOffset + byteLength
    expect(bytesOf(region).equals(bytes.subarray(byteOffset, end))).toBe(true)
  })

  test('is a copy: later changes of the file do not show', async () => {
    const path = directory.file(Buffer.from('before'))
    const region = keep(await HostRegion.load(path))
    fs.writeFileSync(path, 'later!')
    fs.truncateSync(path, 0)
    expect(bytesOf(region).toString()).toBe('before')
  })

  test('leaves holes of a sparse file as holes', async () => {
    const path = directory.sparse(10 * GiB, {
      [3 * GiB + 5]: Buffer.from('island'),
      [10 * GiB - 3]: Buffer.from('end')
    })
    const region = keep(await HostRegion.load(path))
    expect(region.byteLength).toBe(10 * GiB)
    expect(bytesOf(region, 3 * GiB + 5, 6).toString()).toBe('island')
    expect(bytesOf(region, 10 * GiB - 3).toString()).toBe('end')
    expect(bytesOf(region, 5 * GiB, 100).equals(Buffer.alloc(100))).toBe(true)
    expect(fs.fstatSync(fdOf(region)).blocks * 512).toBeLessThan(5 * MiB)
  })

  test('takes a file that is one hole', async () => {
    const region = keep(await HostRegion.load(directory.sparse(GiB)))
    expect(region.byteLength).toBe(GiB)
    expect(bytesOf(region, GiB - 1)).toEqual(Buffer.alloc(1))
  })

  test('tells its progress, and at the end that all is done', async () => {
    const calls = []
    const path = directory.file(noise(8 * MiB))
    const region = keep(
      await HostRegion.load(path, { byteOffset: 1, onProgress: (...call) => calls.push(call) })
    )
    expect(calls.at(-1)).toEqual([region.byteLength, region.byteLength])
    for (const [index, [loadedBytes, totalBytes]] of calls.entries()) {
      expect(totalBytes).toBe(8 * MiB - 1)
      expect(loadedBytes).toBeGreaterThanOrEqual(index === 0 ? 0 : calls[index - 1][0])
    }
  })

  test('runs beside other loads', async () => {
    const paths = Array.from({ length: 16 }, (_, i) => directory.file(noise(MiB, i + 1)))
    const regions = await Promise.all(paths.map(path => HostRegion.load(path)))
    regions.forEach((region, i) =>
      expect(bytesOf(keep(region)).equals(noise(MiB, i + 1))).toBe(true)
    )
  })

  test('leaves the main thread free', async () => {
    const path = directory.file(noise(64 * MiB))
    let turns = 0
    let done = false
    const loading = HostRegion.load(path).finally(() => (done = true))
    // The copy can't end before the loop turned once: its promise is settled by a turn.
    while (!done) {
      await nextTurn()
      turns++
    }
    expect(turns).toBeGreaterThan(0)
    expect(
      bytesOf(keep(await loading), 64 * MiB - 100).equals(noise(64 * MiB).subarray(-100))
    ).toBe(true)
  })
})

describe('an AbortSignal', () => {
  test('that is aborted already rejects the load, with nothing done', async () => {
    const path = directory.file(noise(MiB))
    const error = await thrownBy(() =>
      HostRegion.load(path, { signal: AbortSignal.abort(), name: 'aborted before' })
    )
    expectError(error, { code: 'ABORT_ERR' })
    expectNothingLeft('aborted before')
    expectNothingLeft(path)
  })

  test('that is aborted right after the call rejects it, whatever the reason given', async () => {
    const path = directory.file(noise(64 * MiB))
    for (const reason of [undefined, new Error('mine'), 'text', null]) {
      const controller = new AbortController()
      const loading = HostRegion.load(path, { signal: controller.signal, name: 'aborted after' })
      controller.abort(reason)
      expectError(await thrownBy(() => loading), { code: 'ABORT_ERR' })
      expectNothingLeft('aborted after')
      expectNothingLeft(path)
    }
  })

  test('that is aborted some turns later leaves either the whole region or nothing', async () => {
    const bytes = noise(32 * MiB)
    const path = directory.file(bytes)
    for (let turns = 0; turns < 20; turns++) {
      const controller = new AbortController()
      const loading = HostRegion.load(path, { signal: controller.signal, name: 'aborted midway' })
      // Its outcome is looked at below.
      loading.catch(() => {})
      for (let i = 0; i < turns; i++) await nextTurn()
      controller.abort()
      let region
      try {
        region = await loading
      } catch (error) {
        expectError(error, { code: 'ABORT_ERR' })
      }
      if (region) {
        expect(bytesOf(region).equals(bytes)).toBe(true)
        region.close()
      }
      expectNothingLeft('aborted midway')
      expectNothingLeft(path)
    }
  })

  // One thread in libuv's pool, and a load that keeps it busy: the others wait in the queue when
  // they are aborted.
  test('reaches loads that have not begun', async () => {
    const path = directory.file(noise(64 * MiB))
    const codes = await inChild(
      async ({ hostmap, failure, countOpen, args: path }) => {
        const first = hostmap.HostRegion.load(path)
        const controller = new AbortController()
        const queued = Array.from({ length: 8 }, () =>
          failure(() =>
            hostmap.HostRegion.load(path, { signal: controller.signal, name: 'queued' })
          )
        )
        controller.abort()
        const failures = await Promise.all(queued)
        const region = await first
        return {
          codes: failures.map(({ code }) => code),
          left: countOpen('queued'),
          byteLength: region.byteLength
        }
      },
      { args: path, env: { UV_THREADPOOL_SIZE: '1' } }
    )
    expect(codes).toEqual({ codes: Array(8).fill('ABORT_ERR'), left: 0, byteLength: 64 * MiB })
  })

  test('a signal that throws is told of, and nothing goes on', async () => {
    const file = directory.file(noise(1000))
    const mine = new Error('mine')
    const signalThatThrows = name => ({
      aborted: false,
      addEventListener() {},
      removeEventListener() {},
      [name]() {
        throw mine
      }
    })
    for (const name of ['addEventListener', 'removeEventListener']) {
      const open = countOpen('that throws')
      const options = { name: 'that throws', signal: signalThatThrows(name), onProgress() {} }
      expect(await thrownBy(() => HostRegion.load(file, options))).toBe(mine)
      expect(countOpen('that throws')).toBe(open)
    }
  })

  test('keeps its other listeners, and none of the library once the load is done', async () => {
    const path = directory.file(noise(1000))
    const { signal } = new AbortController()
    const mine = () => {}
    signal.onabort = mine
    keep(await HostRegion.load(path, { signal }))
    expect(signal.onabort).toBe(mine)
    signal.onabort = null
    await thrownBy(() => HostRegion.load(directory.file(), { signal }))
    expect(getEventListeners(signal, 'abort')).toHaveLength(0)
  })

  test('changes nothing when it comes too late', async () => {
    const controller = new AbortController()
    const region = keep(
      await HostRegion.load(directory.file(noise(1000)), { signal: controller.signal })
    )
    controller.abort()
    await nextTurn()
    expect(region.closed).toBe(false)
    expect(bytesOf(region).equals(noise(1000))).toBe(true)
  })
})

describe('a file that gets shorter while it is loaded', () => {
  test('gives the whole of it, or an error and nothing', async () => {
    const bytes = noise(64 * MiB)
    for (let turns = 0; turns < 8; turns++) {
      const path = directory.file(bytes, 'shrinking.bin')
      const loading = HostRegion.load(path)
      loading.catch(() => {})
      for (let i = 0; i < turns; i++) await nextTurn()
      fs.truncateSync(path, MiB)
      let region
      try {
        region = await loading
      } catch (error) {
        expectError(error, { code: 'ERR_HOSTMAP_FILE_SHRUNK', says: 'shrinking.bin' })
      }
      if (region) {
        // Not begun yet when the file was cut, or done by then.
        expect([MiB, 64 * MiB]).toContain(region.byteLength)
        expect(bytesOf(region).equals(bytes.subarray(0, region.byteLength))).toBe(true)
        region.close()
      }
      expectNothingLeft('shrinking.bin')
    }
  })
})

test('a region that is dropped unawaited closes itself', async () => {
  const path = directory.file(noise(MiB))
  const left = await inChild(
    async ({ hostmap, collect, countOpen, args: path }) => {
      await (async () =>
        void (await Promise.all(
          [1, 2, 3].map(() => hostmap.HostRegion.load(path, { name: 'dropped' }))
        )))()
      const before = countOpen('/memfd:dropped')
      await collect(8)
      return { before, after: countOpen('/memfd:dropped') }
    },
    { args: path, flags: ['--expose-gc'] }
  )
  expect(left).toEqual({ before: 3, after: 0 })
})
