// Engines that get a region as a Buffer: their results are those of the usual way, the file is not
// read before they ask for it, and whatever happens to the region, the process lives and the file
// is as it was.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { HostRegion } from 'wasm-hostmap'
import { engines } from '../support/bytes-engines.mjs'

const HAZARD = fileURLToPath(new URL('../support/bytes-hazard.mjs', import.meta.url))
const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'wasm-hostmap-bytes-'))
after(() => fs.rmSync(directory, { recursive: true }))

const digestOf = bytes => createHash('sha256').update(bytes).digest('hex')

/** Bytes of a file that this process has mapped and touched, and those that it has copied. */
function touched(file) {
  const sums = { Rss: 0, Anonymous: 0 }
  let counts = false
  for (const line of fs.readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    const [, field, kibibytes] = /^(\w+): +(\d+) kB$/.exec(line) ?? []
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) counts = line.endsWith(` ${file}`)
    else if (counts && field in sums) sums[field] += Number(kibibytes) * 1024
  }
  return sums
}

const errorOf = async call => {
  try {
    await call()
  } catch (error) {
    return `${error.name}: ${error.message}`
  }
  return null
}

/** What a child process says of an engine whose region has this happen to it. */
function outcomeOf(name, hazard, bytes) {
  const file = path.join(directory, `${hazard} ${name}`)
  fs.writeFileSync(file, bytes)
  const args = ['--no-warnings', HAZARD, name, hazard, file]
  const printed = execFileSync(process.execPath, args, { encoding: 'utf8', stdio: 'pipe' })
  const digest = digestOf(fs.readFileSync(file))
  return {
    ...JSON.parse(printed.trimEnd().split('\n').at(-1)),
    isAsItWas: digest === digestOf(bytes)
  }
}

const json = value => JSON.parse(JSON.stringify(value))

for (const [name, { load, make, open, answer, scan, close }] of Object.entries(engines)) {
  describe(name, () => {
    const file = path.join(directory, name)
    let engine
    let bytes
    let usual
    before(async () => {
      engine = await load()
      bytes = await make(engine)
      fs.writeFileSync(file, bytes)
      // A Uint8Array, which is what these engines are documented to take.
      const handle = await open(engine, Uint8Array.from(bytes))
      usual = json({ answer: await answer(handle), scan: await scan(handle) })
      await close(handle)
    })

    for (const access of ['private', 'readonly']) {
      test(`answers as it does over a copy, and makes none: ${access}`, async () => {
        const region = HostRegion.open(file)
        const buffer = region.bytes({ access })
        const handle = await open(engine, buffer)
        const first = json(await answer(handle))
        const early = touched(file)
        const all = json(await scan(handle))
        const late = touched(file)
        await close(handle)
        region.close({ views: 'detach' })
        assert.deepEqual({ answer: first, scan: all }, usual)
        // What a copy reads is all of it. The kernel maps what is around a page, too.
        assert.ok(early.Rss < bytes.length / 2, `${early.Rss} bytes were read to open and answer`)
        assert.ok(late.Rss > bytes.length / 2, `${late.Rss} bytes were read in all`)
        // The engine wrote nothing, and its file is the Buffer itself, where it can be asked.
        assert.equal(late.Anonymous, 0)
        assert.equal(region.strayWrites, 0)
        if ('contents' in handle) assert.equal(handle.contents, buffer.buffer)
        assert.equal(digestOf(fs.readFileSync(file)), digestOf(bytes))
      })
    }

    test('goes on when the region is closed, and sealed', () => {
      for (const hazard of ['close', 'seal']) {
        const outcome = outcomeOf(name, hazard, bytes)
        assert.deepEqual(outcome, {
          before: usual.answer,
          answer: { result: usual.answer },
          scan: { result: usual.scan },
          faults: 0,
          strayWrites: 0,
          found: {},
          isAsItWas: true
        })
      }
    })

    test('fails in words when its Buffer is detached, and the process lives', () => {
      const { before, scan, isAsItWas } = outcomeOf(name, 'detach', bytes)
      assert.deepEqual(before, usual.answer)
      assert.match(scan.error, /TypeError: .*detached/)
      assert.ok(isAsItWas)
    })

    test('meets zeros when the file is truncated, and checkFaults says so', () => {
      const { before, scan, faults, found } = outcomeOf(name, 'truncate', bytes)
      assert.deepEqual(before, usual.answer)
      assert.ok(faults > 0)
      assert.match(found.error, /found no data.*\(file-shrunk\)/)
      // Some engines can't tell zeros from data: that is what checkFaults is for.
      assert.notDeepEqual(scan.result, usual.scan)
    })

    for (const [what, wrong] of [
      ['0 bytes', Buffer.alloc(0)],
      ['1 byte', Buffer.alloc(1, 7)],
      ['4095 bytes', Buffer.alloc(4095, 7)],
      ['4096 bytes', Buffer.alloc(4096, 7)]
    ]) {
      test(`says of ${what} that are not its own what it says of a copy`, async () => {
        const attempt = async given => {
          const handle = await open(engine, given)
          try {
            return json(await answer(handle))
          } finally {
            await close(handle)
          }
        }
        const outcomeOf = async given => {
          const found = {}
          found.error = await errorOf(async () => {
            found.result = await attempt(given)
          })
          return found
        }
        const region = wrong.length === 0 ? HostRegion.open(file) : HostRegion.copyFrom(wrong)
        const mapped = await outcomeOf(region.bytes({ byteLength: wrong.length }))
        const copied = await outcomeOf(Uint8Array.from(wrong))
        region.close()
        assert.deepEqual(mapped, copied)
        assert.ok(mapped.error !== null || !isDeepEqual(mapped.result, usual.answer))
      })
    }
  })
}

function isDeepEqual(a, b) {
  return JSON.stringify(a) === JSON.stringify(b)
}

describe('sql.js that writes', () => {
  const { load, make, open, answer, scan, update, grow, image, close } = engines['sql.js']
  const file = path.join(directory, 'written.sqlite')
  let engine
  let bytes
  before(async () => {
    engine = await load()
    bytes = await make(engine)
    fs.writeFileSync(file, bytes)
  })
  const opened = (region, access) => open(engine, region.bytes({ access }))
  const usual = () => open(engine, Uint8Array.from(bytes))

  for (const [kind, regionOf] of [
    ['a file', () => HostRegion.open(file)],
    ['a sealed memfd', () => HostRegion.copyFrom(bytes).seal()],
    ['a writable memfd', () => HostRegion.copyFrom(bytes)]
  ]) {
    test(`keeps it to itself: ${kind}, and another engine sees nothing`, () => {
      const region = regionOf()
      const [writer, reader, copy] = [opened(region), opened(region), usual()]
      const before = [answer(reader), scan(reader)]
      for (const write of [update, grow]) {
        assert.deepEqual(write(writer), write(copy))
        assert.deepEqual([answer(reader), scan(reader)], before)
        assert.equal(digestOf(region.bytes()), digestOf(bytes))
      }
      assert.equal(digestOf(image(writer)), digestOf(image(copy)))
      assert.equal(digestOf(image(reader)), digestOf(bytes))
      assert.equal(region.strayWrites, 0)
      for (const db of [writer, reader, copy]) close(db)
      assert.equal(digestOf(region.bytes()), digestOf(bytes))
      region.close({ views: 'detach' })
    })
  }

  test('reaches the region where that was asked for', () => {
    const region = HostRegion.copyFrom(bytes)
    const [writer, copy] = [opened(region, 'shared'), usual()]
    assert.deepEqual(update(writer), update(copy))
    assert.notEqual(digestOf(region.bytes()), digestOf(bytes))
    const later = opened(region)
    assert.equal(digestOf(image(later)), digestOf(image(copy)))
    for (const db of [writer, copy, later]) close(db)
    region.close({ views: 'detach' })
  })

  test("is told of, with access 'readonly', and works all the same", async () => {
    const warned = new Promise(resolve => process.once('warning', resolve))
    const region = HostRegion.open(file)
    const [writer, copy] = [opened(region, 'readonly'), usual()]
    assert.deepEqual(update(writer), update(copy))
    assert.ok(region.strayWrites > 0)
    assert.equal((await warned).code, 'HOSTMAP_STRAY_WRITE')
    assert.equal(digestOf(fs.readFileSync(file)), digestOf(bytes))
    for (const db of [writer, copy]) close(db)
    region.close({ views: 'detach' })
  })

  test('takes a database in WAL mode for what the file alone has, as over a copy', () => {
    // Bytes 18 and 19 of the header say that there may be a WAL beside the file.
    const wal = Buffer.from(bytes)
    wal[18] = wal[19] = 2
    const region = HostRegion.copyFrom(wal)
    const [mapped, copied] = [opened(region), open(engine, Uint8Array.from(wal))]
    for (const ask of [answer, scan, update]) assert.deepEqual(ask(mapped), ask(copied))
    for (const db of [mapped, copied]) close(db)
    assert.equal(digestOf(region.bytes()), digestOf(wal))
    region.close({ views: 'detach' })
  })

  test('region.close() leaves the database, and close of the database frees the pages', async () => {
    const printed = execFileSync(
      process.execPath,
      [
        '--expose-gc',
        '--input-type=module',
        '-e',
        `import initSqlJs from 'sql.js'
         import { HostRegion } from 'wasm-hostmap'
         import { setImmediate } from 'node:timers/promises'
         const SQL = await initSqlJs()
         const region = HostRegion.open(${JSON.stringify(file)})
         const db = new SQL.Database(region.bytes())
         region.close()
         const collect = async () => { for (let i = 0; i < 6; i++) { gc(); await setImmediate() } }
         await collect()
         const seen = [db.exec('SELECT count(*) FROM item')[0].values[0][0], region.holders.buffers]
         db.close()
         await collect()
         console.log(JSON.stringify([...seen, region.holders.buffers]))`
      ],
      { encoding: 'utf8', cwd: fileURLToPath(new URL('..', import.meta.url)) }
    )
    assert.deepEqual(JSON.parse(printed), [16000, 1, 0])
  })
})
