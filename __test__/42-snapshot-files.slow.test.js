'use strict'

// Snapshots in files, and in other threads and processes.

const fs = require('node:fs')
const path = require('node:path')
const { execFile } = require('node:child_process')
const { promisify } = require('node:util')
const { createHash, createSecretKey, generateKeyPairSync } = require('node:crypto')
const { GuardedMemory, HostRegion, Snapshot, exposeState, limits } = require('..')
const {
  expectError,
  expectFailure,
  expectNothingNew,
  possessions,
  thrownBy
} = require('./support/errors')
const { temporaryDirectory, noise } = require('./support/files')
const { inChild } = require('./support/child')
const { collectWarnings } = require('./support/warnings')
const format = require('./support/snapshot-format')
const { TestWorker } = require('./support/worker')
const { MiB, WASM_PAGE, assemble, probe } = require('./support/wasm')
const { fdOf } = require('./support/procfs.js')

const PAGE = limits().pageSize
const directory = temporaryDirectory()

// Mappings that were restored are written to, to see that the region stays as it is.
const warnings = collectWarnings()
afterAll(() => {
  for (const { code } of warnings) expect(code).toBe('HOSTMAP_STRAY_WRITE')
})
// Held to the end: a collected one gives its descriptor back, during a test that counts
// them.
const held = []
const holding = kept => {
  held.push(kept)
  return kept
}
const bytesOf = guarded => Buffer.from(guarded.buffer)

const partsOf = format.partsOf

let guarded, region, snapshot, file, bytes
beforeAll(async () => {
  guarded = new GuardedMemory({ initial: 8 })
  region = HostRegion.copyFrom(noise(4 * PAGE, 9), { name: 'dataset' })
  noise(2 * WASM_PAGE).copy(bytesOf(guarded), WASM_PAGE)
  guarded.map(region, { at: 4 * WASM_PAGE, access: 'private' })
  guarded
    .window({ at: 5 * WASM_PAGE, byteLength: 2 * PAGE, rest: 'zeros' })
    .slide(region, PAGE + 10)
  bytesOf(guarded)[4 * WASM_PAGE + PAGE] ^= 255
  snapshot = guarded.snapshot({ module: Buffer.from('some module'), name: 'origin' })
  file = directory.file(undefined, 'good.snapshot')
  await snapshot.save(file)
  bytes = fs.readFileSync(file)
})

const regions = () => region

describe('a file', () => {
  test('gives the memory back, in this process', async () => {
    const loaded = await Snapshot.load(file, { regions })
    const { byteLength, address, moduleDigest, mappings } = snapshot
    expect(loaded).toMatchObject({ byteLength, address, moduleDigest, closed: false })
    expect(loaded.mappings).toEqual(mappings)
    expect(loaded.mappings.map(({ kind, regionName }) => [kind, regionName])).toEqual([
      ['mapping', 'dataset'],
      ['window', 'dataset']
    ])
    const other = new GuardedMemory({ initial: 1 })
    other.restore(loaded)
    expect(bytesOf(other).equals(bytesOf(guarded))).toBe(true)
    bytesOf(other).fill(1, 0, 5 * WASM_PAGE)
    other.restore(loaded)
    expect(bytesOf(other).equals(bytesOf(guarded))).toBe(true)
    loaded.close()
  })

  test('gives it back in another process, whose regions are its own', async () => {
    const seen = await inChild(
      async ({ hostmap, require, args }) => {
        const fs = require('node:fs')
        const { GuardedMemory, HostRegion, Snapshot } = hostmap
        const asked = []
        const regions = mapping => {
          asked.push(mapping)
          return HostRegion.copyFrom(fs.readFileSync(args.dataset))
        }
        const loaded = await Snapshot.load(args.file, { regions })
        const memory = new GuardedMemory({ initial: 1 })
        memory.restore(loaded)
        fs.writeFileSync(args.out, Buffer.from(memory.buffer))
        return asked
      },
      {
        args: {
          file,
          dataset: directory.file(noise(4 * PAGE, 9)),
          out: directory.file(undefined, 'out')
        }
      }
    )
    expect(seen).toEqual(snapshot.mappings)
    expect(fs.readFileSync(path.join(directory.path, 'out')).equals(bytesOf(guarded))).toBe(true)
  })

  test('is sparse where the memory is zeros', async () => {
    const large = new GuardedMemory({ initial: 4096 })
    for (const at of [0, 100 * MiB, 256 * MiB - 1]) bytesOf(large)[at] = 1
    const kept = holding(large.snapshot())
    const saved = directory.file(undefined, 'sparse.snapshot')
    await kept.save(saved)
    const { size, blocks } = fs.statSync(saved)
    expect(size).toBeGreaterThan(256 * MiB)
    expect(blocks * 512).toBeLessThan(256 * 1024)
    const loaded = holding(await Snapshot.load(saved))
    expect(loaded.residentBytes).toBeLessThan(256 * 1024)
    bytesOf(large).fill(3, 0, 10 * MiB)
    large.restore(loaded)
    expect([0, 5, 100 * MiB, 256 * MiB - 1].map(at => bytesOf(large)[at])).toEqual([1, 0, 1, 1])
    fs.unlinkSync(saved)
  })

  test('is readable by its owner alone, and takes the place of another one at once', async () => {
    const saved = directory.file(Buffer.from('old'), 'replaced.snapshot')
    const open = fs.openSync(saved)
    await snapshot.save(saved)
    expect(fs.statSync(saved).mode & 0o777).toBe(0o600)
    expect(fs.readFileSync(saved).equals(bytes)).toBe(true)
    // Who had the old one open has it still.
    expect(fs.readFileSync(open, 'latin1')).toBe('old')
    fs.closeSync(open)
  })

  test('of another module is refused, and of no module where one is wanted', async () => {
    const module = Buffer.from('some module')
    const digest = `sha256-${createHash('sha256').update(module).digest('hex')}`
    expect(snapshot.moduleDigest).toBe(digest)
    const loaded = await Snapshot.load(file, { regions, module: new Uint8Array(module) })
    loaded.close()
    await expectFailure(() => Snapshot.load(file, { regions, module: Buffer.from('other') }), {
      code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
      says: [digest]
    })
    const unnamed = holding(new GuardedMemory({ initial: 1 }).snapshot())
    await unnamed.save(directory.file(undefined, 'unnamed.snapshot'))
    await expectFailure(
      () => Snapshot.load(path.join(directory.path, 'unnamed.snapshot'), { module }),
      {
        code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
        says: /module/
      }
    )
  })

  test('with mappings needs their regions', async () => {
    const small = HostRegion.allocate(PAGE, { name: 'small' })
    const shut = HostRegion.allocate(4 * PAGE, { name: 'shut' })
    shut.close()
    for (const [given, expected] of [
      [undefined, { code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH', says: ['dataset', 'options.regions'] }],
      [() => undefined, { code: 'ERR_INVALID_ARG_TYPE', says: 'HostRegion' }],
      [() => ({}), { code: 'ERR_INVALID_ARG_TYPE', says: 'HostRegion' }],
      [() => small, { code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH', says: ['small', String(PAGE)] }],
      [() => shut, { code: 'ERR_HOSTMAP_REGION_CLOSED', says: 'shut' }]
    ]) {
      await expectFailure(() => Snapshot.load(file, { regions: given }), expected)
    }
    const mine = new Error('mine')
    const thrown = await thrownBy(() =>
      Snapshot.load(file, {
        regions() {
          throw mine
        }
      })
    )
    expect(thrown).toBe(mine)
    small.close()
  })
})

describe('a file that is none is refused:', () => {
  const invalid = { code: 'ERR_HOSTMAP_SNAPSHOT_INVALID' }
  const refused = (contents, expected = invalid) =>
    expectFailure(
      () => Snapshot.load(directory.file(contents, 'bad.snapshot'), { regions }),
      expected
    )

  test('cut off anywhere', async () => {
    const { dataOffset, tailAt } = partsOf(bytes)
    const lengths = [
      0,
      1,
      7,
      8,
      63,
      64,
      255,
      256,
      257,
      PAGE,
      dataOffset,
      dataOffset + 1,
      tailAt - 1,
      tailAt,
      tailAt + 16,
      bytes.length - 1
    ]
    for (const length of lengths)
      await refused(bytes.subarray(0, length), { ...invalid, says: /short|cut off|damaged/ })
    await refused(Buffer.concat([bytes, Buffer.alloc(1)]), { ...invalid, says: /added/ })
  })

  test('altered in any byte of its header or tail, or of the memory', async () => {
    const { dataOffset, tailAt } = partsOf(bytes)
    const places = [
      ...Array.from({ length: 256 }, (_, at) => at),
      ...[WASM_PAGE, WASM_PAGE + 1, 2 * WASM_PAGE + 5, 3 * WASM_PAGE - 1, 4 * WASM_PAGE + PAGE].map(
        at => dataOffset + at
      ),
      ...Array.from({ length: bytes.length - tailAt }, (_, at) => tailAt + at)
    ]
    const bad = directory.file(bytes, 'altered.snapshot')
    const fd = fs.openSync(bad, 'r+')
    for (const at of places) {
      for (const value of [bytes[at] ^ 1, bytes[at] ^ 255]) {
        fs.writeSync(fd, Buffer.from([value]), 0, 1, at)
        const error = await thrownBy(() => Snapshot.load(bad, { regions }))
        expect([at, value, error?.code]).toEqual([at, value, 'ERR_HOSTMAP_SNAPSHOT_INVALID'])
      }
      fs.writeSync(fd, bytes, at, 1, at)
    }
    fs.closeSync(fd)
    const healed = await Snapshot.load(bad, { regions })
    healed.close()
  })

  test('of another version, and says which', async () => {
    for (const version of [2, 4]) {
      const other = Buffer.from(bytes)
      other.writeBigUInt64LE(BigInt(version), 8)
      await refused(other, { ...invalid, says: [`version ${version}`, /version 3/] })
    }
  })

  test('empty, text, a directory, a pipe, a device, or nothing at all', async () => {
    await refused(Buffer.alloc(0), { ...invalid, says: /short/ })
    await refused(Buffer.from('text '.repeat(100)), { ...invalid, says: /no snapshot/ })
    await refused(Buffer.alloc(3 * WASM_PAGE), { ...invalid, says: /no snapshot/ })
    const codes = {
      code: ['ERR_HOSTMAP_NOT_A_FILE', 'ERR_HOSTMAP_READ_FAILED', 'ERR_HOSTMAP_SNAPSHOT_INVALID']
    }
    const pipe = directory.file(undefined, 'pipe')
    require('node:child_process').execFileSync('mkfifo', [pipe])
    for (const odd of [directory.path, pipe, '/dev/zero', '/proc/self/mem'])
      await expectFailure(() => Snapshot.load(odd), { ...codes, says: odd })
    const missing = path.join(directory.path, 'missing')
    await expectFailure(() => Snapshot.load(missing), {
      code: 'ERR_HOSTMAP_OPEN_FAILED',
      says: missing,
      errno: -2
    })
  })
})

// A descriptor's bytes have no checksum, so all that can be said in them can be tried.
describe('what a descriptor says is believed only where it can be so:', () => {
  let origin, metadata
  beforeAll(() => {
    origin = format.bytesOf(fdOf(snapshot))
    metadata = format.decode(origin.subarray(partsOf(origin).tailAt))
  })

  function load(newMetadata, state) {
    const sealed = HostRegion.copyFrom(format.forge(origin, newMetadata, state)).seal()
    try {
      return Snapshot.fromFd(fdOf(sealed), { regions })
    } finally {
      sealed.close()
    }
  }

  /** Restores it twice and lets go of it; what went wrong. */
  function use(make) {
    let kept
    try {
      kept = make()
    } catch (error) {
      return error
    }
    const memory = new GuardedMemory({ initial: 1, maximum: 20 })
    try {
      memory.restore(kept)
      bytesOf(memory).fill(5, 0, WASM_PAGE)
      memory.restore(kept)
      for (const mapping of memory.mappings) mapping.unmap()
      return null
    } catch (error) {
      return Object.assign(error, { restored: true })
    } finally {
      kept.close()
    }
  }

  test('the bytes as they are, are taken', () => {
    expect(format.encode(metadata).equals(origin.subarray(partsOf(origin).tailAt))).toBe(true)
    expect(use(() => load(metadata))).toBeNull()
  })

  test('any value in the place of each of its own', () => {
    const odd = [
      -1,
      0,
      1,
      3,
      PAGE,
      65536,
      65537,
      2 ** 31,
      2 ** 33,
      2 ** 53 - 1,
      1.5,
      null,
      '1',
      'shared',
      true,
      [],
      {}
    ]
    const places = []
    const walk = (value, place) => {
      for (const [key, inner] of Object.entries(value)) {
        places.push([...place, key])
        if (typeof inner === 'object' && inner !== null) walk(inner, [...place, key])
      }
    }
    walk(metadata, [])
    const codes = new Set()
    for (const place of places) {
      for (const value of odd) {
        const changed = structuredClone(metadata)
        let owner = changed
        for (const key of place.slice(0, -1)) owner = owner[key]
        owner[place.at(-1)] = value
        const error = use(() => load(changed))
        if (error === null) continue
        codes.add(error.code)
        expect([place.join('.'), value, error.restored, error.code]).toEqual([
          place.join('.'),
          value,
          undefined,
          expect.stringMatching(/^ERR_HOSTMAP_(SNAPSHOT_INVALID|SNAPSHOT_MISMATCH|NOT_RESTORABLE)$/)
        ])
      }
    }
    expect(codes).toContain('ERR_HOSTMAP_SNAPSHOT_INVALID')
  })

  test('fields that it has not, or has twice, and bytes that are none', () => {
    const invalid = { code: 'ERR_HOSTMAP_SNAPSHOT_INVALID' }
    const refused = (bytes, state) =>
      expectError(
        thrownBy(() => load(bytes, state)),
        invalid
      )
    const whole = format.encode(metadata)
    refused({ ...metadata, more: 1 })
    refused({ ...metadata, about: { ...metadata.about, __proto__: null, more: 1 } })
    const { free, ...less } = metadata
    refused(less)
    const twice = Buffer.concat([whole, format.encode('free'), format.encode(free)])
    twice[0]++
    refused(twice)
    for (const bad of [
      Buffer.from([0]),
      whole.subarray(1),
      Buffer.concat([whole, Buffer.alloc(1)])
    ])
      refused(bad)
    for (const bad of [null, [], 1, 'text', {}, Object.values(metadata)]) refused(bad)
    // Lists that say to be longer than any file, and nested ones.
    refused(Buffer.from([0x85, ...format.encode('about'), 0xdd, 255, 255, 255, 255]))
    refused(Buffer.alloc(1 << 19, 0x91))
    refused(metadata, Buffer.alloc(1 << 19, 0x91))
    refused(metadata, Buffer.from([0xdd, 255, 255, 255, 255]))
  })

  test('globals and tables that no instance has', () => {
    const sound = {
      values: [
        { number: 1.5 },
        'null',
        { function: { index: 1, export_name: null, whose: 'own' } }
      ],
      globals: [{ name: 'g', value: 0 }],
      tables: [
        {
          name: 't',
          length: 5,
          runs: [
            { at: 1, values: [2, 2] },
            { at: 4, values: [2] }
          ]
        }
      ]
    }
    load(metadata, sound).close()
    const [global, table] = [sound.globals[0], sound.tables[0]]
    const run = (at, values) => ({ ...table, runs: [{ at, values }] })
    for (const [what, parts] of Object.entries({
      'a value that is not there': { globals: [{ ...global, value: 3 }] },
      'a name twice': { globals: [global, global] },
      'a name of both kinds': { tables: [{ ...table, name: 'g' }] },
      'more entries than there can be': { tables: [{ ...table, length: 10_000_001 }] },
      'more entries of several tables': {
        tables: [
          { ...table, length: 10_000_000 },
          { ...table, name: 'u' }
        ]
      },
      'entries past the end': { tables: [run(4, [2, 2])] },
      'entries out of order': { tables: [{ ...table, runs: [...table.runs].reverse() }] },
      'entries over each other': { tables: [{ ...table, runs: [table.runs[0], table.runs[0]] }] },
      'a run of none': { tables: [run(0, [])] },
      'an entry without a value': { tables: [run(0, [3])] },
      'digits that are none': { values: [...sound.values, { bigint: '0x1' }] },
      'another kind of value': { values: [...sound.values, { object: 1 }] },
      'a function of nobody': {
        values: [{ function: { index: 1, export_name: null, whose: 'mine' } }]
      },
      'a function below 0': {
        values: [{ function: { index: -1, export_name: null, whose: 'own' } }]
      }
    })) {
      const error = thrownBy(() => load(metadata, { ...sound, ...parts }))
      expect([what, error?.code]).toEqual([what, 'ERR_HOSTMAP_SNAPSHOT_INVALID'])
    }
  })

  test('descriptors of other things', async () => {
    const sealed = HostRegion.copyFrom(noise(PAGE)).seal()
    const open = HostRegion.copyFrom(origin)
    const onDisk = fs.openSync(__filename)
    for (const fd of [fdOf(sealed), fdOf(open), onDisk])
      await expectFailure(() => Snapshot.fromFd(fd), {
        code: 'ERR_HOSTMAP_SNAPSHOT_INVALID',
        says: String(fd)
      })
    await expectFailure(() => Snapshot.fromFd(2 ** 20), {
      code: 'ERR_HOSTMAP_OPEN_FAILED',
      says: '1048576'
    })
    fs.closeSync(onDisk)
    const gone = new GuardedMemory({ initial: 1 }).snapshot()
    const fd = gone.duplicateFd()
    gone.close()
    fs.closeSync(fd)
    await expectFailure(() => Snapshot.fromFd(fd), {
      code: ['ERR_HOSTMAP_OPEN_FAILED', 'ERR_HOSTMAP_SNAPSHOT_INVALID']
    })
  })
})

describe('what a module may do with a region is for the caller to say:', () => {
  let dataset, origin
  beforeAll(() => {
    dataset = HostRegion.copyFrom(noise(4 * PAGE, 9), { name: 'data' })
    const memory = new GuardedMemory({ initial: 4 })
    memory.map(dataset, { at: 0, access: 'shared' })
    memory.map(dataset, { at: WASM_PAGE, access: 'readonly' })
    memory.window({ at: 2 * WASM_PAGE, byteLength: 2 * PAGE, access: 'shared' }).slide(dataset, 0)
    memory.window({ at: 3 * WASM_PAGE, byteLength: 2 * PAGE, access: 'shared' })
    origin = holding(memory.snapshot())
  })

  const load = regions => Snapshot.fromFd(fdOf(origin), { regions })
  const accesses = kept => kept.mappings.map(({ access }) => access)
  const grant = access => mapping => ({
    region: mapping.regionName === null ? undefined : dataset,
    access
  })

  test('shared access by name only', async () => {
    for (const kept of [load(grant('shared')), load(({ access, ...it }) => grant(access)(it))]) {
      expect(accesses(kept)).toEqual(['shared', 'readonly', 'shared', 'shared'])
      kept.close()
    }
    await expectFailure(() => load(() => dataset), {
      code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
      says: ['"data"', "access: 'shared'", 'options.regions']
    })
    // An empty window is asked for, too: what is slid into it could be written.
    const seen = []
    await expectFailure(
      () =>
        load(mapping => {
          seen.push(mapping)
          return mapping.regionName === null ? undefined : { region: dataset, access: 'shared' }
        }),
      { code: 'ERR_INVALID_ARG_TYPE', says: '{ region, access }' }
    )
    expect(seen.map(({ regionName, access }) => [regionName, access])).toEqual([
      ['data', 'shared'],
      ['data', 'readonly'],
      ['data', 'shared'],
      [null, 'shared']
    ])
  })

  test.each(['readonly', 'private'])(
    'no more than %s where that is granted, windows included',
    access => {
      const kept = load(grant(access))
      expect(accesses(kept)).toEqual([access, 'readonly', access, access])
      const memory = new GuardedMemory({ initial: 4 })
      memory.restore(kept)
      expect(memory.mappings.map(it => it.access)).toEqual([access, 'readonly', access, access])
      const bytes = bytesOf(memory)
      const before = Buffer.from(dataset.view())
      for (const address of [0, WASM_PAGE, 2 * WASM_PAGE]) bytes[address] ^= 255
      const empty = memory.mappings[3]
      expectError(
        thrownBy(() => empty.slide(dataset, 0, { access: 'shared' })),
        { code: 'ERR_INVALID_ARG_VALUE' }
      )
      empty.slide(dataset, 0)
      bytes[3 * WASM_PAGE] ^= 255
      expect(Buffer.from(dataset.view()).equals(before)).toBe(true)
      kept.close()
    }
  )

  test('pages that were written need private access', async () => {
    const memory = new GuardedMemory({ initial: 1 })
    memory.map(dataset, { at: 0, access: 'private' })
    bytesOf(memory)[1] ^= 255
    const written = holding(memory.snapshot())
    const load = access =>
      Snapshot.fromFd(fdOf(written), { regions: () => ({ region: dataset, access }) })
    expect(accesses(load('shared'))).toEqual(['private'])
    await expectFailure(() => load('readonly'), {
      code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
      says: 'private'
    })
  })

  test('a sealed region can not be shared, and words that are none are refused', async () => {
    const sealed = HostRegion.copyFrom(noise(4 * PAGE, 9)).seal()
    const of = given => () =>
      load(mapping => (mapping.regionName === null ? { access: 'shared' } : given))
    await expectFailure(of({ region: sealed, access: 'shared' }), {
      code: 'ERR_HOSTMAP_REGION_READONLY'
    })
    await expectFailure(of({ region: dataset, acces: 'shared' }), {
      code: 'ERR_INVALID_ARG_VALUE',
      says: 'access'
    })
    await expectFailure(of({ region: dataset, access: 'write' }), {
      code: 'ERR_INVALID_ARG_VALUE',
      says: 'shared'
    })
    await expectFailure(of({ access: 'shared' }), {
      code: 'ERR_INVALID_ARG_TYPE',
      says: 'HostRegion'
    })
    await expectFailure(() => load(grant.bind(null, 'shared')), { code: 'ERR_INVALID_ARG_TYPE' })
    await expectFailure(() => load(() => ({ region: dataset, access: 'shared' })), {
      code: 'ERR_INVALID_ARG_VALUE'
    })
    await expectFailure(() => load(), { code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH' })
    sealed.close()
  })

  test('a file that says more than was saved gets no more', async () => {
    const altered = structuredClone(format.decode(bytes.subarray(partsOf(bytes).tailAt)))
    expect(altered.mappings[0].access).toBe('private')
    altered.written = { gaps: [], lengths: [] }
    altered.mappings[0].access = 'shared'
    const sealed = HostRegion.copyFrom(format.forge(format.bytesOf(fdOf(snapshot)), altered)).seal()
    await expectFailure(() => Snapshot.fromFd(fdOf(sealed), { regions }), {
      code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
      says: ['dataset', "access: 'shared'"]
    })
    sealed.close()
  })
})

describe('a key', () => {
  const key = noise(32, 5)
  const wrong = { code: 'ERR_HOSTMAP_SNAPSHOT_INVALID', says: /options\.key/ }
  let signed
  beforeAll(async () => {
    signed = directory.file(undefined, 'signed.snapshot')
    await snapshot.save(signed, { key })
  })

  test('proves that a file was saved with it, in any of its forms, and another one does not', async () => {
    for (const same of [
      key,
      new Uint8Array(key),
      new Uint8Array(key).buffer,
      new DataView(new Uint8Array(key).buffer),
      createSecretKey(key)
    ]) {
      const loaded = await Snapshot.load(signed, { regions, key: same })
      const memory = new GuardedMemory({ initial: 1 })
      memory.restore(loaded)
      expect(bytesOf(memory).equals(bytesOf(guarded))).toBe(true)
      loaded.close()
    }
    const asked = []
    const other = Buffer.from(key)
    other[31] ^= 1
    await expectFailure(
      () => Snapshot.load(signed, { regions: it => asked.push(it), key: other }),
      wrong
    )
    await expectFailure(() => Snapshot.load(file, { regions: it => asked.push(it), key }), wrong)
    expect(asked).toEqual([])
    // A caller that does not ask for the proof gets none.
    const loaded = await Snapshot.load(signed, { regions })
    loaded.close()
  })

  test('proves it of all: what was altered and saved again, with another key or none, is refused', async () => {
    const origin = format.bytesOf(fdOf(snapshot))
    const { dataOffset, tailAt } = partsOf(origin)
    const otherModule = format.decode(origin.subarray(tailAt))
    otherModule.about.module = `sha256-${'0'.repeat(64)}`
    const otherBytes = Buffer.from(origin)
    otherBytes[dataOffset + WASM_PAGE + 5] ^= 1
    const otherState = { values: [{ number: 1.5 }], globals: [{ name: 'g', value: 0 }], tables: [] }
    const target = directory.file(undefined, 'forged.snapshot')
    for (const bytes of [
      format.forge(origin, otherModule),
      otherBytes,
      format.forge(origin, format.decode(origin.subarray(tailAt)), otherState)
    ]) {
      const sealed = HostRegion.copyFrom(bytes).seal()
      const forged = Snapshot.fromFd(fdOf(sealed), { regions })
      sealed.close()
      for (const options of [{ key: noise(32, 6) }, {}]) {
        await forged.save(target, options)
        // A checksum proves nothing.
        const accepted = await Snapshot.load(target, { regions })
        accepted.close()
        await expectFailure(() => Snapshot.load(target, { regions, key }), wrong)
      }
      forged.close()
    }
    // Nor is the code itself altered without notice, where the proof is not asked for.
    const altered = fs.readFileSync(signed)
    altered[40] ^= 1
    fs.writeFileSync(target, altered)
    await expectFailure(() => Snapshot.load(target, { regions }), {
      code: 'ERR_HOSTMAP_SNAPSHOT_INVALID'
    })
  })

  test('covers each of the pages, and none of the holes', async () => {
    const large = new GuardedMemory({ initial: 4096 })
    for (const at of [0, MiB, 3 * MiB + PAGE, 200 * MiB]) bytesOf(large)[at] = 1
    const target = directory.file(undefined, 'sparse-signed.snapshot')
    await holding(large.snapshot()).save(target, { key })
    const loaded = await Snapshot.load(target, { key })
    expect(loaded.residentBytes).toBeLessThan(256 * 1024)
    loaded.close()
    fs.unlinkSync(target)
  })

  test('goes with a snapshot that is closed meanwhile', async () => {
    const kept = Snapshot.fromFd(fdOf(snapshot), { regions })
    const target = directory.file(undefined, 'closed-signed.snapshot')
    const saving = kept.save(target, { key })
    kept.close()
    await saving
    const loaded = await Snapshot.load(target, { regions, key })
    loaded.close()
  })

  test('is taken when the call is made', async () => {
    const own = Buffer.from(key)
    const target = directory.file(undefined, 'wiped.snapshot')
    const saving = snapshot.save(target, { key: own })
    own.fill(0)
    await saving
    const again = Buffer.from(key)
    const loading = Snapshot.load(target, { regions, key: again })
    again.fill(0)
    const loaded = await loading
    loaded.close()
  })

  test('that is none is refused, and not shown', async () => {
    const { publicKey } = generateKeyPairSync('ed25519')
    for (const [value, code] of [
      ['a secret of more than 16 bytes', 'ERR_INVALID_ARG_TYPE'],
      [null, 'ERR_INVALID_ARG_TYPE'],
      [7, 'ERR_INVALID_ARG_TYPE'],
      [{}, 'ERR_INVALID_ARG_TYPE'],
      [publicKey, 'ERR_INVALID_ARG_VALUE'],
      [Buffer.alloc(15), 'ERR_INVALID_ARG_VALUE'],
      [Buffer.alloc(0), 'ERR_INVALID_ARG_VALUE'],
      [createSecretKey(Buffer.alloc(15)), 'ERR_INVALID_ARG_VALUE']
    ]) {
      const target = path.join(directory.path, 'never.snapshot')
      for (const call of [
        () => snapshot.save(target, { key: value }),
        () => Snapshot.load(signed, { key: value })
      ]) {
        const error = await thrownBy(call)
        expectError(error, { code, says: 'options.key' })
        expect(error.message).not.toMatch(/a secret of more/)
      }
      expect(fs.existsSync(target)).toBe(false)
    }
  })

  test('does not keep a signal from ending the call', async () => {
    const controller = new AbortController()
    const running = thrownBy(() =>
      Snapshot.load(signed, { regions, key, signal: controller.signal })
    )
    controller.abort()
    expectError(await running, { code: 'ABORT_ERR' })
  })
})

describe('a save', () => {
  const listing = () => fs.readdirSync(directory.path).sort()

  test('that fails leaves what was there, and nothing beside it', async () => {
    const inner = path.join(directory.path, 'inner')
    fs.mkdirSync(path.join(inner, 'full'), { recursive: true })
    fs.writeFileSync(path.join(inner, 'full/file'), '')
    const before = listing()
    for (const [target, code] of [
      [path.join(directory.path, 'missing', 'x'), 'ERR_HOSTMAP_OPEN_FAILED'],
      [inner, 'ERR_HOSTMAP_NOT_A_FILE'],
      [path.join(file, 'x'), 'ERR_HOSTMAP_OPEN_FAILED'],
      ['/proc/x', 'ERR_HOSTMAP_OPEN_FAILED'],
      ['/', ['ERR_HOSTMAP_OPEN_FAILED', 'ERR_HOSTMAP_NOT_A_FILE']],
      [path.join(directory.path, 'x'.repeat(256)), 'ERR_HOSTMAP_OPEN_FAILED']
    ]) {
      const error = await thrownBy(() => snapshot.save(target))
      expectError(error, { code, says: target })
    }
    expect(listing()).toEqual(before)
    expect(fs.readdirSync(inner)).toEqual(['full'])
  })

  test('on a disk that is full leaves what was there', async () => {
    const seen = await inChild(
      async ({ hostmap, require, failure, args }) => {
        const fs = require('node:fs')
        // The process may write no more than so much to a file: see ulimit -f.
        process.on('SIGXFSZ', () => {})
        const guarded = new hostmap.GuardedMemory({ initial: 64 })
        new Uint8Array(guarded.buffer).fill(1)
        const { code, syscall } = await failure(() => guarded.snapshot().save(`${args}/old`))
        return {
          code,
          syscall,
          files: fs.readdirSync(args),
          old: fs.readFileSync(`${args}/old`, 'utf8')
        }
      },
      {
        ulimit: '-f 2048',
        args: (() => {
          const own = path.join(directory.path, 'limited')
          fs.mkdirSync(own)
          fs.writeFileSync(path.join(own, 'old'), 'old')
          return own
        })()
      }
    )
    expect(seen).toMatchObject({ files: ['old'], old: 'old' })
    expect(['ERR_HOSTMAP_WRITE_FAILED', 'ERR_HOSTMAP_OUT_OF_MEMORY']).toContain(seen.code)
  })

  test('and a load end when they are told to, before and meanwhile', async () => {
    const large = new GuardedMemory({ initial: 1024 })
    noise(large.byteLength).copy(bytesOf(large))
    const kept = holding(large.snapshot())
    const target = directory.file(Buffer.from('old'), 'aborted.snapshot')
    const saved = directory.file(undefined, 'large.snapshot')
    await kept.save(saved)
    const before = listing()
    const possessed = possessions()
    const reason = new Error('no more')
    for (const start of [
      signal => kept.save(target, { signal }),
      signal => Snapshot.load(saved, { signal })
    ]) {
      expectError(await thrownBy(() => start(AbortSignal.abort(reason))), { code: 'ABORT_ERR' })
      const controller = new AbortController()
      const running = thrownBy(() => start(controller.signal))
      controller.abort(reason)
      const error = await running
      expectError(error, { code: 'ABORT_ERR' })
      expect(error.cause).toBe(reason)
    }
    expect(fs.readFileSync(target, 'utf8')).toBe('old')
    expect(listing()).toEqual(before)
    expectNothingNew(possessed)
  })

  test('goes on when the snapshot is closed meanwhile, and can not begin after', async () => {
    const kept = holding(new GuardedMemory({ initial: 64 }).snapshot())
    const target = directory.file(undefined, 'closed.snapshot')
    const running = kept.save(target)
    kept.close()
    await running
    const loaded = holding(await Snapshot.load(target))
    expect(loaded.byteLength).toBe(64 * WASM_PAGE)
    await expectFailure(() => kept.save(target), { code: 'ERR_HOSTMAP_SNAPSHOT_CLOSED' })
  })
})

describe('state', () => {
  const WAT = `(module
    (memory (export "memory") 1)
    (table (export "table") 4 funcref)
    (elem (i32.const 0) $one $two)
    (global (export "i32") (mut i32) (i32.const 1))
    (global (export "i64") (mut i64) (i64.const 1))
    (global (export "f32") (mut f32) (f32.const 1))
    (global (export "f64") (mut f64) (f64.const 1))
    (global (export "ref") (mut funcref) (ref.null func))
    (global $hidden (mut i64) (i64.const 5))
    (func $one (export "one") (result i32) (i32.const 1))
    (func $two (export "two") (result i32) (i32.const 2))
    (func (export "call") (param i32) (result i32) (call_indirect (result i32) (local.get 0)))
    (func (export "hide") (param i64) (global.set $hidden (local.get 0)))
    (func (export "hidden") (result i64) (global.get $hidden)))`

  test('of an instance goes through a file into a new one: globals of all types, tables, what is hidden', async () => {
    const module = await assemble(WAT)
    const { instance } = await WebAssembly.instantiate(exposeState(module))
    const { exports } = instance
    new Uint8Array(exports.memory.buffer)[7] = 7
    const numbers = { i32: -(2 ** 31), i64: -(2n ** 63n), f32: -Infinity, f64: -0 }
    for (const [name, value] of Object.entries(numbers)) exports[name].value = value
    exports.hide(2n ** 62n + 1n)
    exports.table.set(0, exports.two)
    exports.table.set(3, exports.one)
    exports.ref.value = exports.two
    const target = directory.file(undefined, 'state.snapshot')
    await Snapshot.of(instance, { module }).save(target)
    const loaded = await Snapshot.load(target, { module })
    for (let round = 0; round < 2; round++) {
      const { exports: own } = await loaded.instantiate(module)
      expect(new Uint8Array(own.memory.buffer)[7]).toBe(7)
      for (const [name, value] of Object.entries(numbers)) expect(own[name].value).toBe(value)
      expect(own.hidden()).toBe(2n ** 62n + 1n)
      expect([own.call(0), own.call(1), own.call(3)]).toEqual([2, 2, 1])
      expect(own.table.get(2)).toBeNull()
      // Its own, not the first one's.
      expect(own.table.get(0)).toBe(own.two)
      expect(own.ref.value).toBe(own.two)
      own.i32.value = 5
    }
    exports.f64.value = NaN
    const nan = directory.file(undefined, 'nan.snapshot')
    await Snapshot.of(instance).save(nan)
    const { exports: own } = await (await Snapshot.load(nan)).instantiate(module)
    expect(own.f64.value).toBeNaN()
  })

  test('that no file can hold stays in the process', async () => {
    const memory = new GuardedMemory({ initial: 1 })
    for (const value of [{}, Symbol('s'), () => 1]) {
      const globals = { held: new WebAssembly.Global({ value: 'externref', mutable: true }, value) }
      const kept = holding(memory.snapshot({ globals }))
      globals.held.value = 1
      memory.restore(kept)
      expect(globals.held.value).toBe(value)
      await expectFailure(() => kept.save(directory.file()), {
        code: 'ERR_HOSTMAP_NOT_RESTORABLE',
        says: 'held'
      })
    }
  })
})

test('a worker has the same pages by the descriptor', async () => {
  const large = new GuardedMemory({ initial: 1024 })
  noise(large.byteLength).copy(bytesOf(large))
  const kept = holding(large.snapshot({ name: 'for workers' }))
  const worker = new TestWorker()
  const seen = await worker.run(
    async ({ hostmap, state, probe, processMap, failure }, { fd, gone }) => {
      const { GuardedMemory, Snapshot } = hostmap
      const kept = (state.kept = Snapshot.fromFd(fd))
      const memory = (state.memory = new GuardedMemory({ initial: 1 }))
      memory.restore(kept)
      const guest = await probe(memory.memory)
      const sum = guest.sum(0, memory.byteLength)
      guest.store64(0, 5n)
      memory.restore(kept)
      const again = guest.sum(0, memory.byteLength)
      const inodes = processMap()
        .filter(({ name }) => name.includes('memfd:for workers'))
        .map(({ inode }) => inode)
      return {
        sum,
        again,
        name: kept.name,
        inodes,
        refused: await failure(() => Snapshot.fromFd(gone))
      }
    },
    { fd: fdOf(kept), gone: 2 ** 19 }
  )
  const sum = (await probe(large.memory)).sum(0, large.byteLength)
  expect(seen).toMatchObject({ sum, again: sum, name: 'for workers' })
  expect(new Set(seen.inodes)).toEqual(new Set([fs.fstatSync(fdOf(kept)).ino]))
  expect(seen.refused.code).toBe('ERR_HOSTMAP_OPEN_FAILED')
  // Each has its own: the worker's works on.
  kept.close()
  await worker.run(({ state }) => state.memory.restore(state.kept))
  await worker.end()
})

test.each(['a/b', 'x (deleted)', '', 'ü'.repeat(100), ' /memfd:x'])('a name is kept: %j', name => {
  const kept = new GuardedMemory({ initial: 1 }).snapshot({ name })
  expect([kept.name, Snapshot.fromFd(fdOf(kept)).name]).toEqual([name, name])
})

// The long run: `npm run test:snapshot-files`.
test('files that were altered at random do no more than to fail with a code', async () => {
  const run = path.join(__dirname, 'snapshots/files.mjs')
  const { stdout } = await promisify(execFile)(process.execPath, [
    run,
    '--count',
    '300',
    '--seed',
    '1'
  ])
  expect(stdout).toMatch(/^300 mutations: no abort/m)
})
