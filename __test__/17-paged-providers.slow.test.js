'use strict'

// Providers: modules of the caller's that do what they should not, and files of frames. And every
// option, given wrongly.

const { execFileSync, spawn, spawnSync } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const zlib = require('node:zlib')
const { GuardedMemory, HostRegion } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { inChild } = require('./support/child')
const { temporaryDirectory, noise } = require('./support/files')
const {
  CHUNK,
  MODULE,
  bytesFrom,
  closeAll,
  keep,
  optionsOf,
  paged,
  sharedCounts,
  until
} = require('./support/paged')
const { nextWarning } = require('./support/warnings')
const { probe } = require('./support/wasm')

afterEach(closeAll)
const directory = temporaryDirectory()
const expectWarning = async () =>
  expect(await nextWarning()).toMatchObject({ code: 'HOSTMAP_MISSING_PAGE' })
const FAILED = 'ERR_HOSTMAP_PROVIDER_FAILED'
const LENGTH = 'ERR_HOSTMAP_SOURCE_LENGTH'
const VALUE = 'ERR_INVALID_ARG_VALUE'
const TYPE = 'ERR_INVALID_ARG_TYPE'
const RANGE = 'ERR_OUT_OF_RANGE'

const fails = async (call, code, says) => expectError(await thrownBy(call), { code, says })
const ensure = async region => (await region.paging.ensure()).release()

describe('a module that can not be opened', () => {
  test.each([
    ['is not there', { module: '/no/such/module.mjs' }, "can't be loaded"],
    ['does not parse', { module: 'data:text/javascript,export default (' }, "can't be loaded"],
    [
      'throws when it is loaded',
      { module: 'data:text/javascript,throw new Error("broken")' },
      'broken'
    ],
    ['exports nothing', { module: 'data:text/javascript,export const x = 1' }, 'must export'],
    ['throws', { module: MODULE, data: { mode: 'throws-at-open' } }, 'no data today'],
    ['rejects', { module: MODULE, data: { mode: 'rejects-at-open' } }, 'no data today'],
    ['never answers', { module: MODULE, data: { mode: 'never-opens' } }, 'within 500 ms'],
    ['gives nothing', { module: MODULE, data: { mode: 'no-object' } }, 'function read'],
    ['gives no read', { module: MODULE, data: { mode: 'no-read' } }, 'function read'],
    [
      'gives a length that is none',
      { module: MODULE, data: { mode: 'wrong-length' } },
      'whole number'
    ],
    [
      'gives a version that is none',
      { module: MODULE, data: { mode: 'wrong-version' } },
      'a string'
    ],
    ['ends its thread', { module: MODULE, data: { mode: 'exits-at-open' } }, 'has ended']
  ])('since it %s', async (_, provider, says) => {
    const timeoutMs = provider.data?.mode === 'never-opens' ? 500 : undefined
    await fails(() => HostRegion.paged({ provider, timeoutMs }), FAILED, says)
  })

  test('since its data can not be cloned', async () => {
    const provider = { module: MODULE, data: () => {} }
    await fails(() => HostRegion.paged({ provider }), VALUE, 'structuredClone')
  })

  test('since nobody says how long it is, or two do', async () => {
    await fails(() => paged({ silent: true }), VALUE, 'options.byteLength must be given')
    const region = await paged({ silent: true }, { byteLength: 77 })
    expect(Buffer.from(region.view())).toEqual(bytesFrom(0, 77))
    await fails(() => paged({ byteLength: 5 }, { byteLength: 6 }), LENGTH, ['5', '6'])
    expect((await paged({ byteLength: 5 }, { byteLength: 5 })).byteLength).toBe(5)
  })
})

describe('a read that', () => {
  test.each([
    ['throws', 'throws', FAILED, 'the disk is on fire'],
    ['rejects with nothing', 'rejects-nothing', FAILED, 'undefined'],
    ['rejects', 'rejects-late', FAILED, 'the disk is on fire'],
    ['throws what can not be looked at', 'throws-odd', FAILED, 'no text'],
    ['throws an error with one of our codes', 'throws-ours', FAILED, 'the disk is on fire'],
    ['gives too little', 'too-little', LENGTH, '65535 bytes'],
    ['gives too much', 'too-much', LENGTH, '65537 bytes'],
    ['gives nothing', 'nothing', LENGTH, 'undefined'],
    ['gives a text', 'text', LENGTH, 'string'],
    ['gives NaN', 'not-a-number', LENGTH, 'NaN'],
    ['transfers its target', 'transfers', FAILED, 'transfer'],
    ['never answers', 'never', FAILED, 'within 300 ms']
  ])('%s fails its chunk, and the next one is fetched', async (_, mode, code, says) => {
    const timeoutMs = mode === 'never' ? 300 : undefined
    const region = await paged(
      { mode, from: 1, byteLength: 2 * CHUNK },
      { readAheadBytes: 0, timeoutMs }
    )
    const bytes = new Uint8Array(region.view())
    expect(bytes[7]).toBe(bytesFrom(7, 1)[0])
    await fails(() => ensure(region), code, says)
    expect(region.paging.stats().failures).toBe(1)
    expect(bytes[CHUNK]).toBe(0)
    expect(region.faults).toBe(1)
    await expectWarning()
    // Where it never answers, it may be asked again by now.
    const [first, second] = region.paging.chunks()
    expect([first, second === 2]).toEqual([2, false])
    expect(bytes[CHUNK - 1]).toBe(bytesFrom(CHUNK - 1, 1)[0])
  })

  test('never returns is waited for until the touch has waited long enough', async () => {
    const region = await paged({ mode: 'endless' }, { timeoutMs: 300 })
    expect(new Uint8Array(region.view())[3]).toBe(0)
    expect(region.faults).toBe(1)
    await expectWarning()
    const waiting = thrownBy(() => ensure(region))
    const threads = () => fs.readdirSync('/proc/self/task').length
    const before = threads()
    region.close()
    expectError(await waiting, { code: 'ERR_HOSTMAP_PAGING_ENDED' })
    // What never returns is ended with the region.
    await until(() => threads() < before)
  })

  test.each(['exits', 'crashes'])('%s its thread: later touches fail at once', async mode => {
    const region = await paged({ mode, from: 1 }, { readAheadBytes: 0 })
    const bytes = new Uint8Array(region.view())
    expect(bytes[0]).toBe(bytesFrom(0, 1)[0])
    const begun = performance.now()
    expect(bytes[CHUNK]).toBe(0)
    expect(bytes[2 * CHUNK]).toBe(0)
    expect(performance.now() - begun).toBeLessThan(20_000)
    expect(region.faults).toBe(2)
    await expectWarning()
    expect(bytes[CHUNK - 1]).toBe(bytesFrom(CHUNK - 1, 1)[0])
    await fails(() => ensure(region), 'ERR_HOSTMAP_PAGING_ENDED', 'served no more')
    await fails(() => region.paging.prefetch(), 'ERR_HOSTMAP_PAGING_ENDED', 'served no more')
  })

  test('writes to the space of an earlier call changes no other chunk', async () => {
    const region = await paged({ mode: 'keeps-target', byteLength: 9 * CHUNK })
    await ensure(region)
    expect(Buffer.from(region.view()).equals(bytesFrom(0, 9 * CHUNK))).toBe(true)
  })

  test('uses the port of its thread does not reach ours', async () => {
    const region = await paged({ mode: 'uses-port', byteLength: 2 * CHUNK })
    await ensure(region)
    expect(Buffer.from(region.view()).equals(bytesFrom(0, 2 * CHUNK))).toBe(true)
  })

  test('touches its own region gets zeros at once', async () => {
    const counts = sharedCounts()
    const guarded = new GuardedMemory({ initial: 1, maximum: 80, shared: true })
    const data = { mode: 'touches-itself', counts, memory: guarded.memory, at: 65_536 + 3 * CHUNK }
    const region = await paged(data)
    const module = await probe(guarded.memory)
    const mapping = guarded.map(region)
    expect(mapping.pointer).toBe(65_536)
    expect(module.bytes(65_536, 3)).toEqual(bytesFrom(0, 3))
    expect(counts[1]).toBe(1) // what it has read, and 1
    expect(mapping.faults).toBe(1)
    await expectWarning()
  })

  test.each(['logs', 'uses-env', 'imports'])(
    '%s needs nothing of the thread that waits',
    async mode => {
      const found = await inChild(
        async ({ hostmap: { HostRegion }, args }) => {
          const region = await HostRegion.paged(args)
          const bytes = new Uint8Array(region.view())
          let sum = 0
          for (let at = 0; at < bytes.length; at += 4096) sum += bytes[at]
          return { sum, faults: region.faults }
        },
        { args: optionsOf({ mode, byteLength: 10 * CHUNK }), mayWrite: /provider.*\n/g }
      )
      const bytes = bytesFrom(0, 10 * CHUNK)
      let sum = 0
      for (let at = 0; at < bytes.length; at += 4096) sum += bytes[at]
      expect(found).toEqual({ sum, faults: 0 })
    }
  )
})

test('modules of all kinds are found: by path, by URL, with open among their exports', async () => {
  const body = '{ return { byteLength: 3, read: (at, target) => target.fill(9).length } }'
  const cjs = directory.file(`exports.open = () => ${body}`, 'open.cjs')
  const mjs = directory.file(`export default { open() ${body} }`, 'open.mjs')
  const modules = [cjs, mjs, path.relative('', mjs), new URL(`file://${mjs}`), `file://${cjs}`]
  for (const module of modules) {
    const region = keep(await HostRegion.paged({ provider: { module } }))
    expect([...new Uint8Array(region.view())]).toEqual([9, 9, 9])
  }
})

describe('files of frames', () => {
  const MAIN = path.join(__dirname, '../cli/main.js')
  const whole = noise(1_000_003)
  const codecs = zlib.zstdCompress === undefined ? ['deflate'] : ['deflate', 'zstd']

  function pack(bytes, ...options) {
    const output = directory.file()
    execFileSync(process.execPath, [MAIN, 'chunks', directory.file(bytes), output, ...options])
    return output
  }

  const open = async (frames, options) =>
    keep(await HostRegion.paged({ provider: { frames }, ...options }))

  test.each(codecs)('by %s: whatever the chunks are, the bytes are right', async codec => {
    for (const chunk of ['64KiB', '4096', '100000', '1M']) {
      const file = pack(whole, '--codec', codec, '--chunk', chunk)
      for (const chunkBytes of [undefined, CHUNK, 3 * CHUNK]) {
        const region = await open(file, { chunkBytes })
        expect(region.byteLength).toBe(whole.length)
        expect(Buffer.from(region.view()).equals(whole)).toBe(true)
      }
    }
    const region = await open(pack(whole, '--codec', codec, '--chunk', '64KiB'))
    expect(region.paging.chunkBytes).toBe(65_536)
    expect(new Uint8Array(region.view())[500_000]).toBe(whole[500_000])
    expect(region.paging.stats().fetchedBytes).toBe(65_536)
  })

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'])('%s in the middle leaves nothing', async signal => {
    const output = directory.file()
    const folder = path.dirname(output)
    const halfDone = () => fs.readdirSync(folder).filter(name => name.endsWith('.tmp'))
    const child = spawn(process.execPath, [MAIN, 'chunks', '-', output, '--codec', 'deflate'], {
      stdio: ['pipe', 'ignore', 'ignore']
    })
    const ended = once(child, 'exit')
    // It may be gone before it has read all of that.
    child.stdin.on('error', () => {})
    child.stdin.write(whole.subarray(0, 700_000))
    await until(() => halfDone().length === 1)
    child.kill(signal)
    expect(await ended).toEqual([null, signal])
    expect(halfDone()).toEqual([])
    expect(fs.existsSync(output)).toBe(false)
  })

  test('zstd on a Node.js without it is an error that says so', async () => {
    if (zlib.zstdCompress !== undefined) return
    const frame = Buffer.from('28b52ffd2401090000612a0d2bf1', 'hex')
    const table = Buffer.from('5e2a4d18110000000e000000010000000100000000b1ea928f', 'hex')
    await fails(() => open(directory.file(Buffer.concat([frame, table]))), FAILED, '22.15')
  })

  test('a file that is none, altered, cut off or replaced: right bytes or an error', async () => {
    const good = fs.readFileSync(pack(whole, '--codec', 'deflate', '--chunk', '64KiB'))
    await fails(() => open(directory.file(whole)), FAILED, 'no file of frames')
    await fails(() => open(directory.file(Buffer.alloc(3))), FAILED, 'no file of frames')
    await fails(() => open(directory.path), FAILED, 'no file')
    await fails(() => open('/no/such/file'), 'ERR_HOSTMAP_OPEN_FAILED', 'ENOENT')
    const fifo = directory.file()
    execFileSync('mkfifo', [fifo])
    await fails(() => open(fifo), FAILED, 'no file')
    const at = [
      0,
      3,
      9,
      40,
      5000,
      good.length >> 1,
      ...Array.from({ length: 20 }, (_, i) => good.length - 1 - i * 7)
    ]
    for (const where of at) {
      const altered = Buffer.from(good)
      altered[where] ^= 0x41
      let region
      const error = await thrownBy(async () => {
        region = await open(directory.file(altered))
        await ensure(region)
      })
      if (error !== null)
        expectError(error, { code: [FAILED, LENGTH, 'ERR_HOSTMAP_SOURCE_CHANGED', RANGE] })
      else expect(Buffer.from(region.view()).equals(whole)).toBe(true)
    }
    for (const length of [good.length - 1, good.length >> 1, 17, 0]) {
      await fails(() => open(directory.file(good.subarray(0, length))), FAILED, 'no file of frames')
    }
    const file = directory.file(good)
    const region = await open(file, { readAheadBytes: 0 })
    expect(new Uint8Array(region.view())[0]).toBe(whole[0])
    fs.appendFileSync(file, 'x')
    await fails(() => ensure(region), 'ERR_HOSTMAP_SOURCE_CHANGED', 'changed since')
  })

  test('packing that fails while more is awaited leaves nothing', () => {
    const script = `
      const codec = { head: Buffer.alloc(0), pack: async () => { throw new Error('no memory') } }
      const options = { input: '-', output: process.argv[1], chunkBytes: 4096, codec, level: 1 }
      require(${JSON.stringify(require.resolve('../cli/chunks/pack'))})
        .pack(options).catch(error => console.log(error.message))
      setTimeout(() => process.stdin.push(null), 200)
      process.stdin.push(Buffer.alloc(5000))`
    const output = directory.file()
    const { stdout } = spawnSync(process.execPath, ['-e', script, output], { encoding: 'utf8' })
    expect(stdout).toBe('no memory\n')
    expect(fs.readdirSync(directory.path).filter(name => name.includes('tmp'))).toEqual([])
  })

  test('the command says what is wrong, and leaves nothing', () => {
    const run = (...args) =>
      spawnSync(process.execPath, [MAIN, 'chunks', ...args], { encoding: 'utf8' })
    const input = directory.file(whole)
    const output = directory.file()
    const wrong = [
      [],
      [input],
      [input, output, 'more'],
      [input, output, '--chunk', 'x'],
      [input, output, '--chunk', '1'],
      [input, output, '--chunk', '2G'],
      [input, output, '--codec', 'rar'],
      [input, output, '--level', '0'],
      [input, output, '--codec', 'deflate', '--level', '10'],
      [input, output, '--fast']
    ]
    for (const args of wrong) {
      const { status, stderr } = run(...args)
      expect([args, status]).toEqual([args, 2])
      expect(stderr).toMatch('Usage')
    }
    expect(run(directory.file(Buffer.alloc(0)), output)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching('no bytes')
    })
    expect(run('/no/such/file', output)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching('ENOENT')
    })
    expect(fs.readdirSync(directory.path).filter(name => name.includes('tmp'))).toEqual([])
    expect(run(input, output)).toMatchObject({
      status: 0,
      stdout: expect.stringMatching('4 chunks')
    })
    expect(run(input, output)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching('--force')
    })
    expect(run(input, output, '--force').status).toBe(0)
    const piped = spawnSync(process.execPath, [MAIN, 'chunks', '-', directory.file()], {
      input: whole
    })
    expect(piped.status).toBe(0)
  })
})

describe('options', () => {
  const provider = { module: MODULE }
  const url = 'http://127.0.0.1:1/'
  test.each([
    [undefined, TYPE],
    [null, TYPE],
    [{}, TYPE],
    [{ provider: 'http://x' }, TYPE],
    [{ provider: [] }, TYPE],
    [{ provider: {} }, VALUE],
    [{ provider: { url, module: MODULE } }, VALUE],
    [{ provider: { url: 5 } }, TYPE],
    [{ provider: { url: 'x' } }, VALUE],
    [{ provider: { url: 'file:///etc/passwd' } }, VALUE],
    [{ provider: { url: 'http://%zz@x/' } }, VALUE],
    [{ provider: { url, frames: undefined, more: 1 } }, VALUE],
    [{ provider: { url, headers: 'x' } }, TYPE],
    [{ provider: { url, headers: { a: 1 } } }, TYPE],
    [{ provider: { url, headers: { 'a b': 'x' } } }, VALUE],
    [{ provider: { url, headers: { a: 'x\r\nb: y' } } }, VALUE],
    [{ provider: { url, headers: { Range: 'bytes=0-1' } } }, VALUE],
    [{ provider: { url, headers: { Host: 'x' } } }, VALUE],
    [{ provider: { url, retries: -1 } }, RANGE],
    [{ provider: { url, retries: '1' } }, TYPE],
    [{ provider: { url, stallMs: 0 } }, RANGE],
    [{ provider: { url, immutable: 1 } }, TYPE],
    [{ provider: { frames: 5 } }, TYPE],
    [{ provider: { frames: '' } }, VALUE],
    [{ provider: { frames: new URL('http://x') } }, VALUE],
    [{ provider: { module: 5 } }, TYPE],
    [{ provider: { module: 'a\0b' } }, VALUE],
    [{ provider: { module: new URL('http://x') } }, VALUE],
    [{ provider, byteLength: 0 }, RANGE],
    [{ provider, byteLength: 1.5 }, RANGE],
    [{ provider, byteLength: '5' }, TYPE],
    [{ provider, byteLength: 2 ** 53 }, RANGE],
    [{ provider, chunkBytes: 0 }, RANGE],
    [{ provider, chunkBytes: 5000 }, RANGE],
    [{ provider, chunkBytes: 2 ** 31 }, RANGE],
    [{ provider, chunkBytes: CHUNK, cacheBytes: 15 * CHUNK }, RANGE],
    [{ provider, cacheBytes: 0 }, RANGE],
    [{ provider, readAheadBytes: -1 }, RANGE],
    [{ provider, concurrency: 0 }, RANGE],
    [{ provider, concurrency: 65 }, RANGE],
    [{ provider, timeoutMs: 0 }, RANGE],
    [{ provider, timeoutMs: Infinity }, RANGE],
    [{ provider, diskCache: 5 }, TYPE],
    [{ provider, diskCache: {} }, TYPE],
    [{ provider, diskCache: '/tmp/x' }, VALUE],
    [{ provider, diskCache: { path: '/tmp/x', key: 5 } }, TYPE],
    [{ provider, name: 'x'.repeat(201) }, VALUE],
    [{ provider, userfaultfd: 'yes' }, TYPE],
    [{ provider, signal: 5 }, TYPE],
    [{ provider, chunkByte: 5 }, VALUE]
  ])('%j', async (options, code) => {
    await fails(() => HostRegion.paged(options), code)
  })

  test('of ensure, prefetch and chunks', async () => {
    const { paging } = await paged({ byteLength: 10 })
    const wrong = [
      [{ byteOffset: 11 }, RANGE],
      [{ byteOffset: -1 }, RANGE],
      [{ byteOffset: 5, byteLength: 6 }, RANGE],
      [{ byteLength: '5' }, TYPE],
      [{ length: 5 }, VALUE],
      [5, TYPE]
    ]
    for (const [options, code] of wrong) {
      await fails(() => paging.ensure(options), code)
      await fails(() => paging.prefetch(options), code)
      await fails(() => paging.chunks(options), code)
    }
    await fails(() => paging.ensure({ signal: 5 }), TYPE)
    await fails(() => paging.prefetch({ onProgress: 5 }), TYPE)
  })
})
