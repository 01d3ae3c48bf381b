'use strict'

// Values that a caller should not pass, and the outcome of passing each to everything that is
// public.

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

/**
 * What a hostile value throws when it is touched. It is the caller's own, and may come out as it
 * is.
 */
const thrown = Object.assign(new Error('thrown by a hostile value'), { isOfCaller: true })
const fail = () => {
  throw thrown
}

const revoked = target => {
  const { proxy, revoke } = Proxy.revocable(target, {})
  revoke()
  return proxy
}
const trapping = target =>
  new Proxy(
    target,
    Object.fromEntries(
      Reflect.ownKeys(Reflect)
        .filter(key => typeof key === 'string')
        .map(trap => [trap, fail])
    )
  )
const detached = () => {
  const buffer = new ArrayBuffer(8)
  structuredClone(buffer, { transfer: [buffer] })
  return buffer
}
/** An array over a buffer that was detached since. */
const detachedArray = () => {
  const array = new Uint8Array(8)
  structuredClone(array.buffer, { transfer: [array.buffer] })
  return array
}

/** By name. */
const values = {
  undefined: () => undefined,
  null: () => null,
  true: () => true,
  NaN: () => NaN,
  'a fraction': () => 0.5,
  '-1': () => -1,
  '2^53': () => 2 ** 53,
  Infinity: () => Infinity,
  'a huge BigInt': () => 2n ** 200n,
  'a negative BigInt': () => -1n,
  'an empty string': () => '',
  'a lone surrogate': () => '\ud800',
  'a string with NUL': () => 'a\0b',
  'a long string': () => 'x'.repeat(1e6),
  'a symbol': () => Symbol('hostile'),
  'an empty object': () => ({}),
  'an object without prototype': () => Object.create(null),
  'an array': () => [],
  'a function': () => () => {},
  'a throwing function': () => fail,
  'a class': () => class {},
  'a promise': () => Promise.resolve(),
  'a revoked Proxy': () => revoked({}),
  'a revoked Proxy of a function': () => revoked(() => {}),
  'a revoked Proxy of an array': () => revoked([]),
  'a Proxy of a revoked Proxy': () => new Proxy(revoked({}), {}),
  'a Proxy that throws': () => trapping({}),
  'a Proxy of a function that throws': () => trapping(() => {}),
  'an object that throws when converted': () => ({
    toString: fail,
    valueOf: fail,
    [Symbol.toPrimitive]: fail
  }),
  'an object whose toStringTag throws': () =>
    Object.defineProperty({}, Symbol.toStringTag, { get: fail }),
  'an object that throws when inspected': () => ({
    [Symbol.for('nodejs.util.inspect.custom')]: fail
  }),
  'a thenable that throws': () => Object.defineProperty({}, 'then', { get: fail }),
  'a URL-like whose href throws': () => Object.defineProperty({}, 'href', { get: fail }),
  'a URL-like whose href is no URL': () => ({ href: '::', protocol: 'file:' }),
  'a detached buffer': detached,
  'an array over a detached buffer': detachedArray,
  'a resizable buffer': () => new ArrayBuffer(8, { maxByteLength: 16 }),
  'a shared buffer': () => new SharedArrayBuffer(8),
  'a DataView': () => new DataView(new ArrayBuffer(8)),
  'bytes that are no module': () => Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 255),
  'a prototype of V8': () => WebAssembly.Memory.prototype,
  'a table': () => new WebAssembly.Table({ element: 'anyfunc', initial: 1 }),
  'a signal-like that throws': () => ({
    aborted: false,
    addEventListener: fail,
    removeEventListener: fail
  }),
  'a date': () => new Date(NaN),
  'a Map': () => new Map()
}

// (module (memory (export "memory") 1) (func (export "f")))
const MODULE = Uint8Array.from([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 5, 3, 1, 0, 1, 7, 14, 2, 6, 109, 101,
  109, 111, 114, 121, 2, 0, 1, 102, 0, 0, 10, 4, 1, 2, 0, 11
])

// What V8 says where a caller's own class is called as a function, one of this package without
// `new`, or a getter of V8's prototypes is read.
const OF_V8 = /cannot be invoked without 'new'|Receiver is not a WebAssembly/

/** An error that a caller may get: one with a code, or the caller's own. */
const isProper = error =>
  error === thrown ||
  (/^(ERR_[A-Z0-9_]+|ABORT_ERR)$/.test(error?.code) && error.code !== 'ERR_HOSTMAP_INTERNAL') ||
  (error?.name === 'TypeError' && OF_V8.test(error.message))

/**
 * Calls all that is public with each value in each place; gives what came out that should not, in
 * words.
 */
async function attack(hostmap) {
  const { HostRegion, GuardedMemory, Snapshot, InstancePool, exposeState, instrumentGrowth } =
    hostmap
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'wasm-hostmap-hostile-'))
  const file = path.join(directory, 'file')
  // Some of the values are names of files that can be written.
  const before = process.cwd()
  process.chdir(directory)
  fs.writeFileSync(file, 'some bytes')
  const bad = new Set()
  let calls = 0

  /** One call, whose result, if it gives one, is closed. */
  async function attempt(what, call) {
    calls++
    try {
      const result = await call()
      try {
        if (result !== null && typeof result === 'object') result.close?.()
      } catch {
        // Not ours to close.
      }
    } catch (error) {
      if (!isProper(error)) {
        bad.add(
          `${what}: ${String(error?.stack ?? error)
            .split('\n')
            .slice(0, 3)
            .join(' | ')} (code ${error?.code})`
        )
      }
    }
  }

  const region = HostRegion.allocate(65536, { name: 'hostile' })
  const guarded = new GuardedMemory({ initial: 64, maximum: 4000 })
  const window = guarded.window({ byteLength: 65536, at: 65536 })
  const mapping = guarded.map(region, { at: 0 })
  const source = window.source(region)
  const snapshot = guarded.snapshot({ name: 'hostile' })
  const compiled = new WebAssembly.Module(MODULE)
  const instance = new WebAssembly.Instance(compiled)
  const pool = await InstancePool.create(MODULE, { max: 2 })
  const pooled = await pool.acquire()
  const layout = guarded.layout()
  const instrumented = instrumentGrowth(MODULE)
  const objects = {
    instrumented,
    region,
    guarded,
    window,
    mapping,
    source,
    snapshot,
    pool,
    pooled,
    layout
  }

  // Functions with what they want in each place, and the options that they know.
  const snapshotOptions = ['exclusive', 'globals', 'name', 'keepResidentBytes', 'hugePages']
  const sourceOptions = [
    'chunk',
    'overlap',
    'byteOffset',
    'byteLength',
    'access',
    'readAhead',
    'leaveBehind'
  ]
  const fileOptions = ['byteOffset', 'byteLength']
  const functions = {
    'HostRegion.allocate': [HostRegion.allocate, [1], ['name', 'hugePages']],
    'HostRegion.copyFrom': [HostRegion.copyFrom, [Buffer.from('abc')], ['name', 'hugePages']],
    'HostRegion.from': [
      HostRegion.from,
      [[Buffer.from('abc')]],
      ['byteLength', 'name', 'hugePages', 'signal', 'onProgress']
    ],
    'HostRegion.from an iterable': [value => HostRegion.from([value]), [Buffer.from('abc')], []],
    'HostRegion.load': [
      HostRegion.load,
      [file],
      [...fileOptions, 'name', 'hugePages', 'signal', 'onProgress']
    ],
    'HostRegion.open': [HostRegion.open, [file], [...fileOptions, 'writable']],
    'HostRegion.fromFd': [HostRegion.fromFd, [0], fileOptions],
    'HostRegion.receive': [HostRegion.receive, [{}], []],
    'new GuardedMemory': [
      descriptor => new GuardedMemory(descriptor),
      [],
      ['initial', 'maximum', 'shared', 'address']
    ],
    'GuardedMemory.from': [GuardedMemory.from, [guarded.memory], ['address']],
    'GuardedMemory.from(function)': [
      value => GuardedMemory.from(() => value),
      [guarded.buffer],
      []
    ],
    'guarded.grow': [guarded.grow.bind(guarded), [0], []],
    'guarded.map': [
      (...args) => {
        const made = guarded.map(...args)
        if (made !== mapping) made.unmap()
      },
      [region],
      ['at', 'byteOffset', 'byteLength', 'access', 'populate', 'hugePages', 'allocator', 'strict']
    ],
    'an allocator that gives': [
      value => guarded.map(region, { allocator: { malloc: () => value, free() {} } }).unmap(),
      [131072],
      []
    ],
    'guarded.window': [
      (...args) => guarded.window(...args).unmap(),
      [],
      ['byteLength', 'at', 'access', 'rest', 'allocator', 'strict'],
      { byteLength: 4096 }
    ],
    'guarded.snapshot': [guarded.snapshot.bind(guarded), [], snapshotOptions],
    'guarded.restore': [guarded.restore.bind(guarded), [snapshot], ['exclusive', 'globals']],
    'guarded.reset': [guarded.reset.bind(guarded), [], ['exclusive', 'keepResidentBytes']],
    'mapping.prefetch': [mapping.prefetch.bind(mapping), [], [...fileOptions, 'signal']],
    'window.slide': [window.slide.bind(window), [region, 0], ['byteLength', 'access']],
    'window.source': [window.source.bind(window), [region], sourceOptions],
    'window.chunks': [
      (...args) => [...window.chunks(...args)].length,
      [region],
      [...sourceOptions, 'signal', 'onProgress']
    ],
    'source.next': [source.next.bind(source), [0], []],
    'source.imports.next': [source.imports.next, [0], []],
    'source.imports.pointer': [source.imports.pointer, [], []],
    'source.seek': [source.seek.bind(source), [0], []],
    'region.view': [region.view.bind(region), [0, 1], []],
    'region.bytes': [region.bytes.bind(region), [], [...fileOptions, 'access']],
    'region.write': [region.write?.bind(region), [Buffer.from('abc'), 0], []],
    'region.createWriteStream': [
      options => region.createWriteStream(options).destroy(),
      [],
      fileOptions
    ],
    'region.writableStream': [region.writableStream?.bind(region), [], fileOptions],
    'region.createReadStream': [
      options => region.createReadStream(options).destroy(),
      [],
      [...fileOptions, 'chunk']
    ],
    'region.readableStream': [region.readableStream?.bind(region), [], [...fileOptions, 'chunk']],
    'region.blob': [region.blob?.bind(region), [], [...fileOptions, 'type']],
    'region.close': [options => HostRegion.allocate(1).close(options), [], ['views']],
    'region.split': [region.split.bind(region), [2], [...fileOptions, 'align']],
    'region.share': [region.share?.bind(region), [], ['access']],
    'Snapshot.of': [Snapshot.of, [instance], [...snapshotOptions, 'module', 'accept']],
    'Snapshot.load': [
      Snapshot.load,
      [file],
      ['regions', 'signal', 'keepResidentBytes', 'hugePages', 'key']
    ],
    'Snapshot.fromFd': [Snapshot.fromFd, [0], ['regions', 'keepResidentBytes']],
    'snapshot.save': [
      snapshot.save.bind(snapshot),
      [path.join(directory, 'saved')],
      ['signal', 'key']
    ],
    'snapshot.restoreTo': [snapshot.restoreTo.bind(snapshot), [instance], ['exclusive', 'accept']],
    'snapshot.instantiate': [snapshot.instantiate.bind(snapshot), [MODULE, {}], ['accept']],
    exposeState: [exposeState, [MODULE], []],
    instrumentGrowth: [instrumentGrowth, [MODULE], ['onGrow', 'limit']],
    'instrumented.imports': [(...args) => instrumented.imports?.(...args), [{}], []],
    'InstancePool.create': [
      InstancePool.create,
      [MODULE],
      [
        'imports',
        'bind',
        'init',
        'snapshot',
        'size',
        'max',
        'keepResidentBytes',
        'accept',
        'reset',
        'growth'
      ]
    ],
    'pool.acquire': [async options => (await pool.acquire(options)).release(), [], ['signal']],
    'pool.run': [pool.run.bind(pool), [() => 1], ['signal']],
    limits: [hostmap.limits, [], []]
  }

  // Warnings of odd values are not what this is about.
  for (const [name, [call, proper, options, required]] of Object.entries(functions)) {
    if (call === undefined) continue
    for (const [kind, make] of Object.entries(values)) {
      for (let place = 0; place <= proper.length; place++) {
        // A path that a long string or an empty object makes is none; `undefined` is what is left
        // out.
        const args = [...proper.slice(0, place), make(), ...proper.slice(place + 1)]
        await attempt(`${name}, argument ${place + 1}: ${kind}`, () => call(...args))
      }
      for (const option of options) {
        const bag = { ...required, [option]: make() }
        await attempt(`${name}, options.${option}: ${kind}`, () => call(...proper, bag))
      }
    }
    for (const option of options) {
      const bag = Object.defineProperty({ ...required }, option, { get: fail, enumerable: true })
      await attempt(`${name}, options.${option}: a getter that throws`, () => call(...proper, bag))
    }
  }

  // Everything on receivers that are not of its class.
  for (const [name, object] of Object.entries(objects)) {
    const { prototype } = object.constructor
    const wrong = [
      undefined,
      null,
      1,
      Symbol('hostile'),
      {},
      prototype,
      Object.create(object),
      new Proxy(object, {})
    ]
    const receivers = [...wrong, revoked({}), trapping({}), object === region ? guarded : region]
    for (const key of Reflect.ownKeys(prototype)) {
      if (key === 'constructor' || key === Symbol.for('nodejs.util.inspect.custom')) continue
      const { get, value } = Object.getOwnPropertyDescriptor(prototype, key)
      for (const receiver of receivers) {
        calls++
        const what = `${name}.${String(key)} of another receiver`
        try {
          await (get ?? value).call(receiver, region, {})
          bad.add(`${what}: no error`)
        } catch (error) {
          if (error?.code !== 'ERR_INVALID_THIS')
            bad.add(`${what}: ${error?.code} ${error?.message}`)
        }
      }
    }
    for (const args of [[], [Symbol('hostile')], [{}]]) {
      const { constructor } = object
      await attempt(`new ${constructor.name}`, () => new constructor(...args))
      await attempt(`${constructor.name}()`, () => constructor(...args))
    }
  }

  for (const close of [pooled, pool, snapshot, region]) (close.release ?? close.close).call(close)
  process.chdir(before)
  fs.rmSync(directory, { recursive: true })
  return { bad: [...bad].sort(), calls }
}

module.exports = { attack }
